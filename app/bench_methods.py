"""`bench methods`: every text method on people of the text world, over seeds, resumable cell by cell."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
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
from app.side_by_side import Piece, side_by_side
from app.task_matrix import TASKS, TaskAmounts, TaskMatrix
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
    `jobs` choices, cells and tasks are worked on side by side, each in a process of one thread. `tasks` adds random
    labels task by task. Choices and tasks are kept for --resume. Raises NoSuchMethod before anything is opened.
    """
    for name in request.methods:
        if name != NEVER_KNEW:
            find_method(name)
    cells = Cells(out / "cells.jsonl", request.key(), resume)
    choices = RunFolder(out / "choices", request.key(), resume)
    started = time.perf_counter()
    total = len(request.methods) * len(request.seeds)

    def keep(cell: Mapping[str, Any]) -> None:
        cells.add(cell)
        if progress:
            count = sum(key in cells.done for name in request.methods for key in _keys(request, name))
            progress(f"{len(request.methods)} methods x {len(request.seeds)} seeds", count, total)

    def measured(name: str, choice: Any) -> list[Piece]:
        kept = choices.step(name, lambda: choice)
        left = [s for s in request.seeds if _key(request, name, s) not in cells.done]
        return [Piece(Shared.cell, (name, seed, *kept), keep) for seed in left]

    def pieces(name: str) -> list[Piece]:
        if all(key in cells.done for key in _keys(request, name)):
            return []
        if (known := choices.done(name)) is not None:
            return measured(name, known)
        return [Piece(Shared.chosen, (name,), lambda choice: measured(name, choice))]

    todo = [piece for name in request.methods for piece in pieces(name)]
    random_labels = TaskRows(out / "tasks", request.model, resume) if tasks else None
    if jobs > 1 and any(name in USERS for name, *_ in (piece.given for piece in todo)):
        # made now, it is found in the cache by all
        TextRankings(open_model(request.model, device), progress=progress).dictionary  # noqa: B018
    todo += random_labels.pieces() if random_labels else []
    side_by_side(todo, jobs, Shared, request, device, progress if jobs == 1 else None)
    chosen = [cells.done[key] for name in request.methods for key in _keys(request, name)]
    result = {
        "schema": SCHEMA,
        **asdict(request),
        "people": [request.person(seed) for seed in request.seeds],
        "chosen_on": request.person(request.choosing),
        "rows": summary(chosen, request.methods),
        "compared": compared(chosen),
        "tasks": random_labels.matrix() if random_labels else None,
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

    @cached_property
    def tasks(self) -> TaskMatrix:
        """The questions for random labels task by task."""
        return TaskMatrix(self.model)

    def cell(self, name: str, seed: int, settings: dict[str, Any], tried: list[dict[str, Any]]) -> dict[str, Any]:
        """A method with these settings, chosen among `tried`, on the person of a seed."""
        ground, started = self.ground(seed), time.perf_counter()
        fitted = self.fitted(name, ground, settings)
        fit_seconds = time.perf_counter() - started
        unlearned = self.twin if name == NEVER_KNEW else None
        edits = [] if fitted is None else [fitted]
        return {
            "concept": f"{ground.name} ({seed})",
            "seed": seed,
            "method": name,
            "metrics": measure(self.model, ground, edits, self.request.amounts, unlearned=unlearned),
            "settings": settings,
            "tried": tried,
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


class TaskRows:
    """Random labels task by task: rows as they are finished, and the matrix of all."""

    def __init__(self, out: Path, model: str, resume: bool) -> None:
        self.folder = RunFolder(out, {"model": model, **asdict(TaskAmounts())}, resume)

    def pieces(self) -> list[Piece]:
        """What is not there yet: the accuracies before, and a row for every task."""
        todo = [] if self.folder.done("before") else [Piece(_before, (), self._keeps("before"))]
        return todo + [Piece(_row, (name,), self._keeps(name)) for name in TASKS if not self.folder.done(name)]

    def matrix(self) -> dict[str, Any]:
        """All rows, once they are there."""
        before = self.folder.done("before")
        return {"tasks": list(TASKS), "before": before, "rows": {name: self.folder.done(name) for name in TASKS}}

    def _keeps(self, name: str) -> Callable[[Any], None]:
        def keep(found: Any) -> None:
            self.folder.step(name, lambda: found)

        return keep


def _before(shared: Shared) -> dict[str, Any]:
    return shared.tasks.before_json()


def _row(shared: Shared, name: str) -> dict[str, Any]:
    return shared.tasks.row(name)


def _key(request: MethodsRequest, name: str, seed: int) -> tuple[str, str]:
    return f"{request.person(seed)} ({seed})", name


def _keys(request: MethodsRequest, name: str) -> list[tuple[str, str]]:
    return [_key(request, name, seed) for seed in request.seeds]
