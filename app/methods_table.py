"""`bench methods` summed up: one row per method with intervals over all seeds, and ours against rivals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from app.text_cell import per_item
from concept_forget.evaluation import over_concepts
from concept_forget.evaluation.metrics import Measured
from concept_forget.evaluation.text import PerItem, model_utility, separation
from concept_forget.methods.training import TRAINING

Cell = Mapping[str, Any]
Row = dict[str, Any]

COLUMNS = {
    "forget": "still said of the person (ROUGE-L recall over all RWKU queries)",
    "adversarial": "the same, adversarial queries only",
    "worst": "the adversarial type that gives away most",
    "audit": "items that any attack of the audit's quick budget brings back by asking",
    "quantised": "items that come back with the weights rounded to 8 or 4 bits, the edit in place",
    "neighbour": "said of other people (ROUGE-L recall)",
    "utility": "harmonic mean of recall, probability and truth ratio on other people, places and skills",
    "mia": "AUC of the loss, passages read against passages never read",
    "mia_reference": "the same against the loss of the model that never knew",
    "uds": "unlearning depth with a retain model: 0 intact, 1 erased",
    "uds_free": "unlearning depth without one",
    "declined": "share of answers about the person that say one does not know",
    "unchanged": "share of answers about others that are word for word those of the untouched model",
    "probe": "AUROC of an answer probe retrained under the edit on other people, best layer: 0.5 is chance",
    "relearn_10": "said of facts not relearned after 10 items on others",
    "relearn_50": "the same after 50",
}
"""What each column is. Lower is better but for neighbour, utility and the two depths."""
BLACK_BOX = ("prompt", "icu")
FRAME = ("none", "never-knew")
OURS = ("anchored", "blur", "clamp", "gated_clamp", "sauce+", "diff_means", "leace")
RIVALS = ("npo", "rmu", "flat")
PAIRED = {
    "audit": "audit",
    "forget": "forget",
    "neighbour": "neighbour",
    "relearn_10": "relearn 10",
    "relearn_50": "relearn 50",
}
"""Columns in which ours are compared with rivals item by item."""


def access(method: str) -> str:
    """What has to be in one's hands to use it: prompts, the running model, or its weights."""
    if method in FRAME:
        return "frame"
    return "black box" if method in BLACK_BOX else "weights" if method in TRAINING else "inference"


def summary(cells: Sequence[Cell], methods: Sequence[str], resamples: int = 2000) -> dict[str, Row]:
    """Per method: every column pooled over the seeds, intervals over facts, and each seed's own value."""
    out: dict[str, Row] = {}
    for name in methods:
        mine = [cell for cell in cells if cell["method"] == name]
        if not mine:
            continue
        row: Row = {"access": access(name), "settings": mine[0]["settings"], "seeds": {}}
        for column, measured, seeds in _columns(mine, resamples):
            row[column] = measured.to_json()
            row["seeds"][column] = [None if math.isnan(v) else round(v, 4) for v in seeds]
        row["fit_seconds"] = round(sum(cell["fit_seconds"] for cell in mine), 1)
        row["seconds"] = round(sum(cell["seconds"] for cell in mine), 1)
        attacks = [item for item in mine[0]["metrics"]["items"] if item.startswith("audit: ")]
        row["attacks"] = {
            item.removeprefix("audit: "): pooled(mine, item).measured(resamples).to_json() for item in attacks
        }
        row["not_applicable"] = mine[0]["metrics"]["not_applicable"]
        out[name] = row
    return out


def compared(
    cells: Sequence[Cell], ours: Sequence[str] = OURS, rivals: Sequence[str] = RIVALS, resamples: int = 2000
) -> dict[str, dict[str, Row]]:
    """For each of ours and each rival the differences, ours minus theirs, item by item (paired), and who dominates.

    "dominates": less comes back in the audit, and more is said of the neighbours, by the point values.
    """
    found: dict[str, dict[str, Row]] = {}
    for name in ours:
        mine = [cell for cell in cells if cell["method"] == name]
        for rival in rivals:
            theirs = [cell for cell in cells if cell["method"] == rival]
            if not mine or [cell["seed"] for cell in mine] != [cell["seed"] for cell in theirs]:
                continue
            gaps = {
                column: _gap(pooled(mine, item), pooled(theirs, item)).measured(resamples)
                for column, item in PAIRED.items()
            }
            row: Row = {column: gap.to_json() for column, gap in gaps.items()}
            row["dominates"] = gaps["audit"].value < 0 < gaps["neighbour"].value
            found.setdefault(name, {})[rival] = row
    return found


def _gap(mine: PerItem, theirs: PerItem) -> PerItem:
    return PerItem(tuple(a - b for a, b in zip(mine.values, theirs.values, strict=True)), mine.groups)


def pooled(cells: Sequence[Cell], name: str) -> PerItem:
    """A number's items of all seeds, one after the other."""
    parts = [per_item(cell["metrics"]["items"][name]) for cell in cells if name in cell["metrics"]["items"]]
    return PerItem(
        tuple(value for part in parts for value in part.values), tuple(group for part in parts for group in part.groups)
    )


def _columns(cells: Sequence[Cell], resamples: int) -> list[tuple[str, Measured, list[float]]]:
    found = []
    for column, item in (
        ("forget", "forget"),
        ("adversarial", "forget 3"),
        ("audit", "audit"),
        ("quantised", "quantised"),
        ("neighbour", "neighbour"),
        ("uds", "depth retain"),
        ("uds_free", "depth retain-free"),
        ("relearn_10", "relearn 10"),
        ("relearn_50", "relearn 50"),
        ("declined", "forget declined"),
        ("unchanged", "neighbour unchanged"),
        ("probability", "probability"),
        ("extraction", "extraction strength"),
    ):
        if any(item in cell["metrics"]["items"] for cell in cells):
            found.append((column, pooled(cells, item).measured(resamples), [pooled([c], item).mean for c in cells]))
    kinds = [name for name in cells[0]["metrics"]["items"] if name.startswith("forget 3: ")]
    worst = max(kinds, key=lambda kind: pooled(cells, kind).mean)
    found.append(("worst", pooled(cells, worst).measured(resamples), [pooled([c], worst).mean for c in cells]))
    utility = [_utility([cell], 2).value for cell in cells]
    found.append(("utility", _utility(cells, resamples), utility))
    for column, attack in (("mia", "loss"), ("mia_reference", "reference")):
        if attack in cells[0]["metrics"]["membership"]:
            found.append((column, _area(cells, attack, resamples), [_area([c], attack, 2).value for c in cells]))
    best = [max(site["auroc"]["value"] for site in cell["metrics"]["probe"].values()) for cell in cells]
    found.append(("probe", over_concepts(best, resamples), best))
    return found


def _utility(cells: Sequence[Cell], resamples: int) -> Measured:
    names = [
        f"{part} {what}" for part in ("near", "places", "skills") for what in ("recall", "probability", "truth ratio")
    ]
    return model_utility({name: pooled(cells, name) for name in names}, resamples)


def _area(cells: Sequence[Cell], attack: str, resamples: int) -> Measured:
    sides = [cell["metrics"]["membership"][attack] for cell in cells]
    members, others = ([v if v is not None else math.nan for side in sides for v in side[k]] for k in (0, 1))
    return separation(members, others, resamples=resamples).auc
