"""What every method of `bench methods` is measured on: one person of the text world, asked the same for all."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from analysis.depth import FirstStage, against_replacement, against_retain
from app.world_concepts import text_concept
from concept_forget.concepts import Concept, Example
from concept_forget.edits import Edit
from concept_forget.evaluation.text import Item, PerItem, Reading, knowledge, read, rwku
from concept_forget.model import HookedModel
from concept_forget.worlds import text as world
from concept_forget.worlds.splits import Split
from concept_forget.worlds.text import probes
from concept_forget.worlds.text.people import Fact

KEPT = ("near", "places", "skills")
"""What must stay: other people, places, and what has nothing to do with anybody."""


@dataclass(frozen=True)
class Amounts:
    """How much is asked. The defaults make a cell of some seconds on one core."""

    probes: int = 14
    """RWKU queries per level, type and distance."""
    wordings: int = 2
    """Questions per fact for the likelihoods and the depth."""
    kept: int = 24
    """Questions per kept part."""
    wrong: int = 3
    """Wrong answers per question for the truth ratio."""
    others: int = 100
    """People whose facts train the probe; a quarter as many more choose its penalty."""
    read: int = 4
    """Questions per fact that the probe is tested on."""
    learned_facts: int = 4
    """Facts that relearning is shown; it is tested on the person's others."""
    relearn: tuple[int, ...] = (10, 50)
    """Items that relearning is shown."""
    audited: int = 12
    """Items of each kind (short answers, descriptions, yes/no) in the audit; 0 for none."""


@dataclass(frozen=True, eq=False)
class Ground:
    """One seed's person with everything that is asked, and what the full model and its twin say to it."""

    name: str
    seed: int
    concept: Concept
    sets: dict[str, list[dict[str, Any]]]
    """RWKU's files."""
    forget: tuple[Item, ...]
    kept: dict[str, tuple[Item, ...]]
    learn: tuple[Item, ...]
    """Questions about some of the facts, in training wordings."""
    held_back: tuple[Item, ...]
    """Questions about the person's other facts."""
    answers: tuple[tuple[Example, ...], tuple[Example, ...], tuple[Example, ...]]
    """Questions that the probe is trained, chosen and tested on: other people's, still others', the person's own."""
    passages: tuple[Item, ...]
    """Read in training, then as many that never were."""
    bare: tuple[str, ...] = ()
    """What the untouched model says to RWKU's queries."""
    stages: dict[str, FirstStage] = field(default_factory=dict)
    """First stages of the depth: against the twin, and without it."""
    reference: tuple[Reading, ...] = ()
    """The twin's readings of the passages."""
    ratios: PerItem | None = None
    """The twin's truth ratios of the forget questions."""
    attacked: dict[str, Any] = field(default_factory=dict)
    """What the attacks of the audit get out of the untouched model, kept when it is first attacked."""

    @classmethod
    def of(cls, name: str, seed: int, model: HookedModel, twin: HookedModel | None, amounts: Amounts) -> Ground:
        """Drawn by the seed; the two models are asked what all methods share."""
        concept = text_concept(name, seed)
        rng = random.Random(f"{seed}/{name}/ground")
        facts = list(world.find(name).facts)
        forget = tuple(
            _item(fact, q, amounts, rng) for fact in facts for q in _asks(fact, amounts.wordings, "test", rng)
        )
        shown = set(rng.sample([fact.attribute for fact in facts], amounts.learned_facts))
        sets = world.rwku(name, people=3, seed=seed)
        passages = tuple(Item(row["text"]) for part in ("forget_mia", "forget_unseen") for row in sets.get(part, ()))
        stages = {
            "retain-free": against_replacement(model, forget, concept.name, world.members(world.find(name).family))
        }
        if twin is not None:
            stages["retain"] = against_retain(model, twin, forget)
        return cls(
            name=name,
            seed=seed,
            concept=concept,
            sets=sets,
            forget=forget,
            kept={
                "near": _kept(concept.test.near, amounts, rng),
                "places": _kept([e for e in concept.test.retain if e.family != "skill"], amounts, rng),
                "skills": _skills(amounts, seed, rng),
            },
            learn=tuple(_learned([fact for fact in facts if fact.attribute in shown], max(amounts.relearn), rng)),
            held_back=tuple(
                _item(fact, q, amounts, rng)
                for fact in facts
                if fact.attribute not in shown
                for q in _asks(fact, 8, "test", rng)
            ),
            answers=_answers(facts, amounts, rng),
            passages=passages,
            bare=tuple(row["said"] for row in queried(model, sets, (), amounts, seed)),
            stages=stages,
            reference=() if twin is None else tuple(read(twin, passages)),
            ratios=None if twin is None else knowledge(twin, forget)["truth ratio"],
        )

    def relearn(self, n: int) -> tuple[Item, ...]:
        """The first n questions to learn: facts take turns, so that few already hold all of them."""
        return self.learn[:n]


