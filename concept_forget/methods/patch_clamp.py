"""Feature clamp behind a gate per patch and feature."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from concept_forget.concepts import ForgetRequest
from concept_forget.directions import FeatureRows, FeatureSet
from concept_forget.edits import Action, FeatureClamp
from concept_forget.methods.base import Method, contrast_examples, gate_features, ranked
from concept_forget.model import HookedModel


@dataclass(frozen=True)
class PatchClamp(Method):
    """z_i -> gamma z_i at the patches (tokens) where z_i > t_i; below t_i nothing changes.

    t_i is a quantile, over training pictures (texts) of the neighbours, of the largest z_i in each: what so many of
    them never reach. Nothing is decided for the picture as a whole, so there is no gate that a picture of the concept
    slips past as one by being made smaller or set on a plain ground.
    """

    k: int = 16
    """Number of clamped features; all that are ranked where there are fewer."""
    gamma: float = -3.0
    """What is left of an activation above its threshold."""
    above: float = 0.25
    """Which quantile of the neighbours t_i is; 0.25: three quarters of their pictures exceed it somewhere."""

    def __post_init__(self) -> None:
        if not 0 <= self.above <= 1:
            raise ValueError(f"above={self.above}: give a quantile of the neighbours' pictures, in [0, 1].")

    name: ClassVar[str] = "patch_clamp"

    def fit(self, model: HookedModel, request: ForgetRequest, where: FeatureSet | None) -> FeatureClamp:
        """The edit. Raises ValueError without ranked features."""
        return self._above(where, neighbours(model, request, ranked(self, where, self.k)))

    def grid(self) -> tuple[PatchClamp, ...]:
        """Few and many features, weakly and strongly negated; first those that spare fewest of the neighbours.

        Of settings that do equally well on validation the first is chosen: here the one that acts on most patches.
        """
        others = [
            replace(self, k=k, gamma=gamma, above=above)
            for above in (0.25, 0.5, 0.75)
            for gamma in (-3.0, -2.0)
            for k in (16, 8)
        ]
        return (self, *(other for other in others if other != self))

    def fit_grid(
        self, model: HookedModel, request: ForgetRequest, where: FeatureSet | None
    ) -> Iterator[tuple[PatchClamp, FeatureClamp]]:
        """Every member of the grid with its edit; the neighbours are read once."""
        most = neighbours(model, request, ranked(self, where, max(method.k for method in self.grid())))
        for method in self.grid():
            yield method, method._above(where, most)

    def _above(self, where: FeatureSet | None, most: Float[Tensor, "n k"]) -> FeatureClamp:
        best = ranked(self, where, self.k)
        spared = torch.quantile(most[:, : len(best.indices)], self.above, dim=0).to(best.rows.threshold)
        rows: FeatureRows = best.rows._replace(threshold=torch.maximum(best.rows.threshold, spared))
        return FeatureClamp(best.site, rows, Action.scale(self.gamma))


def neighbours(model: HookedModel, request: ForgetRequest, best: FeatureSet) -> Float[Tensor, "n k"]:
    """The largest activation of each feature in each training picture (text) of the neighbours."""
    examples = contrast_examples(request.concept.train, "near")
    return gate_features(model, examples, best.site, best.rows)[:, len(best.indices) :]
