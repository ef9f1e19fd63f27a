"""Relearning: fine-tune an edited model on a few forgotten items for as long as the body lasts."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from concept_forget.evaluation.text.items import Item
from concept_forget.evaluation.text.likelihood import teacher_forced
from concept_forget.teacher import told

if TYPE_CHECKING:
    from concept_forget.edits.base import Edit
    from concept_forget.model import HookedModel


@dataclass(frozen=True)
class Relearning:
    """A published budget: full weights, AdamW, constant rate."""

    epochs: int = 3
    batch: int = 5
    rate: float = 2e-4
    """The published rates are for billions of parameters; one at which an untouched tiny model keeps what it knows."""
    seed: int = 0


@contextmanager
def relearned(
    model: HookedModel, items: Sequence[Item], edits: Sequence[Edit] = (), settings: Relearning | None = None
) -> Iterator[tuple[Edit, ...]]:
    """Under this context the model has been fine-tuned on these answers; afterwards it is bit for bit what it was.

    Weight edits are put into the weights first and trained on from there; all others (hooks, prompts) are in place
    while it learns and are given back, to be used on. The loss is that of the answers' tokens. Raises ValueError
    without items.
    """
    if not items:
        raise ValueError("relearned: there is nothing to learn from. Give at least one item.")
    settings = settings or Relearning()
    rng = random.Random(settings.seed)
    weights = [edit for edit in edits if getattr(edit, "kind", "") == "weights"]
    others = tuple(edit for edit in edits if edit not in weights)
    parameters = {name: p for name, p in model.model.named_parameters() if p.is_floating_point()}
    asks = {name: p.requires_grad for name, p in parameters.items()}
    with ExitStack() as stack:
        for edit in weights:
            stack.enter_context(edit.attached(model))
        kept = {name: p.detach().clone() for name, p in parameters.items()}
        try:
            for parameter in parameters.values():
                parameter.requires_grad_(True)
            optimizer = torch.optim.AdamW(parameters.values(), settings.rate, weight_decay=0.0)
            for _ in range(settings.epochs):
                order = rng.sample(range(len(items)), len(items))
                for start in range(0, len(order), settings.batch):
                    some = [items[k] for k in order[start : start + settings.batch]]
                    _step(model, optimizer, some, others)
            model.model.zero_grad(set_to_none=True)
            yield others
        finally:
            with torch.no_grad():
                for name, parameter in parameters.items():
                    parameter.grad = None
                    parameter.requires_grad_(asks[name])
                    parameter.copy_(kept[name])


def _step(model: HookedModel, optimizer: torch.optim.Optimizer, items: Sequence[Item], edits: Sequence[Edit]) -> None:
    batch = teacher_forced(model, items, edits)
    optimizer.zero_grad(set_to_none=True)
    told(model.run(batch, edits=edits, logits="all", grad=True).logits, batch).nll.backward()
    optimizer.step()
