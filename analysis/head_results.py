"""What opened heads show: where they look, and what each does for the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.tracing.result import bounds
from concept_forget.tokens import IMAGE, SPECIAL, TEXT

Attention = Literal["self", "cross"]
SHARES = {"special": SPECIAL, "image": IMAGE, "text": TEXT}


class Look(NamedTuple):
    """How much of a head's attention goes from one position to another."""

    layer: int
    head: int
    query: str
    key: str
    weight: float


class HeadEffect(NamedTuple):
    """What the answer loses without a head, with its 95% interval over questions."""

    layer: int
    head: int
    effect: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Patterns:
    """Attention of every head, with what stands at every position. Padding is left out."""

    values: Float[Tensor, "layers heads queries keys"]
    layers: tuple[int, ...]
    queries: tuple[str, ...]
    keys: tuple[str, ...]
    kinds: Int[Tensor, " keys"]
    """SPECIAL, IMAGE or TEXT of every key."""
    picture: Int[Tensor, "tiles rows columns"] | None
    """Which key is which patch; None where the keys hold no patches."""
    attention: Attention = "self"

    def top(self, k: int, query: int = -1) -> list[Look]:
        """The k strongest looks of one position, of all heads."""
        seen = self.values[:, :, query]
        best = seen.flatten().topk(min(k, seen.numel())).indices.tolist()
        _, heads, keys = seen.shape
        return [
            Look(
                self.layers[i // (heads * keys)],
                i // keys % heads,
                self.queries[query],
                self.keys[i % keys],
                float(seen.flatten()[i]),
            )
            for i in best
        ]

    def shares(self, query: int = -1) -> dict[str, Float[Tensor, "layers heads"]]:
        """How a position divides its attention between special tokens, picture and words; sums to 1."""
        seen = self.values[:, :, query]
        return {name: seen[..., self.kinds == kind].sum(-1) for name, kind in SHARES.items()}

    def on_picture(self, query: int = -1) -> Float[Tensor, "layers heads tiles rows columns"]:
        """Attention of a position on the patches of the picture. Raises ValueError where there are none."""
        if self.picture is None:
            raise ValueError(
                "These keys hold no picture. Give patterns() an image; where the picture is read by cross-attention "
                "(Mllama), attention='cross'."
            )
        return self.values[:, :, query][..., self.picture]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "attention": self.attention,
            "layers": list(self.layers),
            "queries": list(self.queries),
            "keys": list(self.keys),
            "values": [[[[round(v, 6) for v in k] for k in q] for q in h] for h in self.values.tolist()],
        }


@dataclass(frozen=True, eq=False)
class HeadEffects:
    """log p(answer) - log p(answer | head taken out), mean over questions with 95% intervals."""

    values: Float[Tensor, "layers heads"]
    """NaN in layers without attention heads."""
    low: Float[Tensor, "layers heads"]
    high: Float[Tensor, "layers heads"]
    questions: Float[Tensor, "n layers heads"]
    clean: Float[Tensor, " n"]
    """log p(answer) of the intact model."""
    answers: tuple[str, ...]
    ablation: str

    def top(self, k: int) -> list[HeadEffect]:
        """The k heads the answers lose most without."""
        best = self.values.nan_to_num(-torch.inf).flatten().topk(min(k, self.values.numel())).indices.tolist()
        places = [divmod(i, self.values.shape[1]) for i in best]
        return [
            HeadEffect(layer, head, *(float(grid[layer, head]) for grid in (self.values, self.low, self.high)))
            for layer, head in places
            if not self.values[layer, head].isnan()
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain values; what was not measured is null."""
        return {
            "ablation": self.ablation,
            **{name: _plain(getattr(self, name)) for name in ("values", "low", "high")},
            "answers": list(self.answers),
            "clean": [round(value, 6) for value in self.clean.tolist()],
        }


def head_effects(
    questions: Float[Tensor, "n layers heads"],
    clean: Float[Tensor, " n"],
    answers: Sequence[str],
    groups: Sequence[str],
    ablation: str,
) -> HeadEffects:
    """The mean over questions, with intervals; questions of one group are resampled together."""
    low, high = bounds(questions, groups)
    return HeadEffects(questions.mean(0), low, high, questions, clean, tuple(answers), ablation)


def _plain(grid: Tensor) -> list[list[float | None]]:
    return [[None if value != value else round(value, 6) for value in row] for row in grid.tolist()]
