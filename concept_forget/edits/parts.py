"""What an edit is made of when it is written down: plain settings and named tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from concept_forget.edits.base import Gate
from concept_forget.sites import Site


@dataclass(frozen=True, eq=False)
class Parts:
    """The pieces of one edit. Every kind of edit has `to_parts()` and `from_parts(parts)`, and they are inverse."""

    settings: dict[str, Any] = field(default_factory=dict)
    """Numbers, strings and lists only: it becomes YAML."""
    tensors: dict[str, Tensor] = field(default_factory=dict)
    """It becomes safetensors."""
    site: Site | None = None
    gate: Gate | None = None


class Kept(Protocol):
    """An edit that a recipe can keep."""

    kind: ClassVar[str]

    def to_parts(self) -> Parts: ...

    @classmethod
    def from_parts(cls, parts: Parts) -> Kept: ...


def working_dtype(x: Tensor) -> torch.dtype:
    """Feature and projection maths run in float32 where the activation is half precision, else in its own dtype."""
    return torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype


def moved(gate: Gate | None, device: torch.device | str) -> Gate | None:
    """The gate on this device; gates without tensors (no `to`) as they are."""
    to = getattr(gate, "to", None)
    return gate if to is None else to(device)
