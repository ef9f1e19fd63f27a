"""`bench removal`: every concept by every kind of edit, with an attacker; resumable cell by cell."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from analysis.probing import ProbeData, probe_data
from app.bench import METRICS, Cells, thinned, value
from app.choosing import Choosing
from app.dictionaries import Progress, dictionary_for, rankings, stage
from app.doors import door_notes
from app.opening import find_site, open_model
from app.readings import gate_on_test
from app.removal_fitting import FEW, REMOVAL, Fitted, Fitter, check_method, read_prior
from app.removal_measuring import leakage, milliseconds, readable
from app.world_concepts import FAMILIES, Pool, Sizes, find
from concept_forget.concepts import Concept
from concept_forget.directions import FeatureSet
from concept_forget.evaluation import AnswerBook, evaluate, over_concepts
from concept_forget.evaluation.grounding import grounding
from concept_forget.evaluation.neighbours import Damage, damage_curve, damages, distances
from concept_forget.model import HookedModel
from concept_forget.provenance import hash_json, versions, write_atomic
from concept_forget.sites import Site
from saes import SaeDictionary, moments
from saes.attribution import Moments
from saes.harvest import harvest

SCHEMA = "concept-forget/removal/1"
BASELINE = "sauce"
READ = ("activation", "residual")


@dataclass(frozen=True)
class RemovalRequest:
    """Which model, which concepts, which methods, how much is asked. Equal requests share their cells."""

    model: str = "tiny-llava"
    concepts: tuple[str, ...] = tuple(FAMILIES)
    methods: tuple[str, ...] = REMOVAL
    site: str = ""
    dictionary: str = ""
    seed: int = 0
    pool: Sizes = field(default_factory=lambda: Sizes(1440, 720, 1080))
    """Pictures of each split, shared by all concepts: those of `bench sauce60`."""
    train_questions: int = 64
    """Pictures per part that a method is fitted on."""
    questions: int = 24
    """Test questions per metric."""
    items: int = 3
    """Items of each kind (short answer, caption, yes/no) that every attack tries."""
    probes: int = 120
    """Training pictures of a retrained probe."""

    def key(self, choosing: Choosing) -> str:
        """What a cell depends on, concept and method apart."""
        plain = {k: v for k, v in asdict(self).items() if k not in ("concepts", "methods")}
        return hash_json([plain, asdict(choosing)])[:16]


def bench_removal(
    request: RemovalRequest,
    out: Path,
    *,
    prior: Path | None = None,
    resume: bool = False,
    device: str = "",
    choosing: Choosing = FEW,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Every concept by every method; writes cells.jsonl as it goes, then removal.json.

    `prior` is the result of an earlier bench on the same pool, whose settings (chosen on validation) are taken over.
    Only concepts that the model demonstrably knows from pictures are scored (`grounding`, judged on validation).
    """
    concepts = tuple(find(name) for name in request.concepts)
    for name in request.methods:
        check_method(name)
    known = read_prior(prior)
    cells = Cells(out / "cells.jsonl", request.key(choosing), resume)
    shared = Shared(request, device, known, choosing, progress)
    started = time.perf_counter()
    todo = [(concept, m) for concept in concepts for m in request.methods if (concept, m) not in cells.done]
    for number, (concept, method) in enumerate(todo):
        if progress:
            progress(f"{len(concepts)} concepts x {len(request.methods)} methods", number, len(todo))
        cells.add(shared.cell(concept, method))
    chosen = [cells.done[concept, method] for concept in concepts for method in request.methods]
    scored = [cell for cell in chosen if cell["grounding"]["known"]]
    result = {
        "schema": SCHEMA,
        **asdict(request),
        "concepts": len(concepts),
        "scored": len({cell["concept"] for cell in scored}),
        "methods": summary(scored, request.methods),
        "seconds": round(time.perf_counter() - started, 1),
        "versions": versions(),
        "cells": [{k: v for k, v in cell.items() if k != "key"} for cell in chosen],
    }
    write_atomic(out / "removal.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return result


class Shared:
    """What all cells share, made when it is first needed: the model, the pictures, their moments, every bare answer."""

    def __init__(
        self,
        request: RemovalRequest,
        device: str,
        prior: Mapping[tuple[str, str], Mapping[str, Any]],
        choosing: Choosing,
        progress: Progress | None,
    ) -> None:
        self.request, self.device, self.prior, self.choosing = request, device, prior, choosing
        self.progress = progress
        self.pool = Pool(request.pool, request.seed)
        self._of: tuple[str, Concept, Fitter] | None = None
        self._known: tuple[str, dict[str, Any], ProbeData] | None = None

    @cached_property
    def model(self) -> HookedModel:
        return open_model(self.request.model, self.device)

    @cached_property
    def site(self) -> Site:
        return find_site(self.model, self.request.site)

    @cached_property
    def dictionary(self) -> SaeDictionary:
        return dictionary_for(self.model, self.site, given=self.request.dictionary, progress=self.progress)

    @cached_property
    def moments(self) -> Moments:
        read = stage(self.progress, "reading the training pictures")
        return moments(self.dictionary, harvest(self.model, self.pool.examples("train"), self.site, progress=read))

    @cached_property
    def book(self) -> AnswerBook:
        return AnswerBook(self.model)

    @cached_property
    def far(self) -> dict[tuple[str, str], float]:
        """How far the concepts are from one another: by their mean features over the training pictures."""
        shows = self.moments.shows
        rows = {name: [i for i, names in enumerate(shows) if name in names] for name in FAMILIES}
        return distances({name: self.moments.mean[some].float().mean(0) for name, some in rows.items() if some})

    def fitter(self, name: str) -> tuple[Concept, Fitter]:
        """A concept with what fits its methods."""
        if self._of is None or self._of[0] != name:
            concept = thinned(self.pool.concept(name), self.request.train_questions, self.request.seed)
            split = self.moments.split_by_label(name, FAMILIES)
            ranked: dict[str, FeatureSet] = {}

            def by(score: str) -> FeatureSet:
                if score not in ranked:
                    ranked.update(rankings(self.model, concept, self.moments, split, (score,))[0])
                return ranked[score]

            fitter = Fitter(self.model, concept, by, self.prior, self.book, self.request.seed, self.choosing)
            self._of = name, concept, fitter
        return self._of[1:]

    def known(self, name: str) -> tuple[dict[str, Any], ProbeData]:
        """Whether the model knows a concept, and what probes of it are trained on."""
        if self._known is None or self._known[0] != name:
            concept, _ = self.fitter(name)
            asked = [example for part in concept.validation for example in part]
            ground = grounding(self.model, concept, asked, limit=12, seed=self.request.seed).to_json()
            self._known = name, ground, probe_data(concept, self.request.probes, self.request.seed)
        return self._known[1:]

    def fitted(self, name: str, method: str) -> Fitted:
        """The edit of one concept by one method, as in its cell."""
        return self.fitter(name)[1](method)

    def cell(self, name: str, method: str) -> dict[str, Any]:
        """One concept by one method: fitted on train, chosen on validation, measured on test."""
        started, request = time.perf_counter(), self.request
        (concept, _), (ground, data) = self.fitter(name), self.known(name)
        made = self.fitted(name, method)
        scores = evaluate(
            self.model, concept, [made.edit], before=self.book, limit=request.questions, seed=request.seed
        )
        atoms = made.edit.each()
        return {
            "concept": name,
            "family": concept.family,
            "method": method,
            "metrics": {key: scores.metrics[key].to_json() for key in METRICS},
            "unanswered": sum(t.refusals_after + t.unparseable_after for t in scores.tallies.values()),
            "leak": leakage(self.model, made.edit, concept, request.items, self.book, request.seed),
            "readable": readable(self.model, [made.edit], data, self.site, self.dictionary),
            "gate": gate_on_test(self.model, atoms, thinned(concept, request.train_questions, request.seed, ("test",))),
            "paths": door_notes(self.model, [made.edit], concept, 8) if method != "none" else None,
            "ms": milliseconds(self.model, [made.edit], list(concept.test.forget)[:3], times=3),
            "damage": [list(d[1:]) for d in damages(name, scores.samples, FAMILIES, self.far)],
            "grounding": ground,
            "settings": made.settings,
            "hook": [stat.to_json() for stat in scores.hooks],
            "seconds": round(time.perf_counter() - started, 2),
        }


def summary(cells: Sequence[Mapping[str, Any]], methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Per method: means over concepts with intervals, the paired differences to SAUCE mode, and the damage curve."""
    out: dict[str, dict[str, Any]] = {}
    base = {cell["concept"]: _row(cell) for cell in cells if cell["method"] == BASELINE}
    for method in methods:
        mine = [cell for cell in cells if cell["method"] == method]
        rows = {cell["concept"]: _row(cell) for cell in mine}
        names = sorted({*METRICS, "leak", *(name for row in rows.values() for name in row)})
        out[method] = {
            name: over_concepts([row.get(name, float("nan")) for row in rows.values()]).to_json() for name in names
        }
        if method != BASELINE:
            pairs = [(rows[name], base[name]) for name in rows if name in base]
            out[method]["to_sauce"] = {
                name: over_concepts([a[name] - b[name] for a, b in pairs if name in a and name in b]).to_json()
                for name in (*METRICS, "leak")
            }
        found = [Damage(cell["concept"], *entry) for cell in mine for entry in cell["damage"]]
        out[method]["damage"] = damage_curve(found)
    return out


def _row(cell: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a cell that are averaged over concepts."""
    row = {name: value(cell, name) for name in METRICS}
    leak = cell["leak"]
    row |= {key: leak[kind]["value"] for key, kind in (("leak", "worst"), ("direct", "direct")) if leak[kind]}
    row |= {f"leak {name}": share for name, share in leak["attacks"].items()}
    row |= {f"AUROC {name}": cell["readable"][name] for name in READ}
    row |= {"ms": cell["ms"]["edited"], "ms bare": cell["ms"]["bare"]}
    if cell["gate"]:
        row |= {"recall": cell["gate"]["recall"], "false fires": cell["gate"]["false_fire"]}
    if cell["paths"]:
        row |= {f"open {name}": cell["paths"][name] for name in ("uncovered", "picture", "words")}
    return {name: number for name, number in row.items() if number is not None}
