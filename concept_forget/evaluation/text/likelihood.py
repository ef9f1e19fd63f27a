"""What a model thinks of given texts: one forward pass from which every likelihood metric is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from concept_forget import preparing
from concept_forget.edits.base import Edit
from concept_forget.evaluation.answers import Progress
from concept_forget.evaluation.text.items import Item
from concept_forget.teacher import told
from concept_forget.tokens import Batch, TokenMap

if TYPE_CHECKING:
    from concept_forget.model import HookedModel

CHUNK = 512
"""Positions whose whole distribution is in memory at once."""


class Reading(NamedTuple):
    """The answer (passage) of one item, token by token, under teacher forcing."""

    log_p: Float[ndarray, " t"]
    """log p(token | what is before it), in nats."""
    hit: Bool[ndarray, " t"]
    """Whether the token is the likeliest one there."""
    mean: Float[ndarray, " t"]
    """Mean of log p over the vocabulary, weighted by p."""
    deviation: Float[ndarray, " t"]
    """Standard deviation of log p over the vocabulary, weighted by p."""
    text: str

    @property
    def loss(self) -> float:
        """-(1/t) sum log p."""
        return -float(self.log_p.mean())


@torch.no_grad()
def read(
    model: HookedModel,
    items: Sequence[Item],
    edits: Sequence[Edit] = (),
    batch_size: int = 64,
    progress: Progress | None = None,
) -> list[Reading]:
    """One reading per item, in order. Questions and passages are batched apart, each by length.

    An edit that writes an instruction puts it before a passage too, where it is not scored. Raises ValueError for an
    empty answer: nothing could be said of it (other programs count it as forgotten).
    """
    found: dict[int, Reading] = {}
    for rows in batches(items, batch_size):
        chosen = [items[row] for row in rows]
        batch = teacher_forced(model, chosen, edits)
        answers = told(model.run(batch, edits=edits, logits="all").logits, batch)
        parts = _scored(answers.logits, answers.ids)
        start = 0
        for row, item, count in zip(rows, chosen, answers.rows.bincount().tolist(), strict=True):
            log_p, hit, mean, deviation = (part[start : start + count].numpy() for part in parts)
            found[row] = Reading(log_p, hit, mean, deviation, item.answer)
            start += count
        if progress:
            progress(len(found), len(items))
    return [found[row] for row in range(len(items))]


def teacher_forced(model: HookedModel, items: Sequence[Item], edits: Sequence[Edit] = ()) -> Batch:
    """Items, all questions or all passages, as a batch that ends in their answers. `tokens.answer_mask` says where.

    The first token of a passage is scored only where something stands before it. Raises ValueError for an empty answer.
    """
    if empty := [item for item in items if not item.answer.strip()]:
        raise ValueError(f"An item has no answer ({empty[0]}): there is nothing to read. Leave it out.")
    if items[0].prompt is None:
        return _passages(model, [item.answer for item in items], edits)
    inputs = _opened(model, items, edits)
    ids = [model.tokenizer(f" {item.answer.strip()}", add_special_tokens=False)["input_ids"] for item in items]
    inputs, mask = preparing.continued(inputs, ids, model.tokenizer.pad_token_id)
    return _batch(model, inputs, mask, edits)


def asked(model: HookedModel, items: Sequence[Item], edits: Sequence[Edit] = ()) -> Batch:
    """Questions with what the model's turn already begins with, to be gone on with."""
    return _batch(model, _opened(model, items, edits), None, edits)


def batches(items: Sequence[Item], size: int) -> Iterator[list[int]]:
    """Rows of questions, then of passages, by length, at most `size` at a time."""
    for passages in (False, True):
        rows = [row for row, item in enumerate(items) if (item.prompt is None) == passages]
        rows.sort(key=lambda row: len(items[row].prompt or "") + len(items[row].answer))
        yield from (rows[start : start + size] for start in range(0, len(rows), size))


def _scored(logits: Float[Tensor, "n v"], ids: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    parts = []
    for some, wanted in zip(logits.split(CHUNK), ids.split(CHUNK), strict=True):
        log_p = some.log_softmax(-1)
        p = log_p.exp()
        # a token of probability 0 has log p = -inf and no part in the mean
        finite = log_p.clamp(min=torch.finfo(torch.float32).min / 1e8)
        mean = (p * finite).sum(-1)
        deviation = ((p * finite.square()).sum(-1) - mean.square()).clamp(min=0).sqrt()
        said = finite.gather(-1, wanted[:, None].to(log_p.device))[:, 0]
        parts.append((said, log_p.argmax(-1) == wanted.to(log_p.device), mean, deviation))
    said, hit, mean, deviation = (torch.cat(column).cpu() for column in zip(*parts, strict=True))
    return said, hit, mean, deviation


def _opened(model: HookedModel, items: Sequence[Item], edits: Sequence[Edit]) -> dict[str, Tensor]:
    prompts = [item.prompt or "" for item in items]
    for edit in edits:
        prompts = [edit.prompt(prompt) for prompt in prompts]
    written = [preparing.written(model, prompt, False) for prompt in prompts]
    # an opening that begins with a space brings it only where the template has not written one
    openings = [
        one.opening.lstrip() if text[-1:].isspace() else one.opening for text, one in zip(written, items, strict=True)
    ]
    texts = [text + opening for text, opening in zip(written, openings, strict=True)]
    return preparing.processed(model, texts, None)


def _passages(model: HookedModel, texts: list[str], edits: Sequence[Edit]) -> Batch:
    before = ""
    for edit in edits:
        before = edit.prompt(before)
    tokenizer = model.tokenizer
    whole = [f"{before.strip()} {text}" if before.strip() else text for text in texts]
    inputs = preparing.processed(model, whole, None)
    real = inputs["attention_mask"].bool()
    lengths = real.sum(1)
    # behind an instruction only the passage's own tokens are scored
    own = [len(tokenizer(f" {text}", add_special_tokens=False)["input_ids"]) for text in texts]
    counts = torch.tensor(own) if before.strip() else lengths - 1
    position = torch.arange(real.shape[1])[None]
    mask = real & (position >= (real.shape[1] - torch.minimum(counts, lengths - 1))[:, None])
    if bool((mask.sum(1) == 0).any()):
        raise ValueError("A passage has a single token: nothing stands before it to predict it from. Leave it out.")
    return _batch(model, inputs, mask, edits)


def _batch(model: HookedModel, inputs: dict[str, Tensor], mask: Tensor | None, edits: Sequence[Edit]) -> Batch:
    inputs = {name: value.to(model.device) for name, value in inputs.items()}
    mask = None if mask is None else mask.to(model.device)
    tokens = TokenMap.of(inputs, model.tokenizer.all_special_ids, answer_mask=mask)
    return Batch(inputs, tokens, tuple(edit for edit in edits if type(edit).prompt is not Edit.prompt))
