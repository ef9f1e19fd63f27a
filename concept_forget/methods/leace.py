"""LEACE: the least change after which no linear classifier tells the concept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from concept_forget.concepts import ForgetRequest
from concept_forget.directions import FeatureSet
from concept_forget.edits import ImageGate, LeaceErase
from concept_forget.methods.base import (
    Contrast,
    Method,
    content_tokens,
    contrast_examples,
    gate_for,
    ranked,
    site_of,
)
from concept_forget.model import HookedModel


@dataclass(frozen=True)
class Leace(Method):
    """LEACE (Belrose et al. 2023) on tokens labelled by whether their picture (text) has the concept.

    What is guarded is the label of a token, and, in pictures of equally many tokens, of the mean over them. Needs no
    dictionary: without ranked features it works at the model's reading site.
    """

    contrast: Contrast = "without"
    gated: bool = False
    """Behind an image gate on the ranked features, or where there are none on LEACE's own direction."""
    gate_k: int = 32
    """Number of ranked features the gate looks at."""
    false_fire: float = 0.01
    """Share of validation groups without the concept that may open the gate."""

    name: ClassVar[str] = "leace"

    def fit(self, model: HookedModel, request: ForgetRequest, where: FeatureSet | None) -> LeaceErase:
        """The edit. Raises ValueError when nothing linear tells the concept at this site."""
        edit = self._erase(model, request, where)
        return replace(edit, gate=self._gate(model, request, where, edit)) if self.gated else edit

    def grid(self) -> tuple[Leace, ...]:
        """Against everything and against the neighbours, ungated and gated."""
        others = [replace(self, contrast=c, gated=g) for c in ("without", "near") for g in (False, True)]
        return (self, *(other for other in others if other != self))

    def fit_grid(
        self, model: HookedModel, request: ForgetRequest, where: FeatureSet | None
    ) -> Iterator[tuple[Leace, LeaceErase]]:
        """Every member of the grid with its edit; every eraser, and every gate, is fitted once."""
        edits: dict[str, LeaceErase] = {}
        gates: dict[str, ImageGate] = {}
        for method in self.grid():
            if method.contrast not in edits:
                edits[method.contrast] = method._erase(model, request, where)
            edit, key = edits[method.contrast], "" if where is not None else method.contrast
            if method.gated and key not in gates:
                gates[key] = method._gate(model, request, where, edit)
            yield method, replace(edit, gate=gates[key]) if method.gated else edit

    def _erase(self, model: HookedModel, request: ForgetRequest, where: FeatureSet | None) -> LeaceErase:
        from concept_erasure import LeaceFitter

        train, site = request.concept.train, site_of(model, where)
        fitter: LeaceFitter | None = None
        for label, examples in ((1.0, train.forget), (0.0, contrast_examples(train, self.contrast))):
            for tokens in content_tokens(model, examples, site):
                if fitter is None:
                    # The default svd_tol of 0.01 drops a concept that few tokens carry, and erases nothing at all.
                    fitter = LeaceFitter(tokens.shape[1], 1, device=tokens.device, dtype=torch.float64, svd_tol=1e-6)
                fitter.update(tokens, torch.full((len(tokens), 1), label, device=tokens.device))
        assert fitter is not None
        eraser = fitter.eraser
        left, right = eraser.proj_left.float().cpu(), eraser.proj_right.float().cpu()
        if not (left.abs().sum() > 0 and right.abs().sum() > 0):
            raise ValueError(f"LEACE found nothing linear that tells {request.concept.name!r} at {site}; try another.")
        return LeaceErase(site, left, right, fitter.mean_x.float().cpu())

    def _gate(
        self, model: HookedModel, request: ForgetRequest, where: FeatureSet | None, edit: LeaceErase
    ) -> ImageGate:
        rows = ImageGate.directions(edit.right) if where is None else ranked(self, where, self.gate_k).rows
        return gate_for(model, request.concept, edit.site, rows, self.false_fire)
