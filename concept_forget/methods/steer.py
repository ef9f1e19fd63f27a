"""Steer: one constant vector added at a block of the text side."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import ClassVar

from concept_forget.concepts import ForgetRequest
from concept_forget.edits import Shift
from concept_forget.methods.base import Contrast, Tokens
from concept_forget.methods.means import Means, OfMeans, at_depth, class_means
from concept_forget.model import HookedModel


@dataclass(frozen=True)
class Steer(OfMeans):
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

    def grid(self) -> tuple[Steer, ...]:
        """Early, halfway and late, each weak and strong."""
        others = [replace(self, depth=d, strength=s) for d, s in product((0.25, 0.5, 0.75), (1.0, 2.0, 4.0))]
        return (self, *(other for other in others if other != self))

    def of_means(self, model: HookedModel, request: ForgetRequest, known: Means) -> Shift:
        site = at_depth(model, self.depth)
        forget, other = class_means(model, request.concept, site, self.contrast, self.tokens, known)
        return Shift(site, other - forget, strength=self.strength)
