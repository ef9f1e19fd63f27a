"""`bench sauce60`: every concept of the world by every method, on shared pictures, resumable cell by cell."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from app.choosing import Choosing, Judged, choose_method, control_methods, rankings_of
from app.dictionaries import Progress, dictionary_for, rankings, stage
from app.opening import PLUS, find_method, find_site, open_model
from app.world_concepts import FAMILIES, Pool, Sizes, find
from concept_forget.concepts import Concept, Example, ForgetRequest
from concept_forget.directions import FeatureSet
from concept_forget.evaluation import AnswerBook, evaluate, over_concepts
from concept_forget.methods import METHODS
from concept_forget.model import HookedModel
from concept_forget.provenance import hash_json, versions, write_atomic
from saes import moments
from saes.attribution import Moments
from saes.harvest import harvest

METRICS = ("UAd", "UAg", "IRA", "CRA", "COA", "HM", "HM relative")
BASELINE = "sauce"
SCHEMA = "concept-forget/bench/1"
Summary = dict[str, dict[str, dict[str, Any]]]
"""Per method and family: Measured values in JSON by metric."""


@dataclass(frozen=True)
class BenchRequest:
    """Which model, which concepts, which methods. Equal requests share their cells."""

    model: str = "tiny-llava"
    concepts: tuple[str, ...] = tuple(FAMILIES)
    methods: tuple[str, ...] = (*METHODS, PLUS)
    site: str = ""
    dictionary: str = ""
    seed: int = 0
    pool: Sizes = field(default_factory=lambda: Sizes(1440, 720, 1080))
    """Pictures of each split, shared by all concepts."""
    train_questions: int = 64
    """Pictures per part that a method is fitted on."""
    questions: int = 90
    """Test questions per metric."""

    def key(self, choosing: Choosing) -> str:
        """What a cell depends on, concept and method apart."""
        plain = {k: v for k, v in asdict(self).items() if k not in ("concepts", "methods")}
        return hash_json([plain, asdict(choosing)])[:16]


class Cells:
    """Finished cells in a file of JSON lines. A cell is appended in one write: a killed run loses at most its last."""

    def __init__(self, path: Path, key: str, resume: bool) -> None:
        self.path, self.key = path, key
        self.done: dict[tuple[str, str], dict[str, Any]] = {}
        if resume:
            self.done = {(cell["concept"], cell["method"]): cell for cell in self._read() if cell["key"] == key}
        write_atomic(path, "".join(json.dumps(cell) + "\n" for cell in self.done.values()))

    def add(self, cell: Mapping[str, Any]) -> None:
        """Append one cell."""
        entry = {"key": self.key, **cell}
        self.done[entry["concept"], entry["method"]] = entry
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _read(self) -> Iterator[dict[str, Any]]:
        if not self.path.is_file():
            return
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                cell = json.loads(line)
            except json.JSONDecodeError:
                continue  # the line a killed run was writing
            if isinstance(cell, dict) and {"key", "concept", "method", "metrics"} <= cell.keys():
                yield cell


def bench(
    request: BenchRequest,
    out: Path,
    *,
    resume: bool = False,
    device: str = "",
    choosing: Choosing | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Every concept by every method; writes cells.jsonl as it goes and bench.json at the end, and gives its content."""
    # as in the paper: chosen and judged on pictures as they are
    choosing = choosing or Choosing(faint=0)
    concepts = tuple(find(name) for name in request.concepts)
    for name in request.methods:
        find_method(name)
    cells = Cells(out / "cells.jsonl", request.key(choosing), resume)
    todo = [(concept, m) for concept in concepts for m in request.methods if (concept, m) not in cells.done]
    started = time.perf_counter()
    if todo:
        shared = Shared.make(request, device, progress)
        for number, (concept, method) in enumerate(todo):
            if progress:
                progress(
                    f"{request.model}, {len(concepts)} concepts x {len(request.methods)} methods", number, len(todo)
                )
            cells.add(shared.cell(concept, method, choosing))
    chosen = [cells.done[concept, method] for concept in concepts for method in request.methods]
    result = {
        "schema": SCHEMA,
        **asdict(request),
        "methods": summary(chosen, request.methods),
        "concepts": len(concepts),
        "seconds": round(time.perf_counter() - started, 1),
        "versions": versions(),
        "cells": [{k: v for k, v in cell.items() if k != "key"} for cell in chosen],
    }
    write_atomic(out / "bench.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return result


@dataclass
class Shared:
    """What all cells share: the model, the pictures, their moments, and every bare answer once."""

    request: BenchRequest
    model: HookedModel
    pool: Pool
    moments: Moments
    book: AnswerBook
    _concept: Concept | None = None
    _ranked: dict[str, FeatureSet] = field(default_factory=dict)
    _judged: Judged = field(default_factory=dict)

    @classmethod
    def make(cls, request: BenchRequest, device: str, progress: Progress | None) -> Shared:
        """Open the model and read the training pictures once."""
        model = open_model(request.model, device)
        site = find_site(model, request.site)
        dictionary = dictionary_for(model, site, given=request.dictionary, progress=progress)
        pool = Pool(request.pool, request.seed)
        store = harvest(model, pool.examples("train"), site, progress=stage(progress, "reading the training pictures"))
        return cls(request, model, pool, moments(dictionary, store), AnswerBook(model))

    def cell(self, name: str, method: str, choosing: Choosing) -> dict[str, Any]:
        """One concept by one method: fitted on train, chosen on validation, measured on test."""
        started = time.perf_counter()
        if self._concept is None or self._concept.name != name:
            whole = self.pool.concept(name)
            by = dict.fromkeys(
                score for m in self.request.methods for base in find_method(m) for score in rankings_of(base.name)
            )
            split = self.moments.split_by_label(name, FAMILIES)
            self._concept = thinned(whole, self.request.train_questions, self.request.seed)
            self._ranked, _ = rankings(self.model, self._concept, self.moments, split, tuple(by))
            self._judged = {}
        concept, seed = self._concept, self.request.seed
        of = "clamp" if method == "random_features" else method
        choice = choose_method(
            self.model, concept, of, self._ranked, seed=seed, choosing=choosing, book=self.book, judged=self._judged
        )
        edit, settings = choice.edit, {**choice.method.settings(), "ranking": choice.ranking}
        if method == "random_features":
            control = control_methods(choice.method)[method]
            edit = control.fit(self.model, ForgetRequest(concept, seed), self._ranked[choice.ranking])
            settings = {**control.settings(), "ranking": choice.ranking}
        scores = evaluate(self.model, concept, [edit], before=self.book, limit=self.request.questions, seed=seed)
        return {
            "concept": name,
            "family": concept.family,
            "method": method,
            "metrics": {key: scores.metrics[key].to_json() for key in METRICS},
            "settings": settings,
            "hook": [stat.to_json() for stat in scores.hooks],
            "seconds": round(time.perf_counter() - started, 2),
        }


def thinned(concept: Concept, pictures: int, seed: int, splits: Sequence[str] = ("train", "validation")) -> Concept:
    """The concept with at most so many pictures in each part of these splits."""
    import random
    from dataclasses import replace

    def thin(examples: tuple[Example, ...]) -> tuple[Example, ...]:
        groups = sorted({example.group for example in examples})
        kept = set(random.Random(seed).sample(groups, min(pictures, len(groups))))
        return tuple(example for example in examples if example.group in kept)

    parts = {name: getattr(concept, name) for name in splits}
    return replace(concept, **{name: type(part)(*map(thin, part)) for name, part in parts.items()})


def summary(cells: Sequence[Mapping[str, Any]], methods: Sequence[str]) -> Summary:
    """Per method, family and overall (`all`): means over concepts with intervals, and the paired difference in HM."""
    families = list(dict.fromkeys(cell["family"] for cell in cells))
    base = {cell["concept"]: value(cell, "HM") for cell in cells if cell["method"] == BASELINE}
    out: Summary = {}
    for method in methods:
        out[method] = {}
        for family in [*families, "all"]:
            mine = [c for c in cells if c["method"] == method and family in (c["family"], "all")]
            row: dict[str, Any] = {
                name: over_concepts([value(cell, name) for cell in mine]).to_json() for name in METRICS
            }
            if method != BASELINE and base:
                gains = [value(cell, "HM") - base[cell["concept"]] for cell in mine if cell["concept"] in base]
                row["to_sauce"] = over_concepts(gains).to_json()
            row["kept"] = {name: over_concepts([_kept(cell, name) for cell in mine]).to_json() for name in KEPT}
            out[method][family] = row
    return out


KEPT = ("IRA", "CRA", "COA")


def value(cell: Mapping[str, Any], name: str, when: str = "after") -> float:
    """A metric of a cell; NaN where it was not measured."""
    found = cell["metrics"][name][when]["value"]
    return math.nan if found is None else found


def _kept(cell: Mapping[str, Any], name: str) -> float:
    before = value(cell, name, "before")
    return value(cell, name) / before if before else math.nan
