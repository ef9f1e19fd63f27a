"""UNDIAL: distil from oneself, with the token that is to be forgotten pushed down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot

from concept_forget.methods.training.base import WeightMethod
from concept_forget.methods.training.reading import Step
from concept_forget.teacher import Told


@dataclass(frozen=True)
class Undial(WeightMethod):
    """L = CE(softmax(logits0 - beta onehot(y)), p) over the answer tokens to forget + retain * NLL(keep).

    logits0 are the untouched model's (Dong et al. 2024, eq. 4). Bounded: at its minimum the model says what it would
    have said without that token. The published loss has no retain term.
    """

    beta: float = 10.0
    retain: float = 0.0

    name: ClassVar[str] = "undial"
    keeps: ClassVar[bool] = False

    def loss(self, step: Step) -> Float[Tensor, ""]:
        """Means over answer tokens; prompt and padding are no part of it."""
        loss = undial(step.before.forget, step.forget, self.beta)
        return loss + self.retain * step.keep.nll if self.retain else loss


def undial(before: Told, after: Told, beta: float) -> Float[Tensor, ""]:
    """Cross-entropy of `after` against `before` with the logit of each true token lowered by beta."""
    lowered = before.logits - beta * one_hot(before.ids, before.logits.shape[-1])
    return -(lowered.softmax(-1).detach() * after.logits.log_softmax(-1)).sum(-1).mean()
