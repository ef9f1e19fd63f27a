"""Steer: one constant vector added at a block of the text side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import ClassVar

from concept_forget.concepts import ForgetRequest
from concept_forget.directions import FeatureSet
from concept_forget.edits import Shift
from concept_forget.methods.base import Contrast, Means, Method, Tokens, at_depth, class_means
from concept_forget.model import HookedModel


@dataclass(frozen=True)
class Steer(Method):
    """x' = x - strength (mean(forget) - mean(contrast)) at every position of a block, whatever it reads.

    Constant steering (Turner et al. 2023; Rimsky et al. 2024). A bias can hold it: exact in the weights where the
    architecture has that bias. Without a gate it moves everything. Needs no dictionary.
    """

    contrast: Contrast = "near"
    depth: float = 0.5
    """Where on the text side, as a share of its blocks."""
    strength: float = 1.0
    tokens: Tokens = "all"
    """Which positions the means are of: the picture's, the words', or both."""

    name: ClassVar[str] = "steer"
    needs = "nothing"

    def fit(self, model: HookedModel, request: ForgetRequest, where: FeatureSet | None) -> Shift:  # noqa: ARG002
        """The edit."""
        return self._edit(model, request, {})

    def grid(self) -> tuple[Steer, ...]:
        """Early, halfway and late, each weak and strong."""
        others = [replace(self, depth=d, strength=s) for d, s in product((0.25, 0.5, 0.75), (1.0, 2.0, 4.0))]
        return (self, *(other for other in others if other != self))

    def fit_grid(
        self,
        model: HookedModel,
        request: ForgetRequest,
        where: FeatureSet | None,  # noqa: ARG002
    ) -> Iterator[tuple[Steer, Shift]]:
        """Every member of the grid with its edit; every place is read once."""
        known: Means = {}
        for method in self.grid():
            yield method, method._edit(model, request, known)

    def _edit(self, model: HookedModel, request: ForgetRequest, known: Means) -> Shift:
        site = at_depth(model, self.depth)
        forget, other = class_means(model, request.concept, site, self.contrast, self.tokens, known)
        return Shift(site, other - forget, strength=self.strength)
