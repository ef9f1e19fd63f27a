"""Ablation: the concept's directions out of everything that writes on the text side."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import ClassVar

import torch

from concept_forget.concepts import ForgetRequest
from concept_forget.edits import StreamErase
from concept_forget.methods.base import Contrast, Tokens
from concept_forget.methods.means import Means, OfMeans, at_depth, class_means
from concept_forget.model import HookedModel


@dataclass(frozen=True)
class Ablation(OfMeans):
    """Directional ablation (Arditi et al. 2024): mean(forget) - mean(contrast) projected out of every residual writer.

    One direction per depth at which the text side is read; what begins the stream gets the contrast's mean there. It
    has an exact form in the weights, which a projection at one layer has not. Needs no dictionary.
    """

    contrast: Contrast = "near"
    depths: tuple[float, ...] = (0.5,)
    """Where the text side is read, as shares of its blocks."""
    tokens: Tokens = "all"
    """Which positions are read: the picture's, the words', or both."""

    name: ClassVar[str] = "ablation"

    def __post_init__(self) -> None:
        object.__setattr__(self, "depths", tuple(self.depths))

    def grid(self) -> tuple[Ablation, ...]:
        """One direction early, halfway and late, and all three; read from the picture's positions or from all."""
        depths = ((0.25,), (0.5,), (0.75,), (0.25, 0.5, 0.75))
        others = [replace(self, depths=d, tokens=t) for d, t in product(depths, dict.fromkeys((self.tokens, "image")))]
        return (self, *(other for other in others if other != self))

    def applies(self, model: HookedModel) -> bool:
        """Nothing can be read from pictures where there are none."""
        return model.has_vision or self.tokens != "image"

    def of_means(self, model: HookedModel, request: ForgetRequest, known: Means) -> StreamErase:
        sites = [at_depth(model, depth) for depth in self.depths]
        pairs = [class_means(model, request.concept, site, self.contrast, self.tokens, known) for site in sites]
        directions = torch.stack([forget - other for forget, other in pairs])
        return StreamErase.of(directions, torch.stack([other for _, other in pairs]).mean(0))
