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

Tokens = Literal["all", "image", "text"]
"""Positions of a prompt: the picture's, the words', or both."""
Contrast = Literal["near", "without"]
"""What the concept is told apart from: others of its family (where there are none: as `without`), or everything."""


@dataclass(frozen=True)
class Method(ABC):
    """Settings of one way to remove a concept. `fit` leaves the model as it was, bit for bit, and returns the edit."""

    name: ClassVar[str]
    needs: ClassVar[Literal["features", "trace", "nothing"]] = "features"
    """What `where` should be: ranked features, a Localisation, or nothing."""

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
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}
        return {"method": self.name} | plain


class TokenActivations(NamedTuple):
    """Activations of a batch of groups at one site."""

    x: Float[Tensor, "b t d"]
    eligible: Bool[Tensor, "b t"]
    """Positions an edit may touch: what a gate looks at."""
    content: Bool[Tensor, "b t"]
    """Picture patches of a vision site, picture and text tokens of a text site: no CLS, special token or padding."""
    picture: Bool[Tensor, "b t"]
    """Where the picture is: every position of a vision site."""

    def only(self, tokens: Tokens) -> Bool[Tensor, "b t"]:
        """Positions of this kind, padding and special tokens among them."""
        return (
            torch.ones_like(self.picture) if tokens == "all" else self.picture if tokens == "image" else ~self.picture
        )


def group_activations(
    model: HookedModel, examples: Sequence[Example], site: Site, batch_size: int = 32, answered: bool = False
) -> Iterator[TokenActivations]:
    """Activations at a site, each picture once and each different text, in their order; the pass stops at the site.

    `answered`: with the expected answers behind the prompts. Batches never mix groups with and without a picture. Holds
    one batch at a time. Raises ValueError without examples.
    """
    groups = pictures_and_texts(examples)
    if not groups:
        raise ValueError("There is no picture (text) to read activations from; give at least one example.")
    for run in _runs(groups, batch_size):
        images = [e.image for e in run if e.image is not None]
        batch = model.prepare(
            [e.prompt for e in run], images or None, answers=[e.answer for e in run] if answered else None
        )
        read = model.run(batch, read=[site], logits=None)
        x = read.activations[site].detach()
        everything = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        eligible = read.tokens.eligible(site)
        eligible = everything if eligible is None else eligible.to(x.device)
        if site.tower == "text":
            content = (read.tokens.image_mask | read.tokens.text_mask).to(x.device)
            picture = read.tokens.image_mask.to(x.device)
        else:
            picture = everything
            content = torch.zeros_like(everything)
            content[:, read.tokens.patches(site).to(x.device)] = True
            content &= eligible
        yield TokenActivations(x, eligible, content, picture)


def pictures_and_texts(examples: Sequence[Example]) -> list[Example]:
    """The first example of every picture; but a text is its prompt, so of texts every different one."""
    texts = [example for example in examples if example.image is None]
    if not texts:
        return one_per_group(examples)
    pictures = one_per_group(example for example in examples if example.image is not None)
    different = {example.prompt: example for example in reversed(texts)}
    first = {id(example): example for example in (*pictures, *different.values())}
    return [first.pop(id(example)) for example in examples if id(example) in first]


def _runs(groups: list[Example], batch_size: int) -> Iterator[list[Example]]:
    """Consecutive groups that all have a picture or all have none, at most `batch_size` at a time."""
    start = 0
    for end in range(1, len(groups) + 1):
        here = groups[start].image is not None
        if end == len(groups) or end - start == batch_size or (groups[end].image is not None) != here:
            yield groups[start:end]
            start = end


def content_tokens(
    model: HookedModel,
    examples: Sequence[Example],
    site: Site,
    batch_size: int = 32,
    tokens: Tokens = "all",
    answered: bool = False,
) -> Iterator[Float[Tensor, "n d"]]:
    """The content tokens of `group_activations` (of one kind), batch by batch, in at least float32."""
    for read in group_activations(model, examples, site, batch_size, answered):
        yield read.x[read.content & read.only(tokens)].float()


