"""`bench rwku`: models by subjects by methods, in RWKU's tables."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.bench import Cells
from app.dictionaries import Progress
from app.opening import find_method, open_model
from app.text_choosing import Trial, choose
from app.text_rankings import TextRankings
from app.world_concepts import text_concept
from concept_forget.concepts import Concept
from concept_forget.edits import Edit, NoEdit, PromptEdit
from concept_forget.evaluation import over_concepts
from concept_forget.evaluation.text import UNLEARN, rwku
from concept_forget.model import HookedModel
from concept_forget.provenance import hash_json, versions, write_atomic
from concept_forget.worlds import text as world
from concept_forget.worlds.loaders import data_folder, load_rwku, rwku_targets

SCHEMA = "concept-forget/bench-rwku/1"
ASKING = ("none", "icu")
"""Methods that need no training examples: all that RWKU's own files allow."""


@dataclass(frozen=True)
class RwkuRequest:
    """Which models, whom to forget, how. `data` is RWKU's folder; empty: the text world."""

    models: tuple[str, ...] = ("tiny-llama",)
    subjects: tuple[str, ...] = ()
    """Empty: the first three targets there are."""
    methods: tuple[str, ...] = ("none", "icu", "prompt", "guard")
    data: str = ""
    limit: int = 14
    """Queries per file, type and distance; 0: all."""
    seed: int = 0

    def key(self) -> str:
        """What a cell depends on, model, subject and method apart."""
        return hash_json({k: v for k, v in asdict(self).items() if k not in ("models", "subjects", "methods")})[:16]


def bench(
    request: RwkuRequest, out: Path, *, resume: bool = False, device: str = "", progress: Progress | None = None
) -> dict[str, Any]:
    """Every cell, kept as it is finished in cells.jsonl; writes bench.json and gives its content.

    Raises ValueError for methods that need training examples on RWKU's own files, LookupError for unknown names.
    """
    subjects = request.subjects or _targets(request)[:3]
    for name in request.methods:
        find_method(name)
        if request.data and name not in ASKING:
            raise ValueError(
                f"RWKU's files hold no training questions, so {name!r} has nothing to be fitted on. Give one of "
                f"{', '.join(ASKING)}, or leave --data out for the text world."
            )
    cells = Cells(out / "cells.jsonl", request.key(), resume)
    todo = [(model, s, m) for model in request.models for s in subjects for m in request.methods]
    started = time.perf_counter()
    shared: _Shared | None = None
    for number, (name, subject, method) in enumerate(todo):
        if progress:
            progress(f"{len(request.models)} models x {len(subjects)} subjects", number, len(todo))
        if (subject, f"{name} {method}") in cells.done:
            continue
        if shared is None or shared.model.name != name:
            shared = _Shared(request, open_model(name, device))
        cells.add({"concept": subject, "method": f"{name} {method}", **shared.cell(subject, method)})
    chosen = [cells.done[subject, f"{name} {method}"] for name, subject, method in todo]
    result = {
        "schema": SCHEMA,
        **asdict(request),
        "subjects": list(subjects),
        "rows": summary(chosen),
        "seconds": round(time.perf_counter() - started, 1),
        "versions": versions(),
        "cells": [{k: v for k, v in cell.items() if k != "key"} for cell in chosen],
    }
    write_atomic(out / "bench.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return result


class _Shared:
    """One model, and what its cells share."""

    def __init__(self, request: RwkuRequest, model: HookedModel) -> None:
        self.request, self.model = request, model
        self.rankings = TextRankings(model)

    def cell(self, subject: str, method: str) -> dict[str, Any]:
        """One subject by one method: settings chosen on validation, RWKU's numbers on its own queries."""
        started = time.perf_counter()
        settings: dict[str, Any] = {"method": method}
        if self.request.data:
            sets = load_rwku(data_folder(self.request.data), subject)
            edit: Edit = PromptEdit(UNLEARN.format(subject=subject).strip()) if method == "icu" else NoEdit()
        else:
            concept = text_concept(subject, self.request.seed)
            sets = world.rwku(concept.name, seed=self.request.seed)
            edit, settings = self.fitted(concept, method)
        found = rwku(self.model, sets, [edit], limit=self.request.limit or None, seed=self.request.seed)
        return {"metrics": found.to_json(), "settings": settings, "seconds": round(time.perf_counter() - started, 2)}

    def fitted(self, concept: Concept, method: str) -> tuple[Edit, dict[str, Any]]:
        """The edit with the best validation score."""
        ranked = self.rankings.of(concept, method)
        chosen = choose(self.model, concept, method, ranked, Trial(), self.request.seed)
        return chosen.edit, {**chosen.method.settings(), "ranking": chosen.ranking}


def summary(cells: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Per model and method: means over subjects with intervals of every column of RWKU's tables."""
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for cell in cells:
        rows.setdefault(cell["method"], []).append(cell["metrics"])
    out: dict[str, dict[str, dict[str, Any]]] = {}
    for name, found in rows.items():
        flat = [_columns(metrics) for metrics in found]
        keys = dict.fromkeys(key for columns in flat for key in columns)
        nan = float("nan")
        out[name] = {key: over_concepts([columns.get(key, nan) for columns in flat]).to_json() for key in keys}
    return out


def _columns(metrics: Mapping[str, Any]) -> dict[str, float]:
    """One number per column; what was not measured is left out."""
    found: dict[str, float | None] = {}
    for part, label in (("forget", "Forget"), ("neighbours", "Neigh"), ("distances", "Neigh"), ("types", "AA")):
        found |= {f"{label} {name}": value["value"] for name, value in metrics[part].items()}
    for label in ("FM", "RM"):
        if label in metrics["passages"]:
            # as in RWKU's tables, x 100 and the other way round: the higher, the less is known of them
            found[label] = -100 * metrics["passages"][label]["loss"]
    found |= {f"MIA AUC {name}": value["auc"]["value"] for name, value in metrics["membership"].items()}
    found |= {name: value["value"] for name, value in metrics["utility"].items()}
    return {name: value for name, value in found.items() if value is not None}


def _targets(request: RwkuRequest) -> tuple[str, ...]:
    return rwku_targets(data_folder(request.data)) if request.data else world.targets()
