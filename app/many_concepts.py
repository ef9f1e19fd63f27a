"""`bench many`: many concepts gone at once, by several methods, and what becomes of each of them and of the rest."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from app.bench import METRICS
from app.bench_removal import RemovalRequest, Shared
from app.choosing import Choosing
from app.dictionaries import Progress
from app.removal_fitting import FEW, check_method, read_prior
from app.removal_measuring import milliseconds
from app.run_folder import RunFolder
from app.world_concepts import find
from concept_forget.directions import FeatureRows
from concept_forget.edits import Edit, FeatureClamp, ImageGate, SiteEdit
from concept_forget.edits.gate_bank import merged
from concept_forget.evaluation import evaluate, over_concepts
from concept_forget.provenance import hash_file, versions, write_atomic
from concept_forget.recipe import Recipe
from concept_forget.requests import RequestSet, kept_examples
from concept_forget.sites import Site

SCHEMA = "concept-forget/many/1"
COUNTS = (1, 5, 10, 20, 60)
"""Concepts removed simultaneously."""
METHODS = ("sauce", "clamp", "gated_clamp")
MEASURED = 10
"""Concepts that are measured in every count: the first in an order drawn by seed."""


def bench_many(
    request: RemovalRequest,
    out: Path,
    *,
    prior: Path | None = None,
    counts: Sequence[int] = COUNTS,
    resume: bool = False,
    device: str = "",
    choosing: Choosing = FEW,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The same concepts measured with ever more others removed beside them; writes many.json.

    The larger sets hold the smaller ones; below MEASURED there are several sets, so that every measured concept is in
    one. Questions about another removed concept count for nothing: they should fail. Every edit is kept as a recipe
    of its own in `out`/edits. `prior` as in `bench removal`.
    """
    concepts = [find(name) for name in request.concepts]
    for name in request.methods:
        check_method(name)
    counts = [count for count in counts if count <= len(concepts)]
    same = {"choosing": asdict(choosing), "prior": None if prior is None else hash_file(prior)}
    folder = RunFolder(out, {**asdict(request), "methods": None, **same}, resume)
    shared = Shared(request, device, read_prior(prior), choosing, progress)
    order = random.Random(request.seed).sample(concepts, len(concepts))
    many = _Many(shared, folder, order)
    steps = [(count, method) for count in counts for method in request.methods]
    found: dict[str, Any] = {str(count): {"removed": order[:count], "methods": {}} for count in counts}
    for number, (count, method) in enumerate(steps):
        if progress:
            progress(f"{count} at once, {method}", number, len(steps))
        step = folder.step(f"{method}-{count}", lambda c=count, m=method: many.cell(m, c))
        found[str(count)]["methods"][method] = step
    result = {
        "schema": SCHEMA,
        **asdict(request),
        "measured": order[:MEASURED],
        "many": found,
        "seconds": folder.timing,
        "versions": versions(),
    }
    write_atomic(out / "many.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    folder.finish()
    return result


@dataclass
class _Many:
    """The sets of one benchmark, with their edits."""

    shared: Shared
    folder: RunFolder
    order: list[str]

    def cell(self, method: str, count: int) -> dict[str, Any]:
        """The measured concepts, each in a set of `count`; speed and conflicts of the first set."""
        measured, request = self.order[:MEASURED], self.shared.request
        rows: dict[str, list[float]] = {name: [] for name in METRICS}
        unanswered = asked = 0
        for start in range(0, len(measured), count):
            removed = self.order[start : start + count] if count < MEASURED else self.order[:count]
            edit = self.requests(removed, method).edit()
            for name in measured[start : start + count]:
                concept = self.shared.pool.concept(name)
                scores = evaluate(
                    self.shared.model,
                    concept,
                    [edit],
                    kept_examples(concept.test, concept, removed),
                    before=self.shared.book,
                    limit=request.questions,
                    seed=request.seed,
                    resamples=1,
                )
                for metric in METRICS:
                    rows[metric].append(scores.metrics[metric].after.value)
                unanswered += sum(t.refusals_after + t.unparseable_after for t in scores.tallies.values())
                asked += sum(t.n for t in scores.tallies.values())
        requests = self.requests(self.order[:count], method)
        conflicts = requests.conflicts()
        return {
            "metrics": {name: over_concepts(values).to_json() for name, values in rows.items()},
            "unanswered": unanswered / max(1, asked),
            "conflicts": [{**c._asdict(), "site": str(c.site)} for c in conflicts[:10]],
            "pairs in conflict": len(conflicts),
            "ms": self.speed(requests),
        }

    def requests(self, removed: Sequence[str], method: str) -> RequestSet:
        """These concepts with their edits by this method."""
        requests = RequestSet()
        for name in removed:
            requests = requests.add(name, self.edit(name, method))
        return requests

    def edit(self, name: str, method: str) -> Edit:
        """The edit of one concept, from its recipe where it was fitted before."""
        place = self.folder.steps.parent / "edits" / method / name
        made = self.folder.done(f"edit-{method}-{name}")
        if made is None:
            fitted = self.shared.fitted(name, method)
            about = {"settings": fitted.settings, "seed": self.shared.request.seed}
            Recipe.of(self.shared.model, name, [fitted.edit], **about).save(place)
            self.folder.step(f"edit-{method}-{name}", lambda: str(place))
        (edit,) = Recipe.load(place, self.shared.model).edits
        return edit

    def speed(self, requests: RequestSet) -> dict[str, float]:
        """Median milliseconds per token: bare, all as one edit, one by one, and with their features only read."""
        examples = list(self.shared.pool.concept(requests.names[0]).test.forget)[:3]
        edits = [edit for _, edit in requests.removals]
        found = {"together": milliseconds(self.shared.model, [requests.edit()], examples)}
        found["one by one"] = milliseconds(self.shared.model, edits, examples)
        if reading := Reading.of(requests.edit()):
            found["features read once"] = milliseconds(self.shared.model, [reading], examples)
        times = {name: value["edited"] for name, value in found.items()}
        return {"bare": found["together"]["bare"], **times}


@dataclass(frozen=True, eq=False)
class Reading(SiteEdit):
    """Encodes some features and changes nothing: what an edit of these features costs at least."""

    site: Site
    rows: FeatureRows
    gate: None = None

    @classmethod
    def of(cls, edit: Edit) -> Reading | None:
        """Of every feature that clamps or gates of this edit look at; None where there is none."""
        sites = [one for one in edit.each() if isinstance(one, SiteEdit)]
        leaves = [leaf for one in sites for leaf in (one.branches() or (one,))]
        parts = [leaf.rows for leaf in leaves if isinstance(leaf, FeatureClamp)]
        parts += [leaf.gate.rows for leaf in leaves if isinstance(leaf.gate, ImageGate)]
        return cls(sites[0].site, merged(parts)[0]) if parts else None

    def transform(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """x itself."""
        self.rows.encode(x.to(self.rows.bias.dtype))
        return x
