"""Feature clamp: change the activations of a few features of a dictionary and leave everything else as it was."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from concept_forget.directions import FeatureRows
from concept_forget.edits.base import Gate, SiteEdit
from concept_forget.edits.parts import Parts, moved, working_dtype
from concept_forget.sites import Site

ActionKind = Literal["zero", "scale", "set", "limit"]


@dataclass(frozen=True, eq=False)
class Action:
    """What is done to the activation z of a feature: the g of the clamp. Made by the four functions of its kinds.

    zero: 0. scale: gamma z (SAUCE: gamma negative). set: value, also where the feature is silent. limit: min(z, value).
    """

    kind: ActionKind = "zero"
    gamma: float = 0.0
    """Factor of `scale`; unused elsewhere."""
    value: Float[Tensor, " k"] | None = None
    """One value per feature, of `set` and `limit`; None elsewhere."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(ActionKind):
            raise ValueError(f"No such action: {self.kind!r}. Allowed are {', '.join(get_args(ActionKind))}.")
        if (self.value is not None) != (self.kind in ("set", "limit")):
            raise ValueError(
                f"Action {self.kind!r}: `value`, one per feature, belongs to 'set' and 'limit' and only there."
            )

    @classmethod
    def zero(cls) -> Action:
        """g(z) = 0."""
        return cls("zero")

    @classmethod
    def scale(cls, gamma: float) -> Action:
        """g(z) = gamma z."""
        return cls("scale", gamma=gamma)

    @classmethod
    def set(cls, value: Float[Tensor, " k"]) -> Action:
        """g(z) = value."""
        return cls("set", value=value)

    @classmethod
    def limit(cls, value: Float[Tensor, " k"]) -> Action:
        """g(z) = min(z, value)."""
        return cls("limit", value=value)

    def __call__(self, z: Float[Tensor, "... k"]) -> Float[Tensor, "... k"]:
        """The new activations."""
        if self.kind == "zero":
            return torch.zeros_like(z)
        if self.kind == "scale":
            return self.gamma * z
        assert self.value is not None
        value = self.value.to(z.device, z.dtype)
        return value.expand_as(z) if self.kind == "set" else torch.minimum(z, value)


@dataclass(frozen=True, eq=False)
class FeatureClamp(SiteEdit):
    """Error-preserving clamp of k features: x' = x + strength * sum_i (g(z_i) - z_i) d_i.

    Equals decode(g(encode(x))) + (x - decode(encode(x))) of the whole dictionary, at O(d k) per token: the bias of the
    decoder cancels and only k rows of the encoder are read. Tokens at which no feature changes keep every bit.
    """

    site: Site
    rows: FeatureRows
    action: Action = field(default_factory=Action)
    gate: Gate | None = None
    strength: float = 1.0
    """Factor of the whole change; the random-feature control uses it to reach an equal norm."""

    kind: ClassVar[str] = "clamp"

    def __post_init__(self) -> None:
        k = len(self.rows.bias)
        if self.action.value is not None and self.action.value.shape != (k,):
            raise ValueError(
                f"The clamp has {k} features but {tuple(self.action.value.shape)} values; give one value per feature."
            )

    def change(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... k"]:
        """strength * (g(z) - z) of the k features."""
        z = self.rows.encode(x)
        return self.strength * (self.action(z) - z)

    def transform(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """The clamped activation at every position."""
        dtype = working_dtype(x)
        edit = self.to(x.device, dtype)
        change = edit.change(x.to(dtype))
        changed: Bool[Tensor, "b t 1"] = (change != 0).any(-1, keepdim=True)
        # Adding a zero would turn -0.0 into 0.0, so untouched tokens are taken over instead of added to.
        return torch.where(changed, x + (change @ edit.rows.decoder).to(x.dtype), x)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> FeatureClamp:
        """The same edit with its tensors on this device; itself where they already are."""
        rows = FeatureRows(*(part.to(device, dtype) for part in self.rows))
        value = None if self.action.value is None else self.action.value.to(device, dtype)
        gate = moved(self.gate, device)
        same = gate is self.gate and value is self.action.value
        if same and all(a is b for a, b in zip(rows, self.rows, strict=True)):
            return self
        return replace(self, rows=rows, action=replace(self.action, value=value), gate=gate)

    def to_parts(self) -> Parts:
        """Settings and tensors, for a recipe."""
        settings: dict[str, Any] = {"action": self.action.kind, "gamma": self.action.gamma, "strength": self.strength}
        tensors = {f"rows.{name}": part for name, part in self.rows._asdict().items()}
        if self.action.value is not None:
            tensors["action.value"] = self.action.value
        return Parts(settings, tensors, self.site, self.gate)

    @classmethod
    def from_parts(cls, parts: Parts) -> FeatureClamp:
        """The edit that `to_parts` wrote."""
        s, t = parts.settings, parts.tensors
        assert parts.site is not None
        rows = FeatureRows(*(t[f"rows.{name}"] for name in FeatureRows._fields))
        action = Action(s["action"], s["gamma"], t.get("action.value"))
        return cls(parts.site, rows, action, parts.gate, s["strength"])
