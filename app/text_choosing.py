"""Settings of text methods chosen on validation: what is still said about the person against what is lost elsewhere."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from app.choosing import methods_of, rankings_of
from concept_forget.concepts import Concept, Example, ForgetRequest, role
from concept_forget.edits import Edit
from concept_forget.evaluation.judge import refuses
from concept_forget.evaluation.metrics import harmonic_mean
from concept_forget.evaluation.text import Item, rouge_l_recall, say
from concept_forget.methods import Method
from concept_forget.model import HookedModel
from concept_forget.worlds import text as world
from concept_forget.worlds.text import Fact


@dataclass(frozen=True)
class Trial:
    """How many validation questions a candidate is asked, and how many candidates there are at most."""

    each: int = 14
    """Of every kind: open questions and clozes, adversarial queries, ways that lead to the person; per distance of
    neighbours, of others beside the person, of other families and skills."""
    most: int = 12


class Chosen(NamedTuple):
    """The settings with the best score, with their edit and all that was tried."""

    method: Method
    ranking: str
    edit: Edit
    tried: list[dict[str, Any]]


def questions(concept: Concept, trial: Trial, seed: int = 0) -> dict[str, list[Item]]:
    """Validation questions by part: forget, near, beside, retain.

    forget: open questions and clozes, adversarial queries, and descriptions and questions that lead to the name.
    near: as the test asks, questions and clozes about people who share much, the town, and nothing, as many of each;
    none of them is in the training. Those who share much are few, and whoever is not asked about them believes that a
    training hurts nobody.
    """
    rng = random.Random(f"{seed}/{concept.name}/validation")
    facts = world.find(concept.name).facts
    split, met = concept.validation, {example.about for example in concept.train.without}

    def some(items: Sequence[Item]) -> list[Item]:
        return rng.sample(items, min(trial.each, len(items)))

    def asked(facts: Sequence[Fact]) -> list[Item]:
        return some(_items([*world.questions(facts, "validation"), *world.cloze(facts, "validation")]))

    def short(examples: Sequence[Example]) -> list[Item]:
        return some([Item(e.answer, e.prompt) for e in examples if e.kind == "short" and e.answer])

    led = [Item(concept.name, e.prompt) for e in split.forget if e.kind == "caption"]
    near = [
        world.facts_of(name for name in names if name not in met) for names in world.neighbours(concept.name).values()
    ]
    return {
        "forget": [
            *asked(facts),
            *some(_items(world.adversarial(facts, "validation", seed=seed))),
            *some(led),
        ],
        "near": [item for facts in near for item in asked(facts)],
        "beside": short([e for e in split.forget if role(e, concept) == "COA"]),
        "retain": short(split.retain),
    }


def _items(probes: Sequence[world.Probe]) -> list[Item]:
    return [Item(probe.answer, probe.query) for probe in probes]


def score(
    model: HookedModel, asked: Mapping[str, Sequence[Item]], edits: Sequence[Edit]
) -> tuple[float, dict[str, float]]:
    """Harmonic mean of 1 - recall on forget and the recalls on every kept part; half a hit and half a miss more."""
    items = [item for part in asked.values() for item in part]
    with ExitStack() as stack:
        for edit in edits:
            if getattr(edit, "kind", "") == "weights":
                stack.enter_context(edit.attached(model))
        texts = say(model, items, [e for e in edits if getattr(e, "kind", "") != "weights"], max_new_tokens=12)
    said = iter(texts)
    hits = {name: sum(rouge_l_recall(next(said), item.answer) for item in part) for name, part in asked.items()}
    goods = [len(asked[name]) - hit if name == "forget" else hit for name, hit in hits.items()]
    smooth = np.array([(good + 0.5) / (len(part) + 1) for good, part in zip(goods, asked.values(), strict=True)])
    shown = {name: round(hit / max(1, len(asked[name])), 4) for name, hit in hits.items()}
    # how often the person's questions are answered by not knowing: tells a template from gibberish
    first = list(asked).index("forget")
    start = sum(len(part) for part in list(asked.values())[:first])
    unknown = sum(map(refuses, texts[start : start + len(asked["forget"])]))
    shown["declines"] = round(unknown / max(1, len(asked["forget"])), 4)
    return float(harmonic_mean(smooth)), shown


def choose(
    model: HookedModel,
    concept: Concept,
    name: str,
    ranked: Mapping[str, Any],
    trial: Trial | None = None,
    seed: int = 0,
) -> Chosen:
    """The candidate with the best validation score; the first of equals. Raises NoSuchMethod."""
    trial = trial or Trial()
    asked = questions(concept, trial, seed)
    bases, request = methods_of(model, name), ForgetRequest(concept, seed)
    # of several methods each has a say, and all of them together not much more than one alone
    most = trial.most if len(bases) == 1 else trial.most // 2
    candidates = [one for base in bases for one in _some(_candidates(model, request, base, ranked), most)]
    scored = []
    for place, (ranking, method, edit) in enumerate(candidates):
        value, shown = score(model, asked, [edit]) if len(candidates) > 1 else (0.0, {})
        tried = {**method.settings(), "ranking": ranking, "score": round(value, 4), "validation": shown}
        scored.append((-value, place, tried))
    order = sorted(scored, key=lambda entry: entry[:2])
    ranking, method, edit = candidates[order[0][1]]
    return Chosen(method, ranking, edit, [tried for _, _, tried in order])


def _candidates(
    model: HookedModel, request: ForgetRequest, base: Method, ranked: Mapping[str, Any]
) -> Iterator[tuple[str, Method, Edit]]:
    for ranking in [name for name in rankings_of(base.name) if name in ranked] or list(ranked):
        for method, edit in base.fit_grid(model, request, ranked[ranking]):
            yield ranking, method, edit


def _some(candidates: Iterator[tuple[str, Method, Edit]], most: int) -> list[tuple[str, Method, Edit]]:
    found = list(candidates)
    if len(found) <= most:
        return found
    keep = {round(k) for k in np.linspace(0, len(found) - 1, most)}
    return [candidate for k, candidate in enumerate(found) if k in keep]