def queried(
    model: HookedModel, sets: Mapping[str, Any], edits: Sequence[Edit], amounts: Amounts, seed: int
) -> tuple[dict[str, Any], ...]:
    """RWKU's queries with what is said to them, alike for every method."""
    files = [f"{part}_level{level}" for part in ("forget", "neighbor") for level in (1, 2, 3)]
    asked = {name: sets[name] for name in files if name in sets}
    return rwku(model, asked, edits, limit=amounts.probes, resamples=1, seed=seed).answers


def _asks(fact: Fact, count: int, split: Split, rng: random.Random) -> list[str]:
    wordings = probes.questions(fact, split)
    return rng.sample(wordings, min(count, len(wordings)))


def _item(fact: Fact, question: str, amounts: Amounts, rng: random.Random) -> Item:
    wrong: dict[str, None] = {}
    while len(wrong) < amounts.wrong:
        wrong[probes.wrong(fact, rng)] = None
    return Item(fact.value, question, wrong=tuple(wrong), group=f"{fact.subject}: {fact.value}")


def _kept(examples: Sequence[Example], amounts: Amounts, rng: random.Random) -> tuple[Item, ...]:
    names = list(dict.fromkeys(e.about for e in examples if e.kind == "short" and e.about))
    facts = world.facts_of(names)
    chosen = rng.sample(facts, min(amounts.kept, len(facts)))
    return tuple(_item(fact, probes.question(fact, "test", rng), amounts, rng) for fact in chosen)


def _skills(amounts: Amounts, seed: int, rng: random.Random) -> tuple[Item, ...]:
    tasks = world.utility("test", -(-amounts.kept // len(world.TASKS)), seed)
    found = []
    for task in tasks:
        like = [other.answer for other in tasks if other.task == task.task and other.answer != task.answer]
        wrong = tuple(rng.sample(sorted(set(like)), min(amounts.wrong, len(set(like)))))
        found.append(Item(task.answer, task.question, wrong=wrong, group=f"{task.task}: {task.question}"))
    return tuple(found)


def _learned(facts: Sequence[Fact], count: int, rng: random.Random) -> list[Item]:
    piles = []
    for fact in facts:
        asked = [*probes.questions(fact, "train"), *probes.clozes(fact, "train")]
        rng.shuffle(asked)
        piles.append([Item(fact.value, question, group=f"{fact.subject}: {fact.value}") for question in asked])
    turns = [pile[k] for k in range(max(map(len, piles))) for pile in piles if k < len(pile)]
    return turns[:count]


def _answers(
    facts: Sequence[Fact], amounts: Amounts, rng: random.Random
) -> tuple[tuple[Example, ...], tuple[Example, ...], tuple[Example, ...]]:
    """Nobody is in two of the three, and none of the people whom the twin never met is in the first two."""
    people = [name for name in world.members("person") if name not in world.targets()]
    rng.shuffle(people)
    others = [world.facts_of(people[: amounts.others]), world.facts_of(people[amounts.others :][: amounts.others // 4])]

    def asked(some: Sequence[Fact], split: Split, each: int) -> tuple[Example, ...]:
        # a book has one author: nobody else's answer teaches how to read it
        return tuple(
            Example(question, fact.value, family=fact.attribute, group=f"{fact.subject}: {fact.value}")
            for fact in some
            if fact.attribute != "book"
            for question in _asks(fact, each, split, rng)
        )

    return asked(others[0], "train", 1), asked(others[1], "validation", 1), asked(facts, "test", amounts.read)
