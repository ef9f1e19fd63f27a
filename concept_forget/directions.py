"""What the instruments hand back: the currency between the packages."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from concept_forget.sites import Site


class FeatureRows(NamedTuple):
    """The rows of a dictionary that k features need: `z = act(x @ encoder.T + bias)`, `x_hat += z @ decoder`.

    `act(p) = p * (p > threshold)`: ReLU has threshold 0, JumpReLU its own (Rajamanoharan et al. 2024, eq. 3). Input
    centring and scaling are folded in, so `x` is the raw activation.
    """

    encoder: Float[Tensor, "k d"]
    bias: Float[Tensor, " k"]
    threshold: Float[Tensor, " k"]
    decoder: Float[Tensor, "k d"]

    def encode(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... k"]:
        """Feature activations of raw activations: exactly what the whole dictionary gives for these features."""
        before = torch.nn.functional.linear(x, self.encoder, self.bias)
        return before * (before > self.threshold)


@runtime_checkable
class Dictionary(Protocol):
    """A sparse dictionary at a site. An SAELens SAE behind `saes.dictionary.SaeDictionary` is one."""

    site: Site
    d_in: int
    d_sae: int

    def encode(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... f"]: ...

    def decode(self, z: Float[Tensor, "... f"]) -> Float[Tensor, "... d"]: ...

    def rows(self, features: Int[Tensor, " k"]) -> FeatureRows: ...


@dataclass(frozen=True)
class Direction:
    """One direction at a site, with the mean of the activations it was fitted on."""

    site: Site
    vector: Float[Tensor, " d"]
    label: str = ""


@dataclass(frozen=True)
class FeatureSet:
    """Features of a dictionary ranked for a concept, best first, with the rows and statistics an edit needs."""

    site: Site
    indices: Int[Tensor, " k"]
    scores: Float[Tensor, " k"]
    rows: FeatureRows
    forget_mean: Float[Tensor, " k"]
    """Mean activation over the tokens of pictures (texts) that have the concept."""
    near_mean: Float[Tensor, " k"]
    """The same over those that show another concept of its family."""
    retain_mean: Float[Tensor, " k"]
    """The same over all without the concept."""
    score: str = ""
    """Name of the score that ranked them."""
    dictionary: Dictionary | None = field(default=None, compare=False, repr=False)
    """The whole dictionary, for the edits that need it (SAUCE mode); None in a recipe."""

    def top(self, k: int) -> FeatureSet:
        """The k best. Raises ValueError when k is not in 1..len."""
        if not 1 <= k <= len(self.indices):
            raise ValueError(f"top({k}): there are {len(self.indices)} ranked features; give 1..{len(self.indices)}.")
        return self.select(torch.arange(k))

    def select(self, order: Int[Tensor, " k"]) -> FeatureSet:
        """These entries (positions in the ranking, not feature numbers), in this order."""
        tensors = {n: getattr(self, n)[order] for n in ("indices", "scores", "forget_mean", "near_mean", "retain_mean")}
        return replace(self, rows=FeatureRows(*(part[order] for part in self.rows)), **tensors)


@dataclass(frozen=True)
class Localisation:
    """A map of how much each place matters for a concept: layer x position, with the labels of both axes."""

    values: Float[Tensor, "layers positions"]
    sites: tuple[Site, ...]
    positions: tuple[str, ...]
    instrument: str

    def top(self, k: int) -> list[tuple[Site, str, float]]:
        """The k places with the largest value."""
        best = self.values.flatten().topk(min(k, self.values.numel()))
        columns = self.values.shape[1]
        return [
            (self.sites[int(i) // columns], self.positions[int(i) % columns], float(v))
            for v, i in zip(best.values, best.indices, strict=True)
        ]
