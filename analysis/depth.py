"""Unlearning depth (UDS): at which layers an edited model's states no longer hold the answer."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from concept_forget.edits.base import hook
from concept_forget.edits.decoding import DecodingRule
from concept_forget.evaluation.metrics import RESAMPLES, Measured
from concept_forget.evaluation.text.items import Item, PerItem
from concept_forget.evaluation.text.likelihood import batches, teacher_forced
from concept_forget.sites import Site
from concept_forget.teacher import predicting, told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from concept_forget.edits.base import Edit
    from concept_forget.model import HookedModel

KNOWS = 0.05
"""A layer holds the answer where patching in the source that doesn't know costs at least so many nats per token."""


class NotApplicable(ValueError):
    """An edit that leaves every activation as it is has no depth."""


@dataclass(frozen=True, eq=False)
class FirstStage:
    """What patching in states that don't know costs the full model: which layers hold the answer, and how much."""

    kind: Literal["retain", "retain-free"]
    items: tuple[Item, ...]
    sites: tuple[Site, ...]
    clean: Float[ndarray, " n"]
    """Mean log p of the answer's tokens in the full model."""
    drop: Float[ndarray, "n layers"]
    """D_S1 = clean - mean log p with the layer's states patched."""


@dataclass(frozen=True, eq=False)
class Depth:
    """0: every layer still holds the answer as before; 1: none more than in the source that doesn't know."""

    uds: Measured
    per_item: PerItem
    """NaN where no layer held the answer at all: nothing could be unlearned there."""
    sites: tuple[Site, ...]
    first: Float[ndarray, " layers"]
    second: Float[ndarray, " layers"]
    """Mean costs per layer of the two stages: D_S1 and D_S2."""
    kind: Literal["retain", "retain-free"]
    skipped: int

    def to_json(self) -> dict[str, Any]:
        """Plain values; without the items."""
        curves = {
            "first": [round(float(v), 4) for v in self.first],
            "second": [round(float(v), 4) for v in self.second],
        }
        plain = {"kind": self.kind, "sites": [str(site) for site in self.sites], "skipped": self.skipped}
        return {"uds": self.uds.to_json(), **plain, **curves}


def against_retain(model: HookedModel, retain: HookedModel, items: Sequence[Item], batch_size: int = 64) -> FirstStage:
    """Stage 1 with the states of a model that never knew (UDS, arXiv:2605.24614). Computed once for all edits.

    Raises ValueError where the two models are not layer by layer of one width or do not read one vocabulary.
    """
    _check_twins(model, retain)
    return _first("retain", model, items, states(retain, items, batch_size=batch_size), batch_size)


def against_replacement(
    model: HookedModel, items: Sequence[Item], subject: str, others: Sequence[str], batch_size: int = 64
) -> FirstStage:
    """Stage 1 without a retain model: the states of the full model itself, asked about somebody else.

    The subject in every prompt becomes the first of `others` whose prompt has as many tokens (symmetric token
    replacement, Zhang and Nanda 2024) and whose answer differs as far as that can be seen. Items that do not name the
    subject are left out. Raises LookupError where none is left.
    """
    kept, spoilt = [], []
    for item in items:
        other = _replaced(model, item, subject, others)
        if other is not None:
            kept.append(item)
            spoilt.append(other)
    if not kept:
        raise LookupError(
            f"None of the {len(items)} prompts names {subject!r} in a way that one of the {len(others)} other names "
            "of equal length in tokens could stand for. Give more names, or a retain model."
        )
    return _first("retain-free", model, kept, states(model, spoilt, batch_size=batch_size), batch_size)


