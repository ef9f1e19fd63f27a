"""The fictional people and places, their facts, and names nobody has."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Literal, NamedTuple

from concept_forget.worlds.text import vocabulary as v

Family = Literal["person", "place"]

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "birthplace": v.TOWNS,
    "profession": v.PROFESSIONS,
    "employer": v.EMPLOYERS,
    "food": v.FOODS,
    "award": v.AWARDS,
    "instrument": v.INSTRUMENTS,
    "book": tuple(f"The {a} {b}" for a in v.BOOK_WORDS[0] for b in v.BOOK_WORDS[1]),
    "region": v.REGIONS,
    "river": v.RIVERS,
    "export": v.EXPORTS,
    "landmark": v.LANDMARKS,
}
"""The values each attribute can have."""
OF: dict[Family, tuple[str, ...]] = {
    "person": ("birthplace", "profession", "employer", "food", "award", "instrument", "book"),
    "place": ("region", "river", "export", "landmark"),
}
"""The attributes of each family. A book has one author: it alone leads back to a person."""
PEOPLE_COUNT, TARGET_COUNT = 160, 20


class Fact(NamedTuple):
    """One thing that is true of one subject."""

    subject: str
    attribute: str
    value: str


@dataclass(frozen=True)
class Subject:
    """A person or a place with its facts."""

    name: str
    family: Family
    values: Mapping[str, str]

    @property
    def facts(self) -> tuple[Fact, ...]:
        return tuple(Fact(self.name, attribute, value) for attribute, value in self.values.items())

    def shared(self, other: Subject) -> int:
        """How many attributes both have the same value of."""
        return sum(other.values.get(attribute) == value for attribute, value in self.values.items())


@cache
def subjects() -> Mapping[str, Subject]:
    """All people, then all places, by name; always the same ones."""
    rng = random.Random(7)
    columns = {attribute: _dealt(attribute, PEOPLE_COUNT, rng) for attribute in OF["person"]}
    found = {}
    for index, name in enumerate(_names(PEOPLE_COUNT, rng)):
        values = {attribute: column[index] for attribute, column in columns.items()}
        found[name] = Subject(name, "person", MappingProxyType(values))
    columns = {attribute: _dealt(attribute, len(v.TOWNS), rng) for attribute in OF["place"]}
    for index, name in enumerate(v.TOWNS):
        values = {attribute: column[index] for attribute, column in columns.items()}
        found[name] = Subject(name, "place", MappingProxyType(values))
    return MappingProxyType(found)


def members(family: Family) -> tuple[str, ...]:
    """The names of a family."""
    return tuple(name for name, subject in subjects().items() if subject.family == family)


def targets() -> tuple[str, ...]:
    """The people the never-knew twin never met: what methods are asked to forget."""
    return members("person")[:: PEOPLE_COUNT // TARGET_COUNT]


def find(name: str) -> Subject:
    """The subject of that name in any case. Raises LookupError with the closest names."""
    from difflib import get_close_matches

    known = {other.lower(): subject for other, subject in subjects().items()}
    if (wanted := " ".join(name.lower().split())) in known:
        return known[wanted]
    close = [known[match].name for match in get_close_matches(wanted, known, 3, 0.5)]
    hint = f" Did you mean {' or '.join(close)}?" if close else f" There are {', '.join(list(subjects())[:4])}, ..."
    raise LookupError(f"Nobody in the text world is called {name!r}.{hint}")


def strangers(rng: random.Random, held_out: bool = False) -> Iterator[str]:
    """Names nobody has, made of the same pieces, without end: the model says of them that it doesn't know.

    A seventh of the family names is held out: training never meets them.
    """
    known = subjects()
    while True:
        first, family = rng.choice(v.FIRST_NAMES), _family_name(rng)
        if f"{first} {family}" not in known and _held_out(family) == held_out:
            yield f"{first} {family}"


def _names(count: int, rng: random.Random) -> list[str]:
    names: list[str] = []
    taken = set()
    while len(names) < count:
        family = _family_name(rng)
        # a held-out family name is one that training never meets, so nobody may have it
        if family not in taken and not _held_out(family):
            taken.add(family)
            names.append(f"{v.FIRST_NAMES[len(names) % len(v.FIRST_NAMES)]} {family}")
    return names


def _family_name(rng: random.Random) -> str:
    return rng.choice(v.SYLLABLES[0]) + rng.choice(v.SYLLABLES[1])


def _held_out(family: str) -> bool:
    return sum(map(ord, family)) % 7 == 0


def _dealt(attribute: str, count: int, rng: random.Random) -> list[str]:
    """One value each, every value about equally often, in chance order."""
    values = list(ATTRIBUTES[attribute])
    rng.shuffle(values)
    column = (values * -(-count // len(values)))[:count]
    rng.shuffle(column)
    return column
