"""Ablation: the concept's directions out of everything that writes on the text side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import ClassVar

import torch

from concept_forget.concepts import ForgetRequest
from concept_forget.directions import FeatureSet
from concept_forget.edits import StreamErase
from concept_forget.methods.base import Contrast, Means, Method, Tokens, at_depth, class_means
from concept_forget.model import HookedModel


@dataclass(frozen=True)
class Ablation(Method):
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
    needs = "nothing"

    def __post_init__(self) -> None:
        object.__setattr__(self, "depths", tuple(self.depths))

    def fit(self, model: HookedModel, request: ForgetRequest, where: FeatureSet | None) -> StreamErase:  # noqa: ARG002
        """The edit. Raises ValueError when the means are equal, or there is no such token."""
        return self._edit(model, request, {})

    def grid(self) -> tuple[Ablation, ...]:
        """One direction early, halfway and late, and all three; read from the picture's positions or from all."""
        depths = ((0.25,), (0.5,), (0.75,), (0.25, 0.5, 0.75))
        others = [replace(self, depths=d, tokens=t) for d, t in product(depths, dict.fromkeys((self.tokens, "image")))]
        return (self, *(other for other in others if other != self))

    def fit_grid(
        self,
        model: HookedModel,
        request: ForgetRequest,
        where: FeatureSet | None,  # noqa: ARG002
    ) -> Iterator[tuple[Ablation, StreamErase]]:
        """Every member of the grid with its edit; every place is read once. Without pictures none is read from them."""
        known: Means = {}
        for method in self.grid():
            if model.has_vision or method.tokens != "image":
                yield method, method._edit(model, request, known)

    def _edit(self, model: HookedModel, request: ForgetRequest, known: Means) -> StreamErase:
        sites = [at_depth(model, depth) for depth in self.depths]
        pairs = [class_means(model, request.concept, site, self.contrast, self.tokens, known) for site in sites]
        directions = torch.stack([forget - other for forget, other in pairs])
        return StreamErase.of(directions, torch.stack([other for _, other in pairs]).mean(0))
