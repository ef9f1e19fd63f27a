"""Work on the model in a thread of its own, that reports as it goes and stops when told to."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import wraps
from inspect import isgeneratorfunction
from typing import Any, Literal

import gradio as gr

from app.commands.shared import expected
from app.ui.sessions import Session

log = logging.getLogger("concept_forget.app")
MODEL = "model"
"""The one concurrency id of all that touches a model."""
WAIT = 0.05
"""Seconds between two looks at whether work that waits shall stop."""
_WAITING: queue.SimpleQueue[tuple[Future, Callable[[], None]]] = queue.SimpleQueue()
_STARTING = threading.Lock()
_WORKER: threading.Thread | None = None


class Stopped(Exception):  # noqa: N818 (not an error: the way out of work that was told to stop)
    """Somebody pressed Stop."""


@dataclass(frozen=True)
class Step:
    """How far the work is."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True)
class Done:
    """The work's value; `stopped` where it was told to stop first."""

    value: Any = None
    stopped: bool = False


@dataclass(eq=False)
class Reporter:
    """What the work tells the page, and where it learns that it shall stop."""

    stop: threading.Event
    events: queue.Queue = field(default_factory=queue.Queue)

    def progress(self, stage: str, done: int, total: int) -> None:
        """Tell how far it is. Raises Stopped when it shall stop."""
        self.check()
        self.events.put(Step(stage, done, total))

    def say(self, value: Any) -> None:
        """Show something before the end. Raises Stopped when it shall stop."""
        self.check()
        self.events.put(value)

    def check(self, *_: Any) -> None:
        """Raises Stopped when the work shall stop. Also the hook in front of every forward pass."""
        if self.stop.is_set():
            raise Stopped

    @property
    def stopped(self) -> bool:
        return self.stop.is_set()


def run(session: Session, work: Callable[[Reporter], Any], slot: Literal["job", "ahead"] = "job") -> Iterator[Any]:
    """Steps and values as the work reports them, then Done. Leaving the loop early stops the work and waits for it.

    Only one piece of work runs at a time in this process, whoever asked for it. `slot` "ahead": nobody asked for it
    yet, so Stop leaves it alone.
    """
    reporter, task = Reporter(threading.Event()), Future()
    setattr(session, slot, reporter.stop)

    def body() -> None:
        try:
            reporter.check()
            reporter.events.put(Done(work(reporter)))
        except Stopped:
            reporter.events.put(Done(stopped=True))
        except BaseException as error:  # noqa: BLE001 (raised again on the side of the page)
            # Instruments that look for themselves whether they shall stop raise a Cancelled of their own.
            told = reporter.stopped and type(error).__name__ == "Cancelled"
            reporter.events.put(Done(stopped=True) if told else error)

    _hand_over(task, body)
    try:
        yield from _events(reporter, task)
    finally:
        reporter.stop.set()
        if not task.cancel():
            task.result()
        if getattr(session, slot) is reporter.stop:
            setattr(session, slot, None)


def _events(reporter: Reporter, task: Future) -> Iterator[Any]:
    """What the work reports, up to Done; that it waits while others have the model."""
    waits = False
    while True:
        try:
            event = reporter.events.get(timeout=WAIT)
        except queue.Empty:
            if reporter.stopped and task.cancel():
                yield Done(stopped=True)
                return
            if not waits and not task.running() and not task.done():
                waits = True
                yield Step("waiting for the model", 0, 1)
            continue
        if isinstance(event, BaseException):
            raise event
        yield event
        if isinstance(event, Done):
            return


def _hand_over(task: Future, body: Callable[[], None]) -> None:
    """Give work to the one thread that touches models: one thread, because each keeps buffers of its own."""
    global _WORKER
    with _STARTING:
        if _WORKER is None:
            _WORKER = threading.Thread(target=_work, daemon=True, name="model work")
            _WORKER.start()
    _WAITING.put((task, body))


def _work() -> None:
    while True:
        task, body = _WAITING.get()
        if task.set_running_or_notify_cancel():
            body()
            task.set_result(None)
        del task, body  # what the work held is not kept until the next comes


def guarded(handler: Callable[..., Any]) -> Callable[..., Any]:
    """A handler whose expected errors become friendly messages, and whose others stay in the log under a number."""
    if isgeneratorfunction(handler):

        @wraps(handler)
        def steps(*args: Any) -> Iterator[Any]:
            try:
                yield from handler(*args)
            except gr.Error:
                raise
            except Exception as error:  # noqa: BLE001 (the last place: everything becomes a message)
                raise _friendly(error) from None

        return steps

    @wraps(handler)
    def once(*args: Any) -> Any:
        try:
            return handler(*args)
        except gr.Error:
            raise
        except Exception as error:  # noqa: BLE001
            raise _friendly(error) from None

    return once


def _friendly(error: Exception) -> gr.Error:
    if expected(error):
        return gr.Error(str(error), title="That did not work", duration=None, print_exception=False)
    number = f"{id(error) & 0xFFFFFF:06x}"
    log.error("unexpected error %s", number, exc_info=error)
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        message = "The model ran out of memory. Ask fewer questions at once, or load the model in a smaller type."
    else:
        message = f"Something went wrong that should not. The log of the server says more under {number}."
    return gr.Error(message, title="Sorry", duration=None, print_exception=False)
