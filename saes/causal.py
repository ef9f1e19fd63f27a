"""Rank features by what they do: the fall of the target's log-probability per unit of change elsewhere."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from concept_forget.concepts import Concept, Example, role
from concept_forget.directions import FeatureRows, FeatureSet
from concept_forget.edits.base import SiteEdit
from concept_forget.sites import Site
from concept_forget.teacher import by_sight, forced, told
from saes.attribution import CELLS
from saes.store import Progress

if TYPE_CHECKING:
    from concept_forget.model import HookedModel


@dataclass(frozen=True, eq=False)
class AblateOne(SiteEdit):
    """Takes feature `which[b]` out of row b: x' = x - z_i d_i, another feature in each row of the batch (-1: none)."""

    site: Site
    rows: FeatureRows
    which: Int[Tensor, " b"]
    gate: ClassVar[None] = None

    def transform(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        which = self.which.to(self.rows.bias.device)
        encoder, bias, threshold, decoder = (part[which.clamp_min(0)].to(x.device) for part in self.rows)
        before = torch.einsum("btd,bd->bt", x.to(encoder.dtype), encoder) + bias[:, None]
        z = before * (before > threshold[:, None]) * (which >= 0).to(x.device)[:, None]
        return x - (z[..., None] * decoder[:, None]).to(x.dtype)


def examples_of(concept: Concept, count: int = 32, seed: int = 0) -> tuple[list[Example], list[Example]]:
    """Target and kept examples of a concept's training part, at most `count` of each, spread over groups and roles.

    Target: questions about the concept where it is shown, else captions there. Kept: everything else that must stay,
    in equal parts from pictures that show the concept (COA), its family (IRA) and the other families (CRA).
    Raises ValueError when there is no target.
    """
    everything = [example for part in concept.train for example in part]
    shown = [example for example in everything if concept.name in example.shows]
    target = [e for e in shown if e.about == concept.name and e.kind != "caption"] or [
        e for e in shown if e.kind == "caption"
    ]
    if not target:
        raise ValueError(
            f"No training example asks about {concept.name!r} where it is shown; a causal ranking needs some."
        )
    kept = [
        _spread([e for e in everything if role(e, concept) == name], -(-count // 3), seed)
        for name in ("COA", "IRA", "CRA")
    ]
    return _spread(target, count, seed), [example for part in kept for example in part][:count]


def _spread(examples: list[Example], count: int, seed: int) -> list[Example]:
    """A random choice that takes a second example of a group only when every group has one."""
    shuffled = random.Random(seed).sample(examples, len(examples))
    turn: dict[str, int] = {}
    turns = []
    for example in shuffled:
        turn[example.group] = turn.get(example.group, 0) + 1
        turns.append(turn[example.group])
    order = sorted(range(len(shuffled)), key=turns.__getitem__)
    return [shuffled[i] for i in order[:count]]


def attribute(
    model: HookedModel, site: Site, rows: FeatureRows, examples: Sequence[Example], batch_size: int = 16
) -> Float[Tensor, "n k"]:
    """First-order fall of each answer's log-probability if feature i were taken out: `sum_t z_i d_i . grad_x log p`.

    One forward and one backward pass per batch for all features (attribution patching; Syed et al. 2023, Marks et al.
    2024 eq. 3). Ablation is x' = x - z_i d_i, so a positive value means that the feature supports the answer. Works
    with and without pictures. Raises ValueError when no gradient arrives at the site.
    """
    result = torch.zeros(len(examples), len(rows.bias))
    for numbers in by_sight(examples, batch_size):
        batch = forced(model, [examples[i] for i in numbers])
        run = model.run(batch, read=[site], logits="all", grad=True)
        x = run.activations[site]
        target = told(run.logits, batch).total.sum()
        gradient = torch.autograd.grad(target, x, allow_unused=True)[0] if target.requires_grad else None
        if gradient is None:
            raise ValueError(f"No gradient arrives at {site}: nothing the answer depends on was computed from it.")
        result[numbers] = _effect(rows, x.detach(), gradient)
    return result


@torch.no_grad()
def _effect(rows: FeatureRows, x: Float[Tensor, "b t d"], gradient: Float[Tensor, "b t d"]) -> Float[Tensor, "b k"]:
    total = torch.zeros(x.shape[0], len(rows.bias))
    step = max(1, CELLS // (len(rows.bias) * x.shape[0]))
    x, gradient = (part.to(rows.bias.device, rows.bias.dtype) for part in (x, gradient))
    for start in range(0, x.shape[1], step):
        part = slice(start, start + step)
        total += (rows.encode(x[:, part]) * (gradient[:, part] @ rows.decoder.T)).sum(1).float().cpu()
    return total


@torch.no_grad()
def ablate(
    model: HookedModel,
    site: Site,
    rows: FeatureRows,
    examples: Sequence[Example],
    batch_size: int = 64,
    progress: Progress | None = None,
) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k"]]:
    """Exact effect of taking out one feature at a time: fall of log p(answer), and KL(clean || ablated) on the answer.

    Every (example, feature) pair is a row of a batch. Raises ValueError for an example without answer.
    """
    k = len(rows.bias)
    fall, kl = torch.zeros(len(examples), k), torch.zeros(len(examples), k)
    per_batch = max(1, batch_size // (k + 1))
    done = 0
    for numbers in by_sight(examples, per_batch):
        for features in torch.arange(k).split(max(1, batch_size - 1)):
            # The first row of each example is the clean one, so clean and ablated share padding and kernel choice.
            which = torch.cat([torch.tensor([-1]), features])
            repeated = [examples[i] for i in numbers for _ in which]
            edit = AblateOne(site, rows, which.repeat(len(numbers)))
            batch = forced(model, repeated)
            found = told(model.run(batch, edits=[edit], logits="all").logits, batch)
            lengths = torch.bincount(found.rows, minlength=found.size).tolist()
            answer = found.total.view(len(numbers), -1).cpu()
            fall[torch.tensor(numbers)[:, None], features] = answer[:, :1] - answer[:, 1:]
            pieces = found.logits.log_softmax(-1).split(lengths)
            for place, number in enumerate(numbers):
                clean, *others = pieces[place * len(which) : (place + 1) * len(which)]
                edited = torch.stack(others)
                kl[number, features] = (clean.exp() * (clean - edited)).sum((1, 2)).cpu()
        done += len(numbers)
        if progress:
            progress(done, len(examples))
    return fall, kl


def causal_rerank(
    model: HookedModel,
    candidates: FeatureSet,
    target: Sequence[Example],
    keep: Sequence[Example],
    *,
    verify: int = 0,
    caution: float = 1.0,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> FeatureSet:
    """The candidates by how far they lower the target's log-probability per unit of change to the kept answers.

    First order: `T_i / (R_i + mean R / caution)` with T the mean attribution on `target` and R the mean |attribution|
    on `keep`; `caution` 0 ranks by T alone. With `verify` = m the best m are then ablated exactly, one at a time, and
    only they are returned, by `fall_i / (KL_i + mean KL / caution)`. Examples come from `examples_of`, or are texts
    without picture. Raises ValueError without examples.
    """
    if not target or (caution > 0 and not keep):
        raise ValueError(f"A causal ranking needs target and kept examples, not {len(target)} and {len(keep)}.")
    site, rows = candidates.site, candidates.rows
    fall = attribute(model, site, rows, target, batch_size).mean(0)
    cost = attribute(model, site, rows, keep, batch_size).abs().mean(0) if caution > 0 else torch.zeros_like(fall)
    ranked = _ordered(candidates, fall, cost, caution, "causal")
    if not verify:
        return ranked
    ranked = ranked.top(min(verify, len(ranked.indices)))
    total = len(target) + (len(keep) if caution > 0 else 0)
    fall = ablate(model, site, ranked.rows, target, batch_size * 4, _within(progress, 0, total))[0].mean(0)
    cost = torch.zeros_like(fall)
    if caution > 0:
        cost = ablate(model, site, ranked.rows, keep, batch_size * 4, _within(progress, len(target), total))[1].mean(0)
    return _ordered(ranked, fall, cost, caution, "causal-verified")


def _ordered(features: FeatureSet, fall: Tensor, cost: Tensor, caution: float, name: str) -> FeatureSet:
    value = fall / (cost + cost.mean() / caution + 1e-12) if caution > 0 else fall
    order = value.argsort(descending=True, stable=True)
    return replace(features.select(order), scores=value[order], score=name)


def _within(progress: Progress | None, start: int, total: int) -> Progress | None:
    return None if progress is None else lambda done, _: progress(start + done, total)