def mean_activation(
    model: HookedModel, examples: Sequence[Example], site: Site, batch_size: int = 32, tokens: Tokens = "all"
) -> Float[Tensor, " d"]:
    """Mean over the content tokens (of one kind) of all groups."""
    total, count = None, 0
    for found in content_tokens(model, examples, site, batch_size, tokens):
        part = found.double().sum(0)
        total = part if total is None else total + part
        count += len(found)
    assert total is not None
    return (total / max(count, 1)).float()


def contrast_examples(examples: ExampleSet, contrast: Contrast) -> tuple[Example, ...]:
    """What the concept is told apart from."""
    return examples.near if contrast == "near" and examples.near else examples.without


def site_of(model: HookedModel, where: FeatureSet | None, otherwise: str = "") -> Site:
    """The site of the ranked features, else the one written in `otherwise`, else the model's default door."""
    if where is not None:
        return where.site
    return Site.parse(otherwise) if otherwise else model.reading_site


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


class GateTables(NamedTuple):
    """What a gate is fitted on and calibrated with: features of all pictures (texts), and which have the concept."""

    rows: FeatureRows
    train: tuple[Float[Tensor, "n m"], Bool[Tensor, " n"]]
    validation: tuple[Float[Tensor, "v m"], Bool[Tensor, " v"]]

    def gate(self, false_fire: float = 0.01) -> ImageGate:
        """The gate fitted on train, its threshold at this share of false fires on validation (`fit_gate`)."""
        fit = fit_gate(*self.train, *self.validation, false_fire=false_fire)
        return ImageGate(self.rows, fit.weights, fit.threshold, fit.recall, fit.false_fire)

    def gates(self, false_fires: Sequence[float]) -> dict[float, ImageGate]:
        """One gate for each share, strictest first, as far as each finds more of the concept than the one before."""
        found: dict[float, ImageGate] = {}
        for share in sorted(false_fires):
            gate = self.gate(share)
            if not found or gate.recall > list(found.values())[-1].recall:
                found[share] = gate
        return found


def gate_tables(
    model: HookedModel,
    concept: Concept,
    site: Site,
    rows: FeatureRows,
    batch_size: int = 32,
    tokens: Tokens = "all",
) -> GateTables:
    """The readings behind every gate on these rows at this site, which are the work; calibrating is cheap."""

    def table(examples: ExampleSet) -> tuple[Tensor, Tensor]:
        parts = {
            shown: gate_features(model, some, site, rows, batch_size, tokens)
            for shown, some in ((True, examples.forget), (False, examples.without))
            if some
        }
        labels = [torch.full((len(part),), shown) for shown, part in parts.items()]
        return torch.cat([*parts.values()]), torch.cat(labels)

    return GateTables(rows, table(concept.train), table(concept.validation))


def gate_features(
    model: HookedModel,
    examples: Sequence[Example],
    site: Site,
    rows: FeatureRows,
    batch_size: int = 32,
    tokens: Tokens = "all",
) -> Float[Tensor, "n m"]:
    """Mean and maximum of every row's activation in every picture (text): what a gate on these rows decides by."""
    return torch.cat(
        [
            ImageGate.features(_rows_like(rows, read.x), read.x, read.eligible & read.only(tokens)).float().cpu()
            for read in group_activations(model, examples, site, batch_size)
        ]
    )


def gate_for(
    model: HookedModel,
    concept: Concept,
    site: Site,
    rows: FeatureRows,
    false_fire: float = 0.01,
    batch_size: int = 32,
) -> ImageGate:
    """An image gate on these rows at this site: fitted on train, calibrated on validation at `false_fire`."""
    return gate_tables(model, concept, site, rows, batch_size).gate(false_fire)


def _rows_like(rows: FeatureRows, x: Tensor) -> FeatureRows:
    return FeatureRows(*(part.to(x.device, torch.float32) for part in rows))
