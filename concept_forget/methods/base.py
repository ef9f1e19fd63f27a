"""What every method is, and the readings of a model that several of them share."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from concept_forget.concepts import Concept, Example, ExampleSet, ForgetRequest, one_per_group
from concept_forget.directions import FeatureRows, FeatureSet
from concept_forget.edits import Action, Edit, ImageGate, fit_gate
from concept_forget.model import HookedModel
from concept_forget.sites import Site

Contrast = Literal["near", "without"]
"""What the concept is told apart from: others of its family (where there are none: as `without`), or everything."""


@dataclass(frozen=True)
class Method(ABC):
    """Settings of one way to remove a concept. `fit` leaves the model as it was, bit for bit, and returns the edit."""

    name: ClassVar[str]

    @abstractmethod
    def fit(self, model: HookedModel, request: ForgetRequest, where: FeatureSet | None) -> Edit:
        """The edit that removes the concept, fitted on train and calibrated on validation."""

    def grid(self) -> tuple[Method, ...]:
        """The settings to choose from on validation; this one first."""
        return (self,)

    def fit_grid(
        self, model: HookedModel, request: ForgetRequest, where: FeatureSet | None
    ) -> Iterator[tuple[Method, Edit]]:
        """Every member of the grid with its edit; a method whose members share work overrides it."""
        for method in self.grid():
            yield method, method.fit(model, request, where)

    def settings(self) -> dict[str, Any]:
        """Name and settings as plain values, for a recipe and a report."""
        return {"method": self.name} | dataclasses.asdict(self)


class TokenActivations(NamedTuple):
    """Activations of a batch of groups at one site."""

    x: Float[Tensor, "b t d"]
    eligible: Bool[Tensor, "b t"]
    """Positions an edit may touch: what a gate looks at."""
    content: Bool[Tensor, "b t"]
    """Picture patches of a vision site, picture and text tokens of a text site: no CLS, special token or padding."""


def group_activations(
    model: HookedModel, examples: Sequence[Example], site: Site, batch_size: int = 32
) -> Iterator[TokenActivations]:
    """Activations at a site, each group once, in the order of its first example; the forward pass stops at the site.

    Batches never mix groups with and without a picture. Holds one batch at a time. Raises ValueError without examples.
    """
    groups = one_per_group(examples)
    if not groups:
        raise ValueError("There is no picture (text) to read activations from; give at least one example.")
    for run in _runs(groups, batch_size):
        images = [e.image for e in run if e.image is not None]
        batch = model.prepare([e.prompt for e in run], images or None)
        read = model.run(batch, read=[site], logits=None)
        x = read.activations[site].detach()
        everything = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        eligible = read.tokens.eligible(site)
        eligible = everything if eligible is None else eligible.to(x.device)
        if site.tower == "text":
            content = (read.tokens.image_mask | read.tokens.text_mask).to(x.device)
        else:
            content = torch.zeros_like(everything)
            content[:, read.tokens.patches(site).to(x.device)] = True
            content &= eligible
        yield TokenActivations(x, eligible, content)


def _runs(groups: list[Example], batch_size: int) -> Iterator[list[Example]]:
    """Consecutive groups that all have a picture or all have none, at most `batch_size` at a time."""
    start = 0
    for end in range(1, len(groups) + 1):
        here = groups[start].image is not None
        if end == len(groups) or end - start == batch_size or (groups[end].image is not None) != here:
            yield groups[start:end]
            start = end


def content_tokens(
    model: HookedModel, examples: Sequence[Example], site: Site, batch_size: int = 32
) -> Iterator[Float[Tensor, "n d"]]:
    """The content tokens of `group_activations`, batch by batch, in at least float32."""
    for read in group_activations(model, examples, site, batch_size):
        yield read.x[read.content].float()


def mean_activation(
    model: HookedModel, examples: Sequence[Example], site: Site, batch_size: int = 32
) -> Float[Tensor, " d"]:
    """Mean over the content tokens of all groups."""
    total, count = None, 0
    for tokens in content_tokens(model, examples, site, batch_size):
        part = tokens.double().sum(0)
        total = part if total is None else total + part
        count += len(tokens)
    assert total is not None
    return (total / max(count, 1)).float()


def contrast_examples(examples: ExampleSet, contrast: Contrast) -> tuple[Example, ...]:
    """What the concept is told apart from."""
    return examples.near if contrast == "near" and examples.near else examples.without


def site_of(model: HookedModel, where: FeatureSet | None) -> Site:
    """The site of the ranked features, else the model's default door."""
    return model.reading_site if where is None else where.site


def ranked(method: Method, where: FeatureSet | None, k: int) -> FeatureSet:
    """The k best features, all where fewer are ranked. Raises ValueError when there is no ranking at all."""
    if where is None:
        raise ValueError(
            f"Method {method.name!r} needs ranked features (a FeatureSet); rank those of a dictionary first."
        )
    return where.top(min(k, len(where.indices)))


def action_for(kind: Literal["zero", "scale", "limit"], gamma: float, features: FeatureSet) -> Action:
    """The action of these settings; `limit` holds every feature at its mean over the neighbours."""
    if kind == "limit":
        return Action.limit(features.near_mean)
    return Action.scale(gamma) if kind == "scale" else Action.zero()


def gate_for(
    model: HookedModel,
    concept: Concept,
    site: Site,
    rows: FeatureRows,
    false_fire: float = 0.01,
    batch_size: int = 32,
) -> ImageGate:
    """An image gate on these rows at this site: fitted on train, calibrated on validation at `false_fire`."""

    def table(examples: ExampleSet) -> tuple[Tensor, Tensor]:
        parts, labels = [], []
        for label, some in ((True, examples.forget), (False, examples.without)):
            for read in group_activations(model, some, site, batch_size) if some else ():
                here = ImageGate.features(_rows_like(rows, read.x), read.x, read.eligible)
                parts.append(here.float().cpu())
                labels.append(torch.full((len(here),), label))
        return torch.cat(parts), torch.cat(labels)

    fit = fit_gate(*table(concept.train), *table(concept.validation), false_fire=false_fire)
    return ImageGate(rows, fit.weights, fit.threshold, fit.recall, fit.false_fire)


def _rows_like(rows: FeatureRows, x: Tensor) -> FeatureRows:
    return FeatureRows(*(part.to(x.device, torch.float32) for part in rows))
