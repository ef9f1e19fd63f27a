"""What is to be forgotten, and the examples that say what it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from PIL.Image import Image

Kind = Literal["short", "yesno", "caption"]
Role = Literal["UAd", "UAg", "IRA", "CRA", "COA"]


@dataclass(frozen=True)
class Example:
    """One thing to ask a model, with or without a picture, and what a model that knows would say."""

    prompt: str
    """The user's turn, without chat template and without image token."""
    answer: str
    """Expected answer: a bare name (short), "yes" / "no" (yesno) or a sentence (caption)."""
    image: Image | None = None
    kind: Kind = "short"
    about: str = ""
    """The concept the question asks about; empty for a caption."""
    family: str = ""
    """Family of `about`."""
    shows: frozenset[str] = frozenset()
    """Every concept that is in the picture (or text), as far as known."""
    aliases: tuple[str, ...] = ()
    """Other answers that count as `answer`."""
    group: str = ""
    """The picture or entity it comes from: splits and bootstraps keep a group together."""


class ExampleSet(NamedTuple):
    """Examples of one split. The three parts never share a group."""

    forget: tuple[Example, ...]
    """Groups that show the concept: questions about it, captions, and questions about everything else there (COA)."""
    near: tuple[Example, ...]
    """Groups that show another concept of its family: the hard negatives."""
    retain: tuple[Example, ...]
    """Groups that show nothing of its family."""

    @property
    def without(self) -> tuple[Example, ...]:
        """Near and retain together: everything that must stay as it is."""
        return self.near + self.retain


@dataclass(frozen=True)
class Concept:
    """A name, its family, and examples in three splits: fit on train, choose on validation, report on test."""

    name: str
    family: str
    train: ExampleSet
    validation: ExampleSet
    test: ExampleSet
    aliases: tuple[str, ...] = ()
    kin: tuple[str, ...] = ()
    """Others of its family, asked about or not: an answer that names one can be read."""

    @property
    def words(self) -> tuple[str, ...]:
        """The name and its aliases: a text that has one of them names the concept."""
        return (self.name, *self.aliases)

    @property
    def of(self) -> Literal["pictures", "texts"]:
        """What shows it."""
        return "texts" if self.test.forget[0].image is None else "pictures"


@dataclass(frozen=True)
class ForgetRequest:
    """What a method is asked to do: remove `concept`, with this seed for every random choice."""

    concept: Concept
    seed: int = 0


def role(example: Example, concept: Concept) -> Role | None:
    """Which metric an example counts for when `concept` is forgotten, or None (it counts for none).

    UAd: yes/no about the concept where it is shown; UAg: captions there; COA: questions about anything else there;
    IRA: other concepts of its family where it is not shown; CRA: other families where it is not shown.
    """
    shown = concept.name in example.shows
    if example.kind == "caption":
        return "UAg" if shown else None
    if example.about == concept.name:
        return "UAd" if shown and example.kind == "yesno" else None
    if shown:
        return "COA"
    return "IRA" if example.family == concept.family else "CRA"


def one_per_group(examples: Iterable[Example]) -> list[Example]:
    """The first example of every group: the pictures (or texts) behind the questions, each once."""
    first: dict[str, Example] = {}
    for index, example in enumerate(examples):
        first.setdefault(example.group or f"#{index}", example)
    return list(first.values())
