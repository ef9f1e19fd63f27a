"""The text world's sets about one subject, in RWKU's files and keys."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Literal

from concept_forget.worlds.splits import Split
from concept_forget.worlds.text import probes
from concept_forget.worlds.text.passages import passages
from concept_forget.worlds.text.people import Fact, Subject, find, members, subjects
from concept_forget.worlds.text.probes import ADVERSARIAL, Probe, kinds_of
from concept_forget.worlds.text.skills import TASKS, Task, skill

Distance = Literal["shares", "town", "far"]
DISTANCES: tuple[Distance, ...] = ("shares", "town", "far")
"""From near to far: shares at least two attributes, only the town, nothing at all."""


@cache
def neighbours(name: str) -> Mapping[Distance, tuple[str, ...]]:
    """The other members of a subject's family by what they share with it; who shares one other thing is left out.

    For a place the "town" part is empty. Raises LookupError for an unknown name.
    """
    subject = find(name)
    found: dict[Distance, list[str]] = {distance: [] for distance in DISTANCES}
    for other in map(subjects().__getitem__, members(subject.family)):
        if other.name == subject.name:
            continue
        shared = subject.shared(other)
        home = subject.values.get("birthplace")
        if shared >= 2:
            found["shares"].append(other.name)
        elif home is not None and other.values["birthplace"] == home:
            found["town"].append(other.name)
        elif shared == 0:
            found["far"].append(other.name)
    return {distance: tuple(names) for distance, names in found.items()}


def cloze(facts: Iterable[Fact], split: Split = "test") -> list[Probe]:
    """Level 1: every sentence of a split about each fact, its value left out."""
    return [
        Probe(query, f.value, "1", "cloze", f.subject, f.attribute) for f in facts for query in probes.clozes(f, split)
    ]


def questions(facts: Iterable[Fact], split: Split = "test") -> list[Probe]:
    """Level 2: every question of a split about each fact."""
    return [
        Probe(query, f.value, "2", "question", f.subject, f.attribute)
        for f in facts
        for query in probes.questions(f, split)
    ]


def adversarial(facts: Iterable[Fact], split: Split = "test", each: int = 1, seed: int = 0) -> list[Probe]:
    """Level 3: `each` queries of each of the nine types about each fact, those that come out equal once."""
    found: dict[Probe, None] = {}
    for fact in facts:
        rng = random.Random(f"{seed}/{split}/{fact}")
        for kind in kinds_of(subjects()[fact.subject]):
            found.update(dict.fromkeys(ADVERSARIAL[kind](fact, split, rng) for _ in range(each)))
    return list(found)


def utility(split: Split = "test", each: int = 15, seed: int = 0) -> list[Task]:
    """`each` tasks of every skill, none twice. Raises ValueError when a skill has not so many."""
    rng = random.Random(f"{seed}/{split}/skills")
    found: dict[Task, None] = {}
    for task in TASKS:
        wanted = len(found) + each
        for _ in range(100 * each):
            if len(found) < wanted:
                found[skill(task, split, rng)] = None
        if len(found) < wanted:
            raise ValueError(f"There are not {each} different tasks of {task} in {split}; ask for fewer.")
    return list(found)


def rwku(name: str, split: Split = "test", people: int = 6, seed: int = 0) -> dict[str, list[dict[str, Any]]]:
    """Everything about one target under the names of RWKU's files, each a list of rows with RWKU's keys.

    Neighbours are `people` of each distance; their rows carry `neighbor` (RWKU's key) and `distance` (ours).
    `forget_mia` / `retain_mia` are passages that training read about the target / about others, as in RWKU;
    `forget_unseen` / `retain_unseen` are their like that it never read. `utility` holds the skills. Raises LookupError
    for an unknown name.
    """
    subject = find(name)
    rng = random.Random(f"{seed}/{subject.name}")
    found: dict[str, list[dict[str, Any]]] = {
        "forget_level1": _rows(cloze(subject.facts, split)),
        "forget_level2": _rows(questions(subject.facts, split)),
        "forget_level3": _rows(adversarial(subject.facts, split, seed=seed)),
        "neighbor_level1": [],
        "neighbor_level2": [],
    }
    for distance, names in neighbours(subject.name).items():
        for other in rng.sample(names, min(people, len(names))):
            facts = subjects()[other].facts
            extra = {"neighbor": other, "distance": distance, "subject": subject.name}
            found["neighbor_level1"] += [row | extra for row in _rows(cloze(facts, split))]
            found["neighbor_level2"] += [row | extra for row in _rows(questions(facts, split))]
    if subject.family == "person":
        others = rng.sample([other for other in members("person") if other != subject.name], people)
        for seen, ending in ((True, "mia"), (False, "unseen")):
            found[f"forget_{ending}"] = [passage.row() for passage in passages(subject.name, seen)]
            found[f"retain_{ending}"] = [passage.row() for other in others for passage in passages(other, seen)]
    found["utility"] = [task.row() | {"subject": subject.name} for task in utility(split, seed=seed)]
    return found


def facts_of(names: Iterable[str]) -> list[Fact]:
    """All facts about these subjects. Raises LookupError for an unknown name."""
    return [fact for name in names for fact in _subject(name).facts]


def _subject(name: str) -> Subject:
    return subjects()[name] if name in subjects() else find(name)


def _rows(found: Iterable[Probe]) -> list[dict[str, Any]]:
    return [dict(probe.row()) for probe in found]
