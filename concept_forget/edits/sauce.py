"""SAUCE mode: the edit of the SAUCE paper as far as it is known, as a baseline."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from concept_forget.directions import Dictionary, FeatureRows
from concept_forget.edits.base import Gate, SiteEdit
from concept_forget.edits.parts import Parts, moved, working_dtype
from concept_forget.sites import Site


@dataclass(eq=False)
class RowsDictionary:
    """A dictionary given by all its rows: `encode` is that of `FeatureRows`, `decode(z) = z @ decoder + offset`."""

    site: Site
    all_rows: FeatureRows
    offset: Float[Tensor, " d"]
    d_in: int = field(init=False)
    d_sae: int = field(init=False)

    def __post_init__(self) -> None:
        self.d_sae, self.d_in = self.all_rows.encoder.shape

    @classmethod
    def of(cls, dictionary: Dictionary) -> RowsDictionary:
        """The rows of any dictionary, read through its protocol; exact for ReLU and JumpReLU."""
        rows = dictionary.rows(torch.arange(dictionary.d_sae))
        return cls(dictionary.site, rows, dictionary.decode(torch.zeros_like(rows.bias)).detach())

    def encode(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... f"]:
        return self.all_rows.encode(x)

    def decode(self, z: Float[Tensor, "... f"]) -> Float[Tensor, "... d"]:
        return z @ self.all_rows.decoder + self.offset

    def rows(self, features: Int[Tensor, " k"]) -> FeatureRows:
        return FeatureRows(*(part[features] for part in self.all_rows))

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> RowsDictionary:
        """The same dictionary with its tensors on this device."""
        rows = FeatureRows(*(part.to(device, dtype) for part in self.all_rows))
        return RowsDictionary(self.site, rows, self.offset.to(device, dtype))


@dataclass(frozen=True, eq=False)
class SauceEdit(SiteEdit):
    """Plain decode with scaled features: x' = decode(z'), z'_i = gamma z_i for the chosen features, else z_i.

    SAUCE (Geng, Li et al., ICCV 2025): negative gamma, no gate; the reconstruction error is not added back, so even
    gamma = 1 changes the model by what the dictionary cannot reconstruct. It needs the whole dictionary at inference,
    and a recipe of it holds the whole dictionary (encoder and decoder: 8 d f bytes, 0.5 GB at d = 1024, f = 65,536).
    """

    site: Site
    dictionary: Dictionary
    features: Int[Tensor, " k"]
    gamma: float = -0.5
    gate: Gate | None = None

    kind: ClassVar[str] = "sauce"

    def __post_init__(self) -> None:
        outside = self.features[(self.features < 0) | (self.features >= self.dictionary.d_sae)]
        if len(outside):
            raise ValueError(
                f"No such feature: {outside.tolist()[:5]}; the dictionary has features 0..{self.dictionary.d_sae - 1}."
            )

    def transform(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """The edited reconstruction at every position."""
        z = self.dictionary.encode(x.to(working_dtype(x))).clone()
        z[..., self.features] *= self.gamma
        return self.dictionary.decode(z).to(x.dtype)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> SauceEdit:
        """The same edit with its tensors on this device; a dictionary that cannot move (no `to`) stays where it is."""
        dictionary: Any = self.dictionary
        if hasattr(dictionary, "to"):
            dictionary = dictionary.to(device, dtype)
        return replace(self, dictionary=dictionary, features=self.features.to(device), gate=moved(self.gate, device))

    def to_parts(self) -> Parts:
        """Settings and tensors, for a recipe: with the whole dictionary."""
        whole = RowsDictionary.of(self.dictionary)
        tensors = {f"rows.{name}": part for name, part in whole.all_rows._asdict().items()}
        settings: dict[str, Any] = {"gamma": self.gamma}
        return Parts(settings, tensors | {"offset": whole.offset, "features": self.features}, self.site, self.gate)

    @classmethod
    def from_parts(cls, parts: Parts) -> SauceEdit:
        """The edit that `to_parts` wrote."""
        t = parts.tensors
        assert parts.site is not None
        rows = FeatureRows(*(t[f"rows.{name}"] for name in FeatureRows._fields))
        dictionary = RowsDictionary(parts.site, rows, t["offset"])
        return cls(parts.site, dictionary, t["features"], parts.settings["gamma"], parts.gate)
