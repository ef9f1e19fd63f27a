"""Pieces of a long job side by side, each in a process of one thread, or here one after another."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any, NamedTuple


class Piece(NamedTuple):
    """A call in a worker, and what is done here with what it gives."""

    work: Callable[..., Any]
    """Gets what the worker opened, then `given`. A function of a module, so that it can be sent to a process."""
    given: tuple[Any, ...]
    keep: Callable[[Any], list[Piece] | None]
    """May give further pieces, which come next."""


_OPENED: list[Any] = []
"""What a worker process opened, once."""


def side_by_side(pieces: list[Piece], jobs: int, opens: Callable[..., Any], *given: Any) -> None:
    """Run all pieces and all that follow from them; the others go on where one fails, and its error comes at the end.

    `opens(*given)` makes what every piece works with, once a worker. Results are kept as they come: a kill loses what
    is being worked on, at most one piece a job.
    """
    pending, failed = deque(pieces), []

    def kept(piece: Piece, result: Callable[[], Any]) -> None:
        try:
            found = result()
        except Exception as error:  # noqa: BLE001 (raised again below)
            failed.append(error)
        else:
            pending.extendleft(reversed(piece.keep(found) or []))

    if jobs == 1:
        opened = opens(*given) if pending else None
        while pending:
            piece = pending.popleft()
            kept(piece, lambda piece=piece: piece.work(opened, *piece.given))
    elif pending:
        _in_processes(pending, jobs, kept, opens, given)
    if failed:
        raise failed[0]


def _in_processes(
    pending: deque[Piece], jobs: int, kept: Callable[..., None], opens: Callable[..., Any], given: tuple[Any, ...]
) -> None:
    import multiprocessing

    spawned = multiprocessing.get_context("spawn")
    running: dict[Future[Any], Piece] = {}
    with ProcessPoolExecutor(jobs, spawned, initializer=_open, initargs=(opens, given)) as pool:
        while pending or running:
            while pending and len(running) < jobs:
                piece = pending.popleft()
                running[pool.submit(_call, piece.work, piece.given)] = piece
            for one in wait(running, return_when=FIRST_COMPLETED).done:
                kept(running.pop(one), one.result)


def _open(opens: Callable[..., Any], given: tuple[Any, ...]) -> None:
    import torch

    torch.set_num_threads(1)
    _OPENED.append(opens(*given))


def _call(work: Callable[..., Any], given: tuple[Any, ...]) -> Any:
    return work(_OPENED[0], *given)
