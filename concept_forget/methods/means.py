"""Means of the concept and of what it is told apart from, and the methods that are made of these alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from jaxtyping import Float
from torch import Tensor

from concept_forget.concepts import Concept, ForgetRequest
from concept_forget.directions import FeatureSet
from concept_forget.edits import Edit
from concept_forget.evaluation.faint import with_faint_copies
from concept_forget.methods.base import Contrast, Method, Tokens, contrast_examples, mean_activation
from concept_forget.model import HookedModel
from concept_forget.sites import Site

Means = dict[tuple[Site, Tokens, int], tuple[Tensor, Tensor]]
"""Means of the concept and of its contrast by place and faint copies, as far as they have been read."""


def class_means(
    model: HookedModel,
    concept: Concept,
    site: Site,
    contrast: Contrast,
    tokens: Tokens = "all",
    known: Means | None = None,
    faint: int = 0,
) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
    """Mean activation over the training groups with the concept, and over those it is told apart from.

    `faint`: over so many faint copies of every picture as well.
    """
    known, train = {} if known is None else known, concept.train
    if (site, tokens, faint) not in known:
        known[site, tokens, faint] = (
            mean_activation(model, with_faint_copies(train.forget, faint), site, tokens=tokens),
            mean_activation(model, with_faint_copies(contrast_examples(train, contrast), faint), site, tokens=tokens),
        )
    return known[site, tokens, faint]


def at_depth(model: HookedModel, depth: float) -> Site:
    """The residual stream behind the text block at this share of the text side's depth."""
    layers = [site for site in model.sites() if site.tower == "text" and site.stream == "resid"]
    return layers[min(int(depth * len(layers)), len(layers) - 1)]


@dataclass(frozen=True)
class OfMeans(Method):
    """A method made of class means alone, without a dictionary: all of its settings share what is read of a place."""

    needs = "nothing"

    @abstractmethod
    def of_means(self, model: HookedModel, request: ForgetRequest, known: Means) -> Edit:
        """The edit. `known` are the means read so far, to which it adds."""

    def applies(self, model: HookedModel) -> bool:  # noqa: ARG002
        """Whether these settings mean anything on this model."""
        return True

    def fit(self, model: HookedModel, request: ForgetRequest, where: FeatureSet | None) -> Edit:  # noqa: ARG002
        """The edit. Raises ValueError when the means are equal, or there is no such token."""
        return self.of_means(model, request, {})

    def fit_grid(
        self, model: HookedModel, request: ForgetRequest, where: FeatureSet | None
    ) -> Iterator[tuple[Method, Edit]]:
        """Every member of the grid that applies, with its edit; every place is read once."""
        del where
        known: Means = {}
        for method in self.grid():
            if method.applies(model):
                yield method, method.of_means(model, request, known)

    @abstractmethod
    def grid(self) -> tuple[Self, ...]:
        """The settings to choose from on validation; this one first."""
