"""Teacher forcing: what a model gives to the answers it is told, token by token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from concept_forget.concepts import Example
from concept_forget.edits.base import Edit
from concept_forget.tokens import Batch

if TYPE_CHECKING:
    from concept_forget.model import HookedModel


class Told(NamedTuple):
    """The answer tokens of some examples, one after the other: prompts and padding are not among them."""

    logits: Float[Tensor, "n v"]
    """Of the distribution each token is drawn from, in float32."""
    ids: Int[Tensor, " n"]
    rows: Int[Tensor, " n"]
    """The example each token belongs to."""
    size: int
    """Number of examples."""

    @property
    def logp(self) -> Float[Tensor, " n"]:
        """log p(token | prompt, answer so far)."""
        return self.logits.log_softmax(-1).gather(1, self.ids[:, None])[:, 0]

    @property
    def nll(self) -> Float[Tensor, ""]:
        """Mean negative log-probability over tokens."""
        return -self.logp.mean()

    @property
    def total(self) -> Float[Tensor, " b"]:
        """log p(answer | prompt): the sum over each answer's tokens."""
        return self.sums(self.logp)

    def sums(self, values: Float[Tensor, " n"]) -> Float[Tensor, " b"]:
        """The sum of a value over each answer's tokens."""
        return values.new_zeros(self.size).index_add(0, self.rows, values)

    def means(self, values: Float[Tensor, " n"]) -> Float[Tensor, " b"]:
        """The mean of a value over each answer's tokens."""
        return self.sums(values) / self.sums(torch.ones_like(values))

    @staticmethod
    def joined(parts: Sequence[Told]) -> Told:
        """Several batches as one, on the device of the first."""
        device, start, rows = parts[0].logits.device, 0, []
        for part in parts:
            rows.append(part.rows.to(device) + start)
            start += part.size
        logits = torch.cat([part.logits.to(device) for part in parts])
        ids = torch.cat([part.ids.to(device) for part in parts])
        return Told(logits, ids, torch.cat(rows), start)


def told(logits: Float[Tensor, "b t v"], batch: Batch) -> Told:
    """What logits at all positions say about the answers of a batch. Raises ValueError for a batch without answers."""
    mask = batch.tokens.answer_mask
    if mask is None:
        raise ValueError("The batch has no answers. Prepare it with `forced`, or with answers=[...].")
    ids, rows = batch.inputs["input_ids"][mask], mask.nonzero()[:, 0]
    here = predicting(mask).to(logits.device)
    return Told(logits[here].float(), ids.to(logits.device), rows.to(logits.device), batch.size)


def predicting(answer_mask: Bool[Tensor, "b t"]) -> Bool[Tensor, "b t"]:
    """The positions whose next token is an answer's: each one before a token of the answer."""
    out = torch.zeros_like(answer_mask)
    out[:, :-1] = answer_mask[:, 1:]
    return out


def forced(model: HookedModel, examples: Sequence[Example], edits: Sequence[Edit] = (), end: str = "") -> Batch:
    """Prompts with the expected answers behind them, and `end` behind those; all with a picture, or all without.

    Raises ValueError for an example without answer.
    """
    if empty := sum(not example.answer.strip() for example in examples):
        raise ValueError(
            f"{empty} of {len(examples)} examples have no answer; give each the answer of a model that knows."
        )
    return model.prepare(
        [example.prompt for example in examples],
        [example.image for example in examples],
        edits,
        [f"{example.answer.strip()}{end}" for example in examples],
    )


def by_sight(examples: Sequence[Example], size: int | None = None) -> Iterator[list[int]]:
    """Numbers of the examples, those with a picture before those without: never both in one batch of at most `size`."""
    for sees in (True, False):
        numbers = [i for i, example in enumerate(examples) if (example.image is not None) == sees]
        step = size or max(1, len(numbers))
        yield from (numbers[start : start + step] for start in range(0, len(numbers), step))
