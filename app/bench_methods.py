"""`bench methods`: every text method on people of the text world, over seeds, resumable cell by cell."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from app.bench import Cells
from app.choosing import method_of
from app.dictionaries import Progress
from app.methods_table import compared, summary
from app.opening import PLUS, find_method, open_model
from app.run_folder import RunFolder
from app.text_cell import measure
from app.text_choosing import Trial, choose
from app.text_ground import Amounts, Ground
from app.text_rankings import USERS, TextRankings
from app.world_concepts import text_concept
from concept_forget.concepts import Concept, ForgetRequest
from concept_forget.methods import METHODS
from concept_forget.model import HookedModel
from concept_forget.provenance import hash_json, versions, write_atomic
from concept_forget.worlds import text as world

SCHEMA = "concept-forget/bench-methods/1"
NEVER_KNEW = "never-knew"
"""The row of the model that was trained without the people."""
NOT_FOR_TEXT = frozenset({"random_features", "residual_clamp", "patch_clamp", "replace", "ablation", "steer"})
"""The control of a clamp, doors of the picture models, and what is there for its exact form in the weights."""


def text_methods() -> tuple[str, ...]:
    """Everything that is compared: the frame (do nothing, ask, never knew), then every method of the front door."""
    rest = [name for name in METHODS if name not in NOT_FOR_TEXT and name not in ("none", "prompt")]
    return ("none", "prompt", NEVER_KNEW, *rest, PLUS)


@dataclass(frozen=True)
class MethodsRequest:
    """Which model and its twin, which methods, how many seeds. Equal requests share their cells."""

    model: str = "tiny-llama"
    twin: str = "tiny-llama-never-knew"
    methods: tuple[str, ...] = field(default_factory=text_methods)
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each has its own person, its own questions and its own chance in fitting."""
    choosing: int = 18
    """Seed of the person on whose validation questions settings are chosen: nobody is chosen on and tested."""
    amounts: Amounts = field(default_factory=Amounts)
    trial: Trial = field(default_factory=Trial)

    def __post_init__(self) -> None:
        if self.person(self.choosing) in map(self.person, self.seeds):
            raise ValueError(
                f"Settings are chosen on {self.person(self.choosing)}, who would also be tested. Give at most "
                f"{self.choosing} seeds."
            )

    def person(self, seed: int) -> str:
        """Whom a seed forgets: one of those that the twin never met."""
        return world.targets()[7 * seed % len(world.targets())]

    def key(self) -> str:
        """What a cell depends on, method and seed apart."""
        return hash_json({k: v for k, v in asdict(self).items() if k not in ("methods", "seeds")})[:16]


