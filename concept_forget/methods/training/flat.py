"""FLAT: towards a template and away from the true answer, both weighed by an f-divergence."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from concept_forget.methods.training.base import WeightMethod
from concept_forget.methods.training.reading import Step
from concept_forget.teacher import Told

Curve = Callable[[Tensor], Tensor]
DIVERGENCES: dict[str, tuple[Curve, Curve]] = {
    "kl": (lambda v: v, lambda v: torch.exp(v - 1)),
    "pearson": (lambda v: v, lambda v: v**2 / 4 + v),
    "js": (lambda v: math.log(2) - softplus(-v), lambda v: v + softplus(-v) - math.log(2)),
    "tv": (lambda v: v.tanh() / 2, lambda v: v.tanh() / 2),
    "jeffrey": (lambda v: v, lambda v: v + v**2 / 4 + v**3 / 16),
}
"""g* and f*(g*) by divergence: one for the template, one for the answer to forget (Wang et al. 2024, table 1)."""
REVERSED = ("reverse_kl", "hellinger", "neyman")


@dataclass(frozen=True)
class Flat(WeightMethod):
    """L = E[-g*(P(instead)) + f*(g*(P(forget)))], P(y) = mean over the answer's tokens of p(token) (FLAT, eq. 3).

    No retain data and no reference model. P is divided by the answer's own length, as the formula has it; the released
    code divides by the padded one. Raises ValueError for the three divergences whose g* falls: they would teach the
    answer and unteach the template.
    """

    divergence: str = "kl"

    name: ClassVar[str] = "flat"
    keeps: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.divergence in REVERSED:
            raise ValueError(
                f"FLAT with {self.divergence!r}: its g* falls with the probability, so the loss would push the "
                f"template down and the answer to be forgotten up. Give one of {', '.join(DIVERGENCES)}."
            )
        if self.divergence not in DIVERGENCES:
            raise ValueError(f"FLAT knows no divergence {self.divergence!r}; give one of {', '.join(DIVERGENCES)}.")

    def loss(self, step: Step) -> Float[Tensor, ""]:
        """Mean over pairs."""
        return flat(probability(step.instead), probability(step.forget), self.divergence).mean()


def flat(template: Float[Tensor, " b"], forget: Float[Tensor, " b"], divergence: str) -> Float[Tensor, " b"]:
    """-g*(P template) + f*(g*(P forget))."""
    pull, push = DIVERGENCES[divergence]
    return push(forget) - pull(template)


def probability(told: Told) -> Float[Tensor, " b"]:
    """The mean probability of each answer's tokens."""
    return told.means(told.logp.exp())