def depth(
    model: HookedModel,
    first: FirstStage,
    edits: Sequence[Edit] = (),
    *,
    unlearned: HookedModel | None = None,
    batch_size: int = 64,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Depth:
    """UDS = mean over items of sum_l D1_l clip(D2_l / D1_l, 0, 1) / sum_l D1_l, over layers with D1_l > 0.05.

    Teacher-forced; at the positions that predict the answer's tokens the full model's residual stream after block l is
    replaced by that of the edited model (stage 2; D1 from `first`), and D_l is the loss of mean log p of the answer.
    `unlearned` is another model instead of edits. Works for every edit that changes activations, prompts included: the
    answer's positions are found from its end. Raises NotApplicable for edits that only change how words are chosen.
    """
    if edits and all(isinstance(edit, DecodingRule) for edit in edits):
        names = ", ".join(type(edit).__name__ for edit in edits)
        raise NotApplicable(
            f"{names} changes which words are chosen and no activation: all the knowledge is where it was, at every "
            "layer. Its depth is not measured; look at what it says."
        )
    if unlearned is not None:
        _check_twins(model, unlearned)
    source = states(unlearned or model, first.items, edits, batch_size)
    second = first.clean[:, None] - patched(model, first.items, first.sites, source, batch_size)
    holds = first.drop > KNOWS
    ratio = np.clip(np.divide(second, first.drop, out=np.zeros_like(second), where=holds), 0, 1)
    weight = np.where(holds, first.drop, 0.0)
    with np.errstate(invalid="ignore"):
        values = (weight * ratio).sum(1) / np.where(holds.any(1), weight.sum(1), math.nan)
    per_item = PerItem.of(values.tolist(), first.items)
    return Depth(
        uds=per_item.measured(resamples, seed),
        per_item=per_item,
        sites=first.sites,
        first=first.drop.mean(0),
        second=second.mean(0),
        kind=first.kind,
        skipped=int((~holds.any(1)).sum()),
    )


def layers(model: HookedModel) -> tuple[Site, ...]:
    """The residual stream after every block of the language model."""
    return tuple(site for site in model.sites() if site.tower == "text" and site.stream == "resid")


@torch.no_grad()
def states(
    model: HookedModel, items: Sequence[Item], edits: Sequence[Edit] = (), batch_size: int = 64
) -> list[Float[Tensor, "layers k d"]]:
    """Per item the residual stream of every layer where the k tokens of its answer are predicted."""
    sites, found = layers(model), {}
    for rows in batches(items, batch_size):
        batch = teacher_forced(model, [items[row] for row in rows], edits)
        run = model.run(batch, read=sites, edits=edits, logits=None)
        where = predicting(_mask(batch))
        for k, row in enumerate(rows):
            found[row] = torch.stack([run.activations[site][k][where[k].to(model.device)] for site in sites])
    return [found[row] for row in range(len(items))]


@torch.no_grad()
def patched(
    model: HookedModel,
    items: Sequence[Item],
    sites: Sequence[Site],
    source: Sequence[Float[Tensor, "layers k d"]] | None,
    batch_size: int = 64,
) -> Float[ndarray, "n layers"]:
    """Mean log p of every item's answer with one layer's states replaced at a time; unpatched for `source=None`."""
    out = np.zeros((len(items), len(sites) if source is not None else 1))
    for rows in batches(items, batch_size):
        batch = teacher_forced(model, [items[row] for row in rows])
        where = predicting(_mask(batch))
        for layer in range(out.shape[1]):
            values = None if source is None else torch.cat([source[row][layer] for row in rows])
            with _replacing(model, sites[layer], where, values):
                answers = told(model.run(batch, logits="all").logits, batch)
            out[rows, layer] = answers.means(answers.logp).cpu().numpy()
    return out


def _first(
    kind: Literal["retain", "retain-free"],
    model: HookedModel,
    items: Sequence[Item],
    source: Sequence[Float[Tensor, "layers k d"]],
    batch_size: int,
) -> FirstStage:
    sites = layers(model)
    clean = patched(model, items, sites, None, batch_size)[:, 0]
    drop = clean[:, None] - patched(model, items, sites, source, batch_size)
    return FirstStage(kind, tuple(items), sites, clean, drop)


@contextmanager
def _replacing(
    model: HookedModel, site: Site, where: Bool[Tensor, "b t"], values: Float[Tensor, "n d"] | None
) -> Iterator[None]:
    if values is None:
        yield
        return

    def replace(x: Tensor) -> Tensor:
        new = x.clone()
        new[where.to(x.device)] = values.to(x)
        return new

    handle = hook(*model.module(site), replace, first=True)
    try:
        yield
    finally:
        handle.remove()


def _replaced(model: HookedModel, item: Item, subject: str, others: Sequence[str]) -> Item | None:
    named = re.compile(rf"(?<!\w){re.escape(subject)}(?!\w)")
    if item.prompt is None or not named.search(item.prompt):
        return None
    length = _tokens(model, item.prompt)
    for other in others:
        if other != subject:
            prompt = named.sub(lambda _, other=other: other, item.prompt)
            if _tokens(model, prompt) == length:
                return item._replace(prompt=prompt)
    return None


def _tokens(model: HookedModel, text: str) -> int:
    return len(model.tokenizer(text, add_special_tokens=False)["input_ids"])


def _mask(batch: Any) -> Bool[Tensor, "b t"]:
    assert batch.tokens.answer_mask is not None
    return batch.tokens.answer_mask


def _check_twins(model: HookedModel, other: HookedModel) -> None:
    ours, theirs = ([one.width(site) for site in layers(one)] for one in (model, other))
    if ours != theirs or len(model.tokenizer) != len(other.tokenizer):
        raise ValueError(
            f"{model.name} has {len(ours)} layers of {set(ours)} and {len(model.tokenizer)} tokens, {other.name} "
            f"{len(theirs)} of {set(theirs)} and {len(other.tokenizer)}: states can only be moved between twins. Give "
            "a model of the same shape, or measure without one (against_replacement)."
        )
