"""What a run reads beside the metrics: which layers to probe, the gate on the test split, pictures to show."""

from __future__ import annotations

import random
from collections.abc import Sequence

from app.report_page import Answer, Exhibit
from concept_forget.concepts import Concept, Example, one_per_group, role
from concept_forget.edits import Edit, GuardRule, ImageGate, SiteEdit
from concept_forget.evaluation import AnswerBook, Sample, evaluate
from concept_forget.methods.base import group_activations
from concept_forget.methods.guard import read_prompts
from concept_forget.model import DeadSiteError, HookedModel
from concept_forget.sites import Site

MOST_SITES = 12
"""Sites probed in one run; deeper models are probed at evenly spaced layers."""
EXHIBITS = (4, 2)
"""Test pictures shown in the report: with the concept, without."""
SHOWN = ("UAg", "UAd", "COA", "IRA", "CRA")
ANSWERS = 5
"""Answers shown for each picture."""


def probe_sites(model: HookedModel, site: Site) -> list[Site]:
    """Where to probe: the residual stream of every layer that reaches the answer, the projector, `site` itself."""
    whole = [one for one in model.sites() if one.stream in ("resid", "out")]
    if len(whole) > MOST_SITES:
        step = (len(whole) - 1) / (MOST_SITES - 1)
        whole = [whole[round(index * step)] for index in range(MOST_SITES)]
    wanted = {*whole, site}
    return [one for one in model.sites() if one in wanted and (one == site or live(model, one))]


def live(model: HookedModel, site: Site) -> bool:
    """Whether anything done at a site reaches the answer."""
    try:
        model.require_live(site)
    except DeadSiteError:
        return False
    return True


def gate_on_test(model: HookedModel, edits: Sequence[Edit], concept: Concept) -> dict[str, float] | None:
    """How often the first gate opens on test pictures with the concept and without it; None where no edit has one.

    The gate of a decoding rule is asked about prompts: questions about others beside the concept are none of its own.
    """
    single = [one for edit in edits for one in edit.each()]
    if rules := [edit for edit in single if isinstance(edit, GuardRule)]:
        about = [example for example in concept.test.forget if role(example, concept) != "COA"]
        beside = [example for example in concept.test.forget if role(example, concept) == "COA"]
        shares = [opened(model, rules[0], part) for part in (about, [*beside, *concept.test.without])]
        return {"recall": shares[0], "false_fire": shares[1]}
    sites = [edit for edit in single if isinstance(edit, SiteEdit)]
    gated = [one for edit in sites for one in (edit.branches() or (edit,)) if isinstance(one.gate, ImageGate)]
    if not gated:
        return None
    gate, site = gated[0].gate, gated[0].site
    assert isinstance(gate, ImageGate)
    shares = []
    for part in (concept.test.forget, concept.test.without):
        fired = [
            bool(s > 0) for read in group_activations(model, part, site) for s in gate.score(read.x, read.eligible)
        ]
        shares.append(sum(fired) / max(1, len(fired)))
    return {"recall": shares[0], "false_fire": shares[1]}


def opened(model: HookedModel, rule: GuardRule, examples: Sequence[Example]) -> float:
    """Share of these prompts that a rule's gate takes; 0 of none."""
    if not examples:
        return 0.0
    return float(rule.gate.opens(read_prompts(model, examples, rule.site)).float().mean())


def exhibits(
    model: HookedModel, concept: Concept, edits: Sequence[Edit], book: AnswerBook, seed: int = 0
) -> list[Exhibit]:
    """Some test pictures with what is asked about them, drawn by seed; of texts some of every role."""
    chosen: dict[str, list[Example]] = {}
    for part, count in zip((concept.test.forget, concept.test.without), EXHIBITS, strict=True):
        groups = one_per_group(example for example in part if role(example, concept))
        random.Random(seed).shuffle(groups)
        if groups and groups[0].image is None:
            groups = _in_turns(groups, concept)
        for first in groups[:count]:
            chosen[first.group] = [example for example in part if example.group == first.group]
    scores = evaluate(model, concept, edits, [e for asked in chosen.values() for e in asked], before=book, resamples=1)
    return [
        _exhibit(asked, [s for s in scores.samples if s.group == group], concept) for group, asked in chosen.items()
    ]


def _in_turns(texts: Sequence[Example], concept: Concept) -> list[Example]:
    """One text of every role, then another of each: a text asks one thing, where a picture has questions of all."""
    piles = [[text for text in texts if role(text, concept) == name] for name in SHOWN]
    return [pile[turn] for turn in range(len(texts)) for pile in piles if turn < len(pile)]


def _exhibit(asked: Sequence[Example], samples: Sequence[Sample], concept: Concept) -> Exhibit:
    chosen = sorted(samples, key=lambda sample: SHOWN.index(sample.role))[:ANSWERS]
    answers = tuple(Answer(s.question, s.before, s.after, s.role, s.status_before, s.status_after) for s in chosen)
    shows = asked[0].shows
    return Exhibit(asked[0].image, tuple(sorted(shows)), concept.name in shows, answers)
