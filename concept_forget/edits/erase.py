"""Linear erasure: take a subspace out of an activation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from concept_forget.edits.base import Gate, SiteEdit
from concept_forget.edits.fold import fold
from concept_forget.edits.parts import Parts, moved, working_dtype
from concept_forget.sites import Site

if TYPE_CHECKING:
    from concept_forget.model import HookedModel


@dataclass(frozen=True, eq=False)
class SubspaceErase(SiteEdit):
    """Orthogonal projection: x' = x - strength (x - mean) B^T B, with orthonormal rows B.

    At strength 1 every direction of B reads its mean afterwards. At strength 2 it is reflected at the mean.
    """

    site: Site
    basis: Float[Tensor, "r d"]
    mean: Float[Tensor, " d"]
    gate: Gate | None = None
    strength: float = 1.0

    kind: ClassVar[str] = "erase"

    @classmethod
    def of(
        cls, site: Site, directions: Float[Tensor, "r d"], mean: Float[Tensor, " d"], gate: Gate | None = None
    ) -> SubspaceErase:
        """Erases the span of these directions, orthonormal or not. Raises ValueError when they span nothing."""
        _, values, basis = torch.linalg.svd(directions.double(), full_matrices=False)
        basis = basis[values > 1e-6 * values.max()]
        if not values.max() > 0:
            raise ValueError("The directions to erase are all zero: there is nothing to erase at this site.")
        return cls(site, basis.to(directions.dtype), mean, gate)

    def transform(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """The projected activation at every position."""
        dtype = working_dtype(x)
        edit = self.to(x.device, dtype)
        delta = ((x.to(dtype) - edit.mean) @ edit.basis.T) @ edit.basis
        return x - (self.strength * delta).to(x.dtype)

    def bake(self, model: HookedModel) -> None:
        """Folds it into the projector's first Linear (`fold`). Raises NotBakeable where that is not exact."""
        left = self.strength * self.basis.T
        fold(model, self, left, self.basis, left @ (self.basis @ self.mean))

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> SubspaceErase:
        """The same edit with its tensors on this device; itself where they already are."""
        basis, mean, gate = self.basis.to(device, dtype), self.mean.to(device, dtype), moved(self.gate, device)
        if basis is self.basis and mean is self.mean and gate is self.gate:
            return self
        return replace(self, basis=basis, mean=mean, gate=gate)

    def to_parts(self) -> Parts:
        """Settings and tensors, for a recipe."""
        return Parts({"strength": self.strength}, {"basis": self.basis, "mean": self.mean}, self.site, self.gate)

    @classmethod
    def from_parts(cls, parts: Parts) -> SubspaceErase:
        """The edit that `to_parts` wrote."""
        assert parts.site is not None
        return cls(parts.site, parts.tensors["basis"], parts.tensors["mean"], parts.gate, parts.settings["strength"])


@dataclass(frozen=True, eq=False)
class LeaceErase(SiteEdit):
    """Least-squares concept erasure: x' = x - L R (x - mean), an oblique projection.

    No linear classifier does better than chance on x', and no other affine map with that property changes x less
    (Belrose et al. 2023, theorem 4.3). L and R are `proj_left` and `proj_right` of the concept-erasure package.
    """

    site: Site
    left: Float[Tensor, "d r"]
    right: Float[Tensor, "r d"]
    mean: Float[Tensor, " d"]
    gate: Gate | None = None

    kind: ClassVar[str] = "leace"

    def transform(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """The erased activation at every position."""
        dtype = working_dtype(x)
        edit = self.to(x.device, dtype)
        delta = ((x.to(dtype) - edit.mean) @ edit.right.T) @ edit.left.T
        return x - delta.to(x.dtype)

    def bake(self, model: HookedModel) -> None:
        """Folds it into the projector's first Linear (`fold`). Raises NotBakeable where that is not exact."""
        fold(model, self, self.left, self.right, self.left @ (self.right @ self.mean))

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> LeaceErase:
        """The same edit with its tensors on this device; itself where they already are."""
        left, right, mean = (part.to(device, dtype) for part in (self.left, self.right, self.mean))
        gate = moved(self.gate, device)
        if left is self.left and right is self.right and mean is self.mean and gate is self.gate:
            return self
        return replace(self, left=left, right=right, mean=mean, gate=gate)

    def to_parts(self) -> Parts:
        """Settings and tensors, for a recipe."""
        return Parts({}, {"left": self.left, "right": self.right, "mean": self.mean}, self.site, self.gate)

    @classmethod
    def from_parts(cls, parts: Parts) -> LeaceErase:
        """The edit that `to_parts` wrote."""
        t = parts.tensors
        assert parts.site is not None
        return cls(parts.site, t["left"], t["right"], t["mean"], parts.gate)
