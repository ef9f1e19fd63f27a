"""Anchored: not to know is preferred to the answer, and what is kept is held in its activations, not in its words."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from concept_forget.concepts import Example
from concept_forget.methods.training.base import TEMPLATES
from concept_forget.methods.training.dpo import dpo
from concept_forget.methods.training.layered import Layered
from concept_forget.methods.training.material import Material
from concept_forget.methods.training.reading import Step


@dataclass(frozen=True)
class Anchored(Layered):
    """L = -(2/beta) E log sigmoid(beta (r(instead) - r(forget))) + retain * ||h(keep) - h0(keep)||^2 / ||h0(keep)||^2.

    r = log p - log p0 of an answer, h the residual stream after layer `layer` at every position of prompts and answers
    to keep, h0 that of the untouched model. Ours: the preference of IdkPO (`dpo`) finds the facts whole, where RMU only
    disturbs them; the anchor of RMU holds what is kept at dozens of positions a pair, where IdkPO asks for an answer's
    few tokens. Only the MLPs of that layer and the two before it learn. Raises NoSuchSite when there is no such layer.
    """

    rate: float = 3e-4
    """Of a model of millions, where it was developed; billions want less."""
    beta: float = 0.1
    retain: float = 100.0

    name: ClassVar[str] = "anchored"

    def answer(self, example: Example, material: Material, rng: random.Random) -> str:
        """Of a text that one does not know, yes/no or not: a no is a claim. Of a picture as the others do."""
        return rng.choice(TEMPLATES) if example.image is None else super().answer(example, material, rng)

    def loss(self, step: Step) -> Float[Tensor, ""]:
        """The first term is a mean over pairs, the second one over every position of prompts and answers."""
        site = self.site(step.reader.model)
        better = step.instead.total - step.before.instead.total
        worse = step.forget.total - step.before.forget.total
        drift = drifted(step.before.activations("keep", site), step.activations("keep", site))
        return dpo(better, worse, self.beta) + self.retain * drift


def drifted(before: Float[Tensor, "n d"], after: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """||after - before||^2 / ||before||^2 over all positions: a number that fits models of all widths."""
    return (after - before).square().sum() / before.square().sum()
