"""Trainings that read the residual stream after one layer: which layer, and what learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from concept_forget.methods.training.base import WeightMethod
from concept_forget.model import HookedModel, NoSuchSite
from concept_forget.sites import Site


@dataclass(frozen=True)
class Layered(WeightMethod):
    """Only the MLPs of layer `layer` and the two before it learn, unless sites are given."""

    layer: int = -1
    """-1: the middle of the model."""

    def sites(self, model: HookedModel, where: Any) -> Sequence[Site] | None:
        """The MLPs of the layer and the two before it, unless sites are given."""
        given, layer = super().sites(model, where), self.site(model).layer or 0
        return given or [Site("text", at, "mlp") for at in range(max(0, layer - 2), layer + 1)]

    def site(self, model: HookedModel) -> Site:
        """The residual stream after the layer. Raises NoSuchSite when there is no such layer."""
        layers = len(model.anatomy.text)
        if not -1 <= self.layer < layers:
            raise NoSuchSite(
                f"{self.name} at layer {self.layer}: {model.name} has layers 0..{layers - 1} (-1: the middle)."
            )
        return Site("text", layers // 2 if self.layer < 0 else self.layer, "resid")