def bench(
    request: MethodsRequest,
    out: Path,
    *,
    resume: bool = False,
    device: str = "",
    jobs: int = 1,
    tasks: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Every method on every seed's person; cells.jsonl as it goes, methods.json at the end, and gives its content.

    Settings are chosen once per method, on validation questions about a person who is not tested. With
    `jobs` methods run side by side, each in a process of one thread. `tasks` adds random labels task by task
    (tasks.json, kept for --resume). Raises NoSuchMethod before anything is opened.
    """
    for name in request.methods:
        if name != NEVER_KNEW:
            find_method(name)
    cells = Cells(out / "cells.jsonl", request.key(), resume)
    started = time.perf_counter()
    done = {name: [cells.done[k] for k in _keys(request, name) if k in cells.done] for name in request.methods}
    todo = [name for name in request.methods if len(done[name]) < len(request.seeds)]
    total = len(request.methods) * len(request.seeds)

    def keep(found: Sequence[Mapping[str, Any]]) -> None:
        for cell in found:
            cells.add(cell)
        if progress:
            count = sum(k in cells.done for name in request.methods for k in _keys(request, name))
            progress(f"{len(request.methods)} methods x {len(request.seeds)} seeds", count, total)

    if todo and jobs > 1:
        _side_by_side(request, device, todo, done, jobs, keep)
    elif todo:
        shared = Shared(request, device, progress)
        for name in todo:
            for cell in shared.cells(name, done[name]):
                keep([cell])
    matrix = _tasks(request, out, resume, device, progress) if tasks else None
    chosen = [cells.done[key] for name in request.methods for key in _keys(request, name)]
    result = {
        "schema": SCHEMA,
        **asdict(request),
        "people": [request.person(seed) for seed in request.seeds],
        "chosen_on": request.person(request.choosing),
        "rows": summary(chosen, request.methods),
        "compared": compared(chosen),
        "tasks": matrix,
        "cell_seconds": round(sum(cell["seconds"] for cell in chosen), 1),
        "seconds": round(time.perf_counter() - started, 1),
        "versions": versions(),
    }
    write_atomic(out / "methods.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return result


class Shared:
    """What all cells share: the two models, every seed's questions with what the bare models say to them."""

    def __init__(self, request: MethodsRequest, device: str = "", progress: Progress | None = None) -> None:
        self.request, self.device, self.progress = request, device, progress
        self.model = open_model(request.model, device)
        self._grounds: dict[int, Ground] = {}
        self.rankings = TextRankings(self.model, progress=progress)

    @cached_property
    def example(self) -> Concept:
        """The person on whom settings are chosen."""
        return text_concept(self.request.person(self.request.choosing), self.request.choosing)

    @cached_property
    def twin(self) -> HookedModel | None:
        """The model that never knew; None where no name is given."""
        return open_model(self.request.twin, self.device) if self.request.twin else None

    def ground(self, seed: int) -> Ground:
        """What is asked with a seed."""
        if seed not in self._grounds:
            person = self.request.person(seed)
            self._grounds[seed] = Ground.of(person, seed, self.model, self.twin, self.request.amounts)
        return self._grounds[seed]

    def cells(self, name: str, done: Sequence[Mapping[str, Any]] = ()) -> Iterator[dict[str, Any]]:
        """The cells of a method that are not done yet, seed by seed."""
        first = next(iter(done), None)
        there = {cell["seed"] for cell in done}
        found: list[dict[str, Any]] = [] if first is None else first["tried"]
        settings: dict[str, Any] | None = None if first is None else dict(first["settings"])
        for seed in self.request.seeds:
            if seed in there:
                continue
            ground = self.ground(seed)
            started = time.perf_counter()
            if settings is None:
                settings, found = self.chosen(name)
            fitted = self.fitted(name, ground, settings)
            fit_seconds = time.perf_counter() - started
            unlearned = self.twin if name == NEVER_KNEW else None
            edits = [] if fitted is None else [fitted]
            metrics = measure(self.model, ground, edits, self.request.amounts, unlearned=unlearned)
            yield {
                "concept": f"{ground.name} ({seed})",
                "seed": seed,
                "method": name,
                "metrics": metrics,
                "settings": settings,
                "tried": found,
                "fit_seconds": round(fit_seconds, 2),
                "seconds": round(time.perf_counter() - started, 2),
            }

    def chosen(self, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The settings that do best on validation, on a person who is not tested, and all that was tried."""
        if name == NEVER_KNEW:
            return {"method": name}, []
        ranked = self.rankings.of(self.example, name)
        found = choose(self.model, self.example, name, ranked, self.request.trial, self.request.choosing)
        return {**found.method.settings(), "ranking": found.ranking}, found.tried

    def fitted(self, name: str, ground: Ground, settings: Mapping[str, Any]) -> Any:
        """The edit for a person with these settings; None for the model that never knew."""
        if name == NEVER_KNEW:
            if self.twin is None:
                raise ValueError("The row of the model that never knew needs one: give --twin NAME, or leave it out.")
            return None
        plain = {key: value for key, value in settings.items() if key != "ranking"}
        ranked = self.rankings.of(ground.concept, name)
        where: Any = ranked.get(settings["ranking"])  # a Localisation for the methods that read one
        return method_of(plain).fit(self.model, ForgetRequest(ground.concept, ground.seed), where)


def _tasks(request: MethodsRequest, out: Path, resume: bool, device: str, progress: Progress | None) -> dict[str, Any]:
    """The task matrix, or what it was when it was finished before."""
    from app.task_matrix import TaskAmounts, task_matrix

    folder = RunFolder(out / "tasks", {"model": request.model, **asdict(TaskAmounts())}, resume)
    if progress:
        progress("random labels, task by task", 0, 1)
    return folder.step("tasks", lambda: task_matrix(open_model(request.model, device)))


def _keys(request: MethodsRequest, name: str) -> list[tuple[str, str]]:
    return [(f"{request.person(seed)} ({seed})", name) for seed in request.seeds]


_WORKER: list[Shared] = []
"""The models of a worker process, opened once."""


def _side_by_side(
    request: MethodsRequest,
    device: str,
    todo: Sequence[str],
    done: Mapping[str, Sequence[Mapping[str, Any]]],
    jobs: int,
    keep: Any,
) -> None:
    import multiprocessing

    if USERS & set(todo):
        # one process makes the dictionary, the others find it in the cache
        TextRankings(open_model(request.model, device)).dictionary  # noqa: B018
    spawned = multiprocessing.get_context("spawn")
    failed: list[BaseException] = []
    with ProcessPoolExecutor(jobs, spawned, initializer=_open, initargs=(request, device)) as pool:
        running = [pool.submit(_work, name, list(done[name])) for name in todo]
        try:
            for finished in as_completed(running):
                error = finished.exception()
                if error is None:
                    keep(finished.result())
                else:
                    failed.append(error)
        except BaseException:
            for one in running:
                one.cancel()
            raise
    if failed:
        raise failed[0]


def _open(request: MethodsRequest, device: str) -> None:
    import torch

    torch.set_num_threads(1)
    _WORKER.append(Shared(request, device))


def _work(name: str, done: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return list(_WORKER[0].cells(name, done))
