"""RMU: activations about the concept are led to a random direction, all others held where they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from concept_forget.methods.training.layered import Layered
from concept_forget.methods.training.reading import Step


@dataclass(frozen=True)
class Rmu(Layered):
    """L = ||h(forget) - c u||^2 + retain * ||h(keep) - h0(keep)||^2 per coordinate (Li et al. 2024, eqs. 1 and 2).

    h are residual activations after layer `layer`, u a random unit vector with entries >= 0, fixed for a training, and
    c = steer times the mean norm of h0(forget) (adaptive RMU, Dang et al. 2024): a number that fits models of all
    widths. Only the MLPs of that layer and the two before it learn. Raises NoSuchSite when there is no such layer.
    """

    steer: float = 2.0
    retain: float = 10.0

    name: ClassVar[str] = "rmu"

    def loss(self, step: Step) -> Float[Tensor, ""]:
        """Means over every position of prompts and answers."""
        site = self.site(step.reader.model)
        h, kept = step.activations("forget", site), step.activations("keep", site)
        if "target" not in step.memory:
            unit = torch.nn.functional.normalize(torch.rand(h.shape[-1]), dim=0).to(h.device)
            step.memory["target"] = unit * self.steer * step.before.activations("forget", site).norm(dim=-1).mean()
        return rmu(h, step.memory["target"], kept, step.before.activations("keep", site), self.retain)


def rmu(
    h: Float[Tensor, "n d"],
    target: Float[Tensor, " d"],
    kept: Float[Tensor, "m d"],
    before: Float[Tensor, "m d"],
    retain: float,
) -> Float[Tensor, ""]:
    """mean (h - target)^2 + retain * mean (kept - before)^2."""
    return (h - target).square().mean() + retain * (kept - before).square().mean()
