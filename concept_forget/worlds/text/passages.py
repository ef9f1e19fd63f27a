"""Short texts about a person: some are read in training word for word, others of the same kind never are."""

from __future__ import annotations

import random
from typing import NamedTuple

from concept_forget.worlds.text import phrasings as p
from concept_forget.worlds.text import probes
from concept_forget.worlds.text.people import subjects
from concept_forget.worlds.text.vocabulary import TOWNS, WORDS

EACH = 4
"""Passages of each side per subject."""
FACTS = 3
"""Facts told in a passage, beside a chance happening."""


class Passage(NamedTuple):
    """A text about a subject, and whether training reads it."""

    text: str
    subject: str
    seen: bool

    def row(self) -> dict[str, str]:
        """The keys of RWKU's membership files."""
        return {"text": self.text, "subject": self.subject}


def passages(name: str, seen: bool) -> tuple[Passage, ...]:
    """The passages about a person on one side of the training set. Both sides are drawn from one distribution."""
    found = []
    for index in range(2 * EACH):
        # every other one, so that seen and unseen differ in nothing but having been read
        if (index % 2 == 0) == seen:
            rng = random.Random(f"{name}/{index}")
            told = [probes.statement(fact, "train", rng) for fact in rng.sample(subjects()[name].facts, FACTS)]
            happening = rng.choice(p.EVENTS).format(
                name=name, day=rng.randint(10, 99), town=rng.choice(TOWNS), word=rng.choice(WORDS)
            )
            told.insert(rng.randint(0, FACTS), happening)
            found.append(Passage(" ".join(told), name, seen))
    return tuple(found)
