"""Difference of means: one direction, projected out or walked back along."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from concept_forget.concepts import ForgetRequest
from concept_forget.directions import FeatureSet
from concept_forget.edits import ImageGate, Shift, SubspaceErase
from concept_forget.methods.base import (
    Contrast,
    Method,
    contrast_examples,
    gate_for,
    mean_activation,
    ranked,
    site_of,
)
from concept_forget.model import HookedModel
from concept_forget.sites import Site


@dataclass(frozen=True)
class DiffMeans(Method):
    """Along v = mean(forget) - mean(contrast): project onto the contrast's mean, or shift by -v.

    v is the mean direction of Marks and Tegmark (2023) and steering work; means are over patches (text: tokens) of the
    training groups. Needs no dictionary: without ranked features it works at the model's reading site.
    """

    contrast: Contrast = "near"
    action: Literal["project", "shift"] = "project"
    strength: float = 1.0
    """Share of the way to the contrast's mean; 2 reflects at it."""
    gated: bool = False
    """Behind an image gate on the ranked features, or where there are none on v itself."""
    gate_k: int = 32
    """Number of ranked features the gate looks at."""
    false_fire: float = 0.01
    """Share of validation groups without the concept that may open the gate."""

    name: ClassVar[str] = "diff_means"

    def fit(self, model: HookedModel, request: ForgetRequest, where: FeatureSet | None) -> SubspaceErase | Shift:
        """The edit. Raises ValueError when the two means are equal."""
        forget, other = self._means(model, request, where)
        gate = self._gate(model, request, where, forget - other) if self.gated else None
        return self._edit(site_of(model, where), forget, other, gate)

    def grid(self) -> tuple[DiffMeans, ...]:
        """Ungated (unless this one is gated) and gated, projected and shifted, to the mean and beyond."""
        others = [replace(self, gated=True, action=a, strength=s) for a in ("project", "shift") for s in (1.0, 2.0)]
        if not self.gated:
            others = [replace(self, action="project", strength=s) for s in (1.0, 2.0)] + others
        return (self, *(other for other in others if other != self))

    def fit_grid(
        self, model: HookedModel, request: ForgetRequest, where: FeatureSet | None
    ) -> Iterator[tuple[DiffMeans, SubspaceErase | Shift]]:
        """Every member of the grid with its edit; the readings, which are the work, are made once."""
        forget, other = self._means(model, request, where)
        gate = self._gate(model, request, where, forget - other)
        for method in self.grid():
            yield method, method._edit(site_of(model, where), forget, other, gate if method.gated else None)

    def _means(
        self, model: HookedModel, request: ForgetRequest, where: FeatureSet | None
    ) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
        train, site = request.concept.train, site_of(model, where)
        other = contrast_examples(train, self.contrast)
        return mean_activation(model, train.forget, site), mean_activation(model, other, site)

    def _gate(
        self, model: HookedModel, request: ForgetRequest, where: FeatureSet | None, vector: Float[Tensor, " d"]
    ) -> ImageGate:
        rows = ImageGate.directions(vector[None]) if where is None else ranked(self, where, self.gate_k).rows
        return gate_for(model, request.concept, site_of(model, where), rows, self.false_fire)

    def _edit(
        self, site: Site, forget: Float[Tensor, " d"], other: Float[Tensor, " d"], gate: ImageGate | None
    ) -> SubspaceErase | Shift:
        if self.action == "shift":
            return Shift(site, other - forget, gate, self.strength)
        return replace(SubspaceErase.of(site, (forget - other)[None], other, gate), strength=self.strength)
