"""Many rows from batches of one, and the places in them that take another value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from concept_forget.sites import Site


@dataclass(frozen=True, eq=False)
class Patch:
    """In each row, the positions of a site that take the value of another recording."""

    site: Site
    mask: Bool[Tensor, "rows t"]
    sources: tuple[Float[Tensor, "1 t d"], ...]
    """One per base recording."""

    def after(self, start: int) -> Patch:
        """The same where only positions from `start` on are computed."""
        if not start:
            return self
        return Patch(self.site, self.mask[:, start:], tuple(source[:, start:] for source in self.sources))


def expanded(calls: Sequence[Any], copies: int) -> Any:
    """The calls of batches of one as the call of one batch: `copies` rows of the first, then of the second, ...

    Every tensor of two or more axes holds one row of a batch (Mllama's cross-attention states: as many as tiles).
    Position ids of three axes have the batch second (Qwen2-VL).
    """
    flat = [tree_flatten(call) for call in calls]
    leaves = [_leaf([leaves[i] for leaves, _ in flat], copies) for i in range(len(flat[0][0]))]
    return tree_unflatten(leaves, flat[0][1])


def _leaf(values: list[Any], copies: int) -> Any:
    first = values[0]
    if not isinstance(first, Tensor) or first.dim() < 2:
        return first
    if first.dim() == 3 and not first.is_floating_point() and first.shape[0] in (3, 4) and first.shape[1] == 1:
        return torch.cat([value.expand(-1, copies, -1) for value in values], 1)
    rows = [value[None].expand(copies, *value.shape).flatten(0, 1) for value in values]
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def repeated(states: Sequence[Tensor], copies: int) -> Tensor:
    """`copies` rows of every state [1, t, d], one state after the other."""
    rows = [state.expand(copies, -1, -1) for state in states]
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def patched(x: Tensor, patch: Patch) -> Tensor:
    """x [base * rows, t, d] with the patch's positions taken from its sources."""
    shape = x.shape
    x = x.reshape(len(patch.sources), len(patch.mask), -1, shape[-1])
    source = torch.stack(patch.sources).to(x)
    return torch.where(patch.mask[None, :, :, None].to(x.device), source, x).view(shape)
