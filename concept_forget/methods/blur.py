"""Blur: the tokens that tell the concept become those of nobody in particular."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from concept_forget.concepts import Example, ForgetRequest, role
from concept_forget.directions import FeatureRows, FeatureSet
from concept_forget.edits import Replace
from concept_forget.methods.base import Method, content_tokens, contrast_examples, site_of
from concept_forget.model import HookedModel
from concept_forget.sites import Site

MOST = 20_000
"""Tokens of each kind that are read closely; more are drawn from by seed."""


class Telling(NamedTuple):
    """A direction that tells the concept's tokens, and what the others score on it."""

    site: Site
    direction: Float[Tensor, " d"]
    kept: Float[Tensor, " n"]
    """Scores of the validation tokens without the concept."""
    near: Float[Tensor, "m d"]
    """Training tokens of the neighbours, each different one once."""

    def threshold(self, false_fire: float) -> float:
        """What this share of the tokens without the concept exceeds."""
        return float(torch.quantile(self.kept, 1 - false_fire))


@dataclass(frozen=True)
class Blur(Method):
    """x' = the nearest of a few mean activations of the neighbours' tokens, where w . x tells the concept; x elsewhere.

    w is an L2 logistic regression between the content tokens of texts (pictures) about the concept and all others, its
    threshold a quantile of the others on validation: it finds the tokens that only the concept has, such as a name or
    what leads to it, in questions and in answers. Means over many neighbours know nothing of any of them, so the model
    goes on as if it had never heard of this one; what stands beside it in the same text keeps its own tokens. Single
    neighbours instead of means (`replace`) bring their own facts along. Needs no dictionary.
    """

    centres: int = 64
    """Mean activations to choose from: centres of k-means."""
    false_fire: float = 0.003
    """Share of the validation tokens without the concept that may be taken for it."""
    site: str = ""
    """Where, without ranked features; empty: the model's reading site."""

    name: ClassVar[str] = "blur"
    needs = "nothing"

    def fit(self, model: HookedModel, request: ForgetRequest, where: FeatureSet | None) -> Replace:
        """The edit. Raises ValueError when there is nothing to tell apart."""
        return self._edit(self._told(model, request, where), request.seed)

    def grid(self) -> tuple[Blur, ...]:
        """Few and many means, strict and loose."""
        others = [
            replace(self, centres=centres, false_fire=share)
            for share, centres in product((0.001, 0.003, 0.01), (16, 64, 256))
        ]
        return (self, *(other for other in others if other != self))

    def fit_grid(
        self, model: HookedModel, request: ForgetRequest, where: FeatureSet | None
    ) -> Iterator[tuple[Blur, Replace]]:
        """Every member of the grid with its edit; the tokens are read and told apart once."""
        told = self._told(model, request, where)
        for method in self.grid():
            yield method, method._edit(told, request.seed)

    def _told(self, model: HookedModel, request: ForgetRequest, where: FeatureSet | None) -> Telling:
        from sklearn.linear_model import LogisticRegression
        from threadpoolctl import threadpool_limits

        concept, train = request.concept, request.concept.train
        site = site_of(model, where, self.site)
        about = [example for example in train.forget if role(example, concept) != "COA" or example.image is not None]
        if not about or not train.without or not concept.validation.without:
            raise ValueError(
                f"Method 'blur' tells tokens of {concept.name!r} from others; it needs training examples of both and "
                "validation examples without it."
            )
        yes, no, kept, near = (
            _some(model, some, site, request.seed)
            for some in (about, train.without, concept.validation.without, contrast_examples(train, "near"))
        )
        x = torch.cat([yes, no])
        std = x.std(0).clamp_min(1e-6)
        model_of = LogisticRegression(class_weight="balanced", max_iter=300)
        with threadpool_limits(1):  # rounding depends on the number of threads, and the means that follow would too
            model_of.fit(((x - x.mean(0)) / std).numpy(), [1] * len(yes) + [0] * len(no))
        direction = torch.from_numpy(model_of.coef_[0]).float() / std
        return Telling(site, direction, kept @ direction, near.unique(dim=0))

    def _edit(self, told: Telling, seed: int) -> Replace:
        from sklearn.cluster import KMeans
        from threadpoolctl import threadpool_limits

        threshold = told.threshold(self.false_fire)
        near = told.near[told.near @ told.direction <= threshold]
        count = min(self.centres, len(near))
        with threadpool_limits(1):
            found = KMeans(count, n_init="auto", max_iter=20, random_state=seed).fit(near.numpy())
        bank = torch.from_numpy(found.cluster_centers_).float()
        back = told.direction / told.direction.square().sum()
        above = torch.tensor([-threshold])
        rows = FeatureRows(told.direction[None], above, torch.zeros(1), back[None])
        return Replace(told.site, rows, torch.zeros(1), bank)


def _some(model: HookedModel, examples: Sequence[Example], site: Site, seed: int) -> Float[Tensor, "n d"]:
    """At most MOST of the content tokens of them and their answers, drawn by seed, on the CPU."""
    tokens = torch.cat([part.cpu() for part in content_tokens(model, examples, site, answered=True)])
    return tokens[torch.randperm(len(tokens), generator=torch.Generator().manual_seed(seed))[:MOST]]
