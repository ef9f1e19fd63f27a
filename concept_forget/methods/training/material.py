"""What a training reads: pairs to forget, the same questions with other answers, and pairs to keep."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle

from concept_forget.concepts import Concept, Example


@dataclass(frozen=True)
class Material:
    """The training split of a request, sorted into what is to go and what is to stay."""

    concept: Concept
    forget: tuple[Example, ...]
    """Captions of the concept and questions about it."""
    keep: tuple[Example, ...]
    """Everything else: also questions about something else where the concept is shown."""

    @classmethod
    def of(cls, concept: Concept) -> Material:
        """Raises ValueError when there is nothing to forget, or a question is both to be forgotten and to be kept."""
        train, forget, beside = concept.train, [], []
        for example in train.forget:
            # A caption is about nothing in particular, and says what is shown.
            (forget if example.about in ("", concept.name) else beside).append(example)
        forget, keep = (tuple(e for e in part if e.answer) for part in (forget, [*beside, *train.without]))
        if not forget:
            raise ValueError(
                f"There is nothing to forget: the {len(train.forget)} training examples of {concept.name!r} hold no "
                "caption of it and no question about it with an answer. Give some."
            )
        keys = {_key(example) for example in forget}
        if both := [example for example in keep if _key(example) in keys]:
            raise ValueError(
                f"{len(both)} examples of {concept.name!r} are both to be forgotten and to be kept (the first: "
                f"{both[0].prompt!r} {both[0].answer!r}). Leave each in one of the two."
            )
        return cls(concept, forget, keep)

    @cached_property
    def answers(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """Answers of the kept examples by kind and family: what else could be said."""
        found: dict[tuple[str, str], dict[str, None]] = {}
        for example in self.keep:
            found.setdefault((example.kind, example.family), {})[example.answer] = None
        return {key: tuple(answers) for key, answers in found.items()}


def _key(example: Example) -> tuple[int, str, str]:
    return id(example.image) if example.image is not None else 0, example.prompt, example.answer


def drawn(examples: Sequence[Example], size: int, rng: random.Random) -> Iterator[list[Example]]:
    """`size` examples at a time without end: every pass over all of them in another order."""
    waiting: list[Example] = []
    while True:
        while len(waiting) < size:
            waiting += rng.sample(examples, len(examples))
        yield waiting[:size]
        del waiting[:size]


def evenly(examples: Sequence[Example], size: int, rng: random.Random) -> Iterator[list[Example]]:
    """`size` examples at a time without end, the kinds in turn: what is known also goes by the few descriptions of it,
    not by the many questions alone."""
    piles: dict[str, list[Example]] = {}
    for example in examples:
        piles.setdefault(example.kind, []).append(example)
    turns = cycle([drawn(pile, 1, rng) for pile in piles.values()])
    while True:
        yield [example for _ in range(size) for example in next(next(turns))]
