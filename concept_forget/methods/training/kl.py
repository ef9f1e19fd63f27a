"""KL minimisation: up on what is to be forgotten, and on the rest say what was said before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from concept_forget.methods.training.base import WeightMethod
from concept_forget.methods.training.reading import Step
from concept_forget.teacher import Told


@dataclass(frozen=True)
class KlMinimisation(WeightMethod):
    """L = -NLL(forget) + retain * KL(p0 || p)(keep), p0 the untouched model (Maini et al. 2024)."""

    retain: float = 1.0

    name: ClassVar[str] = "kl"

    def loss(self, step: Step) -> Float[Tensor, ""]:
        """Means over answer tokens."""
        return -step.forget.nll + self.retain * divergence(step.before.keep, step.keep)


def divergence(before: Told, after: Told) -> Float[Tensor, ""]:
    """KL(before || after) of the next-token distributions, mean over the same tokens."""
    p0, p = before.logits.log_softmax(-1), after.logits.log_softmax(-1)
    return (p0.exp() * (p0 - p)).sum(-1).mean()
