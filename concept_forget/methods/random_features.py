"""The same edit on features drawn at random: the control that says whether the choice of features matters."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from concept_forget.concepts import ForgetRequest
from concept_forget.directions import Dictionary, FeatureRows, FeatureSet
from concept_forget.edits import FeatureClamp
from concept_forget.methods.base import Method, content_tokens, contrast_examples, ranked
from concept_forget.methods.clamp import Clamp
from concept_forget.methods.dsg import Dsg
from concept_forget.methods.gated_clamp import GatedClamp
from concept_forget.methods.patch_clamp import PatchClamp
from concept_forget.model import HookedModel
from concept_forget.sites import Site

CANDIDATES = 256
"""Features looked at together when drawing; bounds memory to this many columns per token."""


@dataclass(frozen=True)
class RandomFeatures(Method):
    """The edit of `of` (gate and all) with as many other features, its change rescaled to equal mean norm.

    The features are drawn with the request's seed among those not ranked for the edit that fire on the training
    pictures of the concept: a feature silent there could not reach an equal norm. The norm is the mean over their
    tokens of ||x' - x||, before the gate.
    """

    of: Clamp | GatedClamp | PatchClamp | Dsg = field(default_factory=Clamp)

    name: ClassVar[str] = "random_features"

    def fit(self, model: HookedModel, request: ForgetRequest, where: FeatureSet | None) -> FeatureClamp:
        """The edit. Raises ValueError without ranked features, their dictionary, or enough other features that fire."""
        chosen = ranked(self, where, self.of.k)
        dictionary = chosen.dictionary
        if dictionary is None:
            raise ValueError("Random features are drawn from the dictionary; these came without it, so rank them anew.")
        edit = self.of.fit(model, request, where)
        forget, site = request.concept.train.forget, chosen.site
        drawn = _draw(model, request, dictionary, chosen.indices, site)
        rows = FeatureRows(*(part.cpu() for part in dictionary.rows(drawn)))
        action = edit.action
        if action.value is not None:
            other = contrast_examples(request.concept.train, "near")
            action = replace(action, value=_mean_features(model, other, rows, site))
        control = replace(edit, rows=rows, action=action)
        wanted, given = _mean_norms(model, forget, (edit, control))
        if given == 0:
            raise ValueError("The random features' change is zero on every training picture; draw with another seed.")
        return replace(control, strength=edit.strength * wanted / given)

    def settings(self) -> dict[str, Any]:
        """Name and settings, with those of the method it is the control of."""
        return {"method": self.name, "of": self.of.settings()}


def _draw(
    model: HookedModel, request: ForgetRequest, dictionary: Dictionary, chosen: Int[Tensor, " k"], site: Site
) -> Int[Tensor, " k"]:
    """As many other features as `chosen`, in random order, each firing on some token of the forget pictures."""
    generator = torch.Generator().manual_seed(request.seed)
    order = torch.randperm(dictionary.d_sae, generator=generator)
    order = order[~torch.isin(order, chosen.cpu())]
    found: list[Tensor] = []
    for candidates in order.split(CANDIDATES):
        rows, fires = dictionary.rows(candidates), torch.zeros(len(candidates), dtype=torch.bool)
        for tokens in content_tokens(model, request.concept.train.forget, site):
            fires |= (_on(rows, tokens).encode(tokens) != 0).any(0).cpu()
        found.append(candidates[fires])
        if sum(len(some) for some in found) >= len(chosen):
            return torch.cat(found)[: len(chosen)]
    raise ValueError(
        f"Only {sum(len(some) for some in found)} other features of the dictionary fire on the training pictures of "
        f"{request.concept.name!r}; the control of {len(chosen)} features needs as many. Clamp fewer features."
    )


def _mean_features(model: HookedModel, examples: Any, rows: FeatureRows, site: Site) -> Float[Tensor, " k"]:
    """Mean activation of these features over the content tokens."""
    total, count = torch.zeros(len(rows.bias), dtype=torch.float64), 0
    for tokens in content_tokens(model, examples, site):
        total += _on(rows, tokens).encode(tokens).double().sum(0).cpu()
        count += len(tokens)
    return (total / max(count, 1)).float()


def _mean_norms(model: HookedModel, examples: Any, edits: tuple[FeatureClamp, ...]) -> list[float]:
    """Mean over the content tokens of ||strength * sum_i (g(z_i) - z_i) d_i|| for each edit."""
    totals, count = [0.0] * len(edits), 0
    for tokens in content_tokens(model, examples, edits[0].site):
        for index, edit in enumerate(edits):
            here = edit.to(tokens.device, tokens.dtype)
            totals[index] += float((here.change(tokens) @ here.rows.decoder).norm(dim=-1).sum())
        count += len(tokens)
    return [total / max(count, 1) for total in totals]


def _on(rows: FeatureRows, x: Tensor) -> FeatureRows:
    return FeatureRows(*(part.to(x.device, x.dtype) for part in rows))
