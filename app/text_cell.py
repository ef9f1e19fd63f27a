"""One cell of `bench methods`: everything that is measured of one edit on one person, item by item."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from analysis.answer_probe import answer_probe
from analysis.audit import audit
from analysis.audit.budget import QUICK, Budget
from analysis.audit.quantise import Quantise
from analysis.depth import NotApplicable, depth
from analysis.relearning import relearned
from app.text_ground import Amounts, Ground, queried
from concept_forget.edits import Edit
from concept_forget.evaluation.judge import refuses
from concept_forget.evaluation.text import PerItem, knowledge, membership_scores, read, rouge_l_recall, say
from concept_forget.evaluation.text.truth_ratio import kept as kept_ratio
from concept_forget.model import HookedModel

Part = dict[str, Any]
"""Values and groups of one number, as plain lists."""


def measure(
    model: HookedModel,
    ground: Ground,
    edits: Sequence[Edit] = (),
    amounts: Amounts | None = None,
    *,
    unlearned: HookedModel | None = None,
) -> dict[str, Any]:
    """RWKU's recalls, likelihoods, membership scores, depth, probe, relearning and audit under edits, as plain values.

    `unlearned` is measured in the place of `model` (the twin that never knew), which stays the full model of the depth.
    """
    amounts = amounts or Amounts()
    asked = unlearned or model
    with ExitStack() as stack:
        # weight edits go in once, not for every question
        for edit in edits:
            if getattr(edit, "kind", "") == "weights":
                stack.enter_context(edit.attached(asked))
        others = [edit for edit in edits if getattr(edit, "kind", "") != "weights"]
        rows = queried(asked, ground.sets, others, amounts, ground.seed)
        items = _recalls(rows, ground.bare)
        for name, values in knowledge(asked, ground.forget, others).items():
            items[name] = plain(values)
        for name, part in ground.kept.items():
            known = knowledge(asked, part, others)
            texts = say(asked, part, others)
            recalls = [rouge_l_recall(text, item.answer) for text, item in zip(texts, part, strict=True)]
            items[f"{name} recall"] = plain(PerItem.of(recalls, part))
            items[f"{name} probability"] = plain(known["probability"])
            ratios = known["truth ratio"]
            items[f"{name} truth ratio"] = plain(PerItem(tuple(map(kept_ratio, ratios.values)), ratios.groups))
        scores = membership_scores(read(asked, ground.passages, others), ground.reference)
        probe = answer_probe(asked, *ground.answers, others, resamples=400)
    not_applicable = {}
    for kind, first in ground.stages.items():
        try:
            items[f"depth {kind}"] = plain(depth(model, first, edits, unlearned=unlearned, resamples=1).per_item)
        except NotApplicable as reason:
            not_applicable[f"depth {kind}"] = str(reason)
    for n in amounts.relearn:
        with relearned(asked, ground.relearn(n), edits) as left:
            texts = say(asked, ground.held_back, left)
        recalls = [rouge_l_recall(text, item.answer) for text, item in zip(texts, ground.held_back, strict=True)]
        items[f"relearn {n}"] = plain(PerItem.of(recalls, ground.held_back))
    if amounts.audited:
        items |= attacked(asked, model, ground, edits, amounts.audited)
    half = len(ground.passages) // 2
    return {
        "items": items,
        "membership": {name: [rounded(values[:half]), rounded(values[half:])] for name, values in scores.items()},
        "probe": probe.to_json(),
        "not_applicable": not_applicable,
        "said": [[row["query"], row["answer"], row["said"]] for row in rows if row["about"] == "forget"][::8],
    }


def attacked(
    asked: HookedModel, untouched: HookedModel, ground: Ground, edits: Sequence[Edit], each: int
) -> dict[str, Part]:
    """Which items that the untouched model knows the attacks of the audit bring back: by any of those that only ask
    (its quick budget), by each of them, and by rounding the weights with the edit in place."""

    def keep(name: str, work: Callable[[], Any]) -> Any:
        if name.startswith("edited"):
            return work()
        # every edit is compared with the same untouched model
        if name not in ground.attacked:
            ground.attacked[name] = work()
        return ground.attacked[name]

    found = audit(
        asked,
        edits,
        ground.concept,
        budget=Budget("bench", (*QUICK, Quantise()), each),
        untouched=untouched,
        seed=ground.seed,
        keep=keep,
    )
    asking = found.within("black box")
    groups = [item.shown.group for item in found.items]

    def part(attacks: Sequence[str]) -> Part:
        counted = found.scorable & found.tried(attacks)
        back = PerItem(tuple(map(float, found.back(attacks, "edited"))), tuple(groups))
        return plain(back.where(counted.tolist()))

    return {"audit": part(asking), "quantised": part(["quantise"])} | {
        f"audit: {name}": part([name]) for name in asking
    }


def plain(values: PerItem) -> Part:
    """As JSON has it; NaN is null."""
    return {"values": rounded(values.values), "groups": list(values.groups)}


def per_item(part: Part) -> PerItem:
    """What `plain` wrote."""
    return PerItem(tuple(float("nan") if v is None else v for v in part["values"]), tuple(part["groups"]))


def rounded(values: Sequence[float]) -> list[float | None]:
    """To five digits, NaN as null."""
    return [None if v != v else float(f"{v:.5g}") for v in values]


def _recalls(answers: Sequence[dict[str, Any]], bare: Sequence[str]) -> dict[str, Part]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in answers:
        about = row["about"]
        for name in (about, f"{about} {row['level']}", row["distance"] and f"{about} {row['distance']}"):
            if name:
                found.setdefault(name, []).append(row)
        if row["level"] == "3":
            found.setdefault(f"{about} 3: {row['type']}", []).append(row)
    about, groups = [row["about"] for row in answers], tuple(row["group"] for row in answers)
    alike = PerItem(tuple(float(row["said"] == text) for row, text in zip(answers, bare, strict=True)), groups)
    declined = PerItem(tuple(float(refuses(row["said"])) for row in answers), groups)
    extra = {
        # answers that are word for word those of the untouched model, and those that say one does not know
        "neighbour unchanged": plain(alike.where([name == "neighbour" for name in about])),
        "forget declined": plain(declined.where([name == "forget" for name in about])),
        "neighbour declined": plain(declined.where([name == "neighbour" for name in about])),
    }
    return extra | {
        name: plain(PerItem(tuple(r["recall"] for r in rows), tuple(r["group"] for r in rows)))
        for name, rows in found.items()
    }
