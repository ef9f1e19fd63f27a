"""What is traced: a question the model answers, and what is needed to spoil it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool
from PIL import Image

from concept_forget.concepts import Example
from concept_forget.worlds import VOCABULARY, Scene, members, questions, sample
from concept_forget.worlds.splits import Split


class ConceptNotShown(LookupError):
    """The picture does not show the concept, so there is nothing to spoil in it."""


@dataclass(frozen=True, eq=False)
class Case:
    """One clean question; what a corruption needs beyond it stands in the optional fields."""

    prompt: str
    answer: str | None = None
    """What a model that knows says; cases it answers otherwise are left out. None: whatever the model says."""
    image: Image.Image | None = None
    subject: str = ""
    """The concept's words in the prompt: what token replacement and noise spoil, and a token group of its own."""
    replacement: str = ""
    """For token replacement: words of the same length in tokens."""
    foil: str | None = None
    """What the model should say to the spoilt question. The log-probability is then measured against it."""
    counterpart: Image.Image | None = None
    """For minimal pairs: the same picture with the concept swapped."""
    mask: Bool[np.ndarray, "height width"] | None = None
    """Where the concept is in the picture."""
    group: str = ""
    """Cases of one group (entity, picture) are resampled together."""


def from_example(example: Example, subject: str = "") -> Case:
    """The case of one question of an example set."""
    return Case(example.prompt, example.answer, example.image, subject or "", group=example.group)


def scene_case(
    scene: Scene, concept: str, other: str = "", ask: Literal["short", "yesno"] = "short", seed: int = 0
) -> Case:
    """A question about a concept in a scene, with its minimal pair: the same scene, that one concept swapped.

    `other` is what it becomes (default: by chance another of its family); `yesno` asks whether it is there, which puts
    the concept's words into the prompt. Raises ConceptNotShown when the scene lacks the concept.
    """
    if concept not in scene.labels.values():
        raise ConceptNotShown(
            f"The picture {scene.id} does not show {concept!r}; it shows {', '.join(scene.labels.values())}. "
            "Trace one of these, or a picture that shows the concept."
        )
    family = VOCABULARY[concept].family
    other = other or random.Random(f"{scene.id}/{seed}").choice([name for name in members(family) if name != concept])
    if other == concept or VOCABULARY.get(other) is None or VOCABULARY[other].family != family:
        raise ValueError(
            f"{concept!r} cannot be swapped for {other!r}: a minimal pair swaps it for another {family}, "
            f"one of {', '.join(name for name in members(family) if name != concept)}."
        )
    part = next(name for name in ("subject", "colour", "material") if getattr(scene.spec, name) == concept)
    swapped = Scene(replace(scene.spec, **{part: other}))
    wanted = {"short": (concept, other), "yesno": ("yes", "no")}[ask]
    example = next(e for e in questions(scene, seed) if (e.kind, e.about, e.answer) == (ask, concept, wanted[0]))
    return Case(
        prompt=example.prompt,
        answer=wanted[0],
        image=scene.image,
        subject=concept if ask == "yesno" else "",
        replacement=other if ask == "yesno" else "",
        foil=wanted[1],
        counterpart=swapped.image,
        mask=scene.masks[concept],
        group=scene.id,
    )


def world_cases(
    concept: str, count: int, seed: int = 0, split: Split = "test", ask: Literal["short", "yesno"] = "short"
) -> list[Case]:
    """`count` chance scenes of a split that show a concept, each with a question about it and its minimal pair."""
    return [scene_case(scene, concept, ask=ask, seed=seed) for scene in sample(split, count, seed, having=concept)]


def check_alike(cases: Sequence[Case]) -> None:
    """Raises ValueError unless there are cases and all or none have a foil: two measures have no common mean."""
    if not cases:
        raise ValueError("There is nothing to trace. Give at least one case.")
    foils = sum(case.foil is not None for case in cases)
    if foils not in (0, len(cases)):
        raise ValueError(
            f"{foils} of {len(cases)} cases have a foil: log-probabilities against a foil and without one have no "
            "common mean. Give all of them a foil, or none."
        )
