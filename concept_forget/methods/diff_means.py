"""Difference of means: one direction, projected out or walked back along."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from concept_forget.concepts import ForgetRequest
from concept_forget.directions import FeatureSet
from concept_forget.edits import ImageGate, OnTokens, Shift, SiteEdit, SubspaceErase
from concept_forget.methods.base import (
    Contrast,
    GateTables,
    Method,
    Tokens,
    gate_tables,
    ranked,
    site_of,
)
from concept_forget.methods.means import class_means
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
    looser: tuple[float, ...] = ()
    """Larger shares for `grid` to try as well, where they let the gate find more of the concept's pictures."""
    faint: int = 0
    """Faint copies of every training picture (smaller, darker, paler, softer) that the means are over as well."""
    try_gates: bool = True
    """Whether `grid` tries it behind gates too."""
    site: str = ""
    """Where, without ranked features; empty: the model's reading site."""
    tokens: Tokens = "all"
    """At a text site: the picture's positions, the words', or both."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "looser", tuple(self.looser))

    name: ClassVar[str] = "diff_means"

    def fit(self, model: HookedModel, request: ForgetRequest, where: FeatureSet | None) -> SiteEdit:
        """The edit. Raises ValueError when the two means are equal."""
        forget, other = self._means(model, request, where)
        site = site_of(model, where, self.site)
        gate = self._tables(model, request, where, forget - other).gate(self.false_fire) if self.gated else None
        return self._edit(site, forget, other, gate)

    def grid(self) -> tuple[DiffMeans, ...]:
        """Ungated (unless this one is gated) and gated, strictly and looser; projected and shifted, also beyond."""
        first = replace(self, looser=())
        others = [
            replace(first, gated=True, action=a, strength=s, false_fire=share)
            for share in (self.false_fire, *self.looser)
            for a in ("project", "shift")
            for s in (1.0, 2.0)
            if self.gated or self.try_gates
        ]
        if not self.gated:
            others = [replace(first, action="project", strength=s) for s in (2.0, 1.0, 3.0)] + others
        return (first, *(other for other in others if other != first))

    def fit_grid(
        self, model: HookedModel, request: ForgetRequest, where: FeatureSet | None
    ) -> Iterator[tuple[DiffMeans, SiteEdit]]:
        """Every member of the grid with its edit; the readings are made once. Gates that find no more are left out."""
        forget, other = self._means(model, request, where)
        grid = self.grid()
        gates = {}
        if any(method.gated for method in grid):
            gates = self._tables(model, request, where, forget - other).gates((self.false_fire, *self.looser))
        for method in grid:
            if not method.gated or method.false_fire in gates:
                gate = gates[method.false_fire] if method.gated else None
                yield method, method._edit(site_of(model, where, self.site), forget, other, gate)

    def _means(
        self, model: HookedModel, request: ForgetRequest, where: FeatureSet | None
    ) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
        site = site_of(model, where, self.site)
        return class_means(model, request.concept, site, self.contrast, self.tokens, faint=self.faint)

    def _tables(
        self, model: HookedModel, request: ForgetRequest, where: FeatureSet | None, vector: Float[Tensor, " d"]
    ) -> GateTables:
        rows = ImageGate.directions(vector[None]) if where is None else ranked(self, where, self.gate_k).rows
        return gate_tables(model, request.concept, site_of(model, where, self.site), rows, tokens=self.tokens)

    def _edit(
        self, site: Site, forget: Float[Tensor, " d"], other: Float[Tensor, " d"], gate: ImageGate | None
    ) -> SiteEdit:
        if self.action == "shift":
            edit: Shift | SubspaceErase = Shift(site, other - forget, gate, self.strength)
        else:
            edit = replace(SubspaceErase.of(site, (forget - other)[None], other, gate), strength=self.strength)
        return edit if self.tokens == "all" else OnTokens(edit, self.tokens)
