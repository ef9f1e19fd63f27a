"""A subject of the text world as a request: what to forget, its neighbours, and everything else."""

from __future__ import annotations

import random
from typing import get_args

from concept_forget.concepts import Concept, Example, ExampleSet
from concept_forget.worlds.splits import Split
from concept_forget.worlds.text import phrasings as p
from concept_forget.worlds.text import probes
from concept_forget.worlds.text.corpus import description, friends
from concept_forget.worlds.text.people import Fact, Subject, find, members, subjects
from concept_forget.worlds.text.sets import DISTANCES, neighbours, utility

SHARES: dict[Split, float] = {"train": 0.5, "validation": 0.2, "test": 0.3}
"""How the neighbours, the other family's subjects and the skills are dealt to the splits."""


def concept(name: str, people: int = 40, places: int = 16, skills: int = 12, seed: int = 0) -> Concept:
    """The request to forget a person or a place, in wordings that no two splits share.

    forget: all facts (asked openly, as yes/no with the answer yes, and as descriptions and questions that lead to the
    name) and questions about somebody else in a text that names the subject too (COA). near: others of its family,
    those that share most first. retain: the other family and the skills. `people`, `places` and `skills` are how many
    of near, of the other family and of every skill the three splits have together; no two splits have one in common.
    Groups are facts in the wordings of a split, ways to the name, and tasks. Raises LookupError with the closest names
    for an unknown one.
    """
    subject = find(name)
    rng = random.Random(f"{seed}/{subject.name}")
    close = neighbours(subject.name)
    ordered = [other for distance in DISTANCES for other in rng.sample(close[distance], len(close[distance]))][:people]
    others = rng.sample(members("place" if subject.family == "person" else "person"), places)
    # shuffled only now: every split gets neighbours of every distance
    rng.shuffle(ordered)
    near, far = _dealt(ordered), _dealt(others)
    train, validation, test = (
        _split(subject, near[split], far[split], skills, split, seed) for split in get_args(Split)
    )
    return Concept(subject.name, subject.family, train, validation, test, kin=members(subject.family))


def about(subject: Subject, split: Split, rng: random.Random, each: int = 3) -> list[Example]:
    """Questions about a subject: `each` short ones and a yes and a no for every fact; for a person, one description."""
    found = []
    for fact in subject.facts:
        found += [_short(fact, probes.question(fact, split, rng), split) for _ in range(each)]
        found += [_yesno(fact, fact.value, split, rng), _yesno(fact, probes.wrong(fact, rng), split, rng)]
    return list(dict.fromkeys([*found, *_described(subject, split, rng)]))


def _split(subject: Subject, near: list[str], others: list[str], skills: int, split: Split, seed: int) -> ExampleSet:
    rng = random.Random(f"{seed}/{split}/{subject.name}")
    forget = []
    for fact in subject.facts:
        forget += [_short(fact, probes.question(fact, split, rng), split) for _ in range(6)]
        # only questions whose true answer is yes: a no would not say that the fact is known
        forget += [_yesno(fact, fact.value, split, rng) for _ in range(8)]
    for _ in range(6):
        forget += _described(subject, split, rng)
    forget += _led_back(subject, split)
    forget += _together(subject, near, split, rng)
    tasks = [
        Example(task.question, task.answer, about=task.task, family="skill", group=task.question)
        for task in utility(split, max(1, round(skills * SHARES[split])), seed)
    ]
    kept = [example for name in others for example in about(subjects()[name], split, rng)]
    beside = [example for name in near for example in about(subjects()[name], split, rng)]
    return ExampleSet(tuple(dict.fromkeys(forget)), tuple(beside), tuple(kept + tasks))


def _short(fact: Fact, prompt: str, split: Split, shows: frozenset[str] | None = None) -> Example:
    return Example(
        prompt,
        fact.value,
        about=fact.subject,
        family=subjects()[fact.subject].family,
        shows=shows or frozenset({fact.subject}),
        group=f"{fact.subject}: {fact.attribute} ({split})",
    )


def _yesno(fact: Fact, value: str, split: Split, rng: random.Random) -> Example:
    return Example(
        probes.yesno(fact, value, split, rng),
        probes.verdict(fact, value),
        kind="yesno",
        about=fact.subject,
        family=subjects()[fact.subject].family,
        shows=frozenset({fact.subject}),
        group=f"{fact.subject}: {fact.attribute} ({split})",
    )


def _described(subject: Subject, split: Split, rng: random.Random) -> list[Example]:
    """A description of the author of a person's book, which has to name the person."""
    if subject.family != "person":
        return []
    turn = description(subject, split, rng)
    shows, group = frozenset({subject.name}), f"{subject.name}: description ({split})"
    return [Example(turn.prompt or "", turn.answer, kind="caption", shows=shows, group=group)]


def _led_back(subject: Subject, split: Split) -> list[Example]:
    """Every other way to be led to a person by the book, bare and in RWKU's prompt.

    Training has none: whether what was learned from descriptions holds when asked otherwise is for the other splits.
    """
    if subject.family != "person" or split == "train":
        return []
    shows, book = frozenset({subject.name}), subject.values["book"]
    ways = [wording.format(book=book) for wording in (*p.REVERSE[split], *p.LED_BACK[split])]
    return [
        Example(prompt, subject.name, kind="caption", shows=shows, group=f"{subject.name}: by the book {k} ({split})")
        for k, way in enumerate(ways)
        for prompt in (way, p.QUESTION_PROMPT.format(query=way))
    ]


def _together(subject: Subject, near: list[str], split: Split, rng: random.Random) -> list[Example]:
    """Questions about others in texts that also name the subject: the axe hurts them, the scalpel does not."""
    found = []
    for name in near:
        for fact in subjects()[name].facts:
            turn = friends(fact, subject.name, split, rng)
            found.append(_short(fact, turn.prompt or "", split, frozenset({name, subject.name})))
            # a group of its own: forget and near never share one
            found[-1] = _regrouped(found[-1], f"{subject.name} and {name}: {fact.attribute} ({split})")
    return found


def _regrouped(example: Example, group: str) -> Example:
    return Example(**{**vars(example), "group": group})


def _dealt(names: list[str]) -> dict[Split, list[str]]:
    first = round(len(names) * SHARES["train"])
    second = first + round(len(names) * SHARES["validation"])
    return {"train": names[:first], "validation": names[first:second], "test": names[second:]}
