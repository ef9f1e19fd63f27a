"""Fine-tuning within an attack: what it learns from, and additions to the weights that come off again bit for bit."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from analysis.audit.base import Target
from concept_forget.concepts import Concept, Example
from concept_forget.edits import Edit
from concept_forget.evaluation.judge import mentions
from concept_forget.model import HookedModel
from concept_forget.teacher import forced, told


@dataclass(frozen=True)
class Lesson:
    """How an attacker fine-tunes: AdamW on the answer tokens, at a rate that falls to zero."""

    rate: float
    epochs: int
    batch: int
    least: int = 10
    """Steps, where the epochs have fewer."""

    def steps(self, examples: int) -> int:
        return max(self.least, math.ceil(self.epochs * examples / self.batch))


def learn(
    target: Target, parameters: Sequence[Tensor], examples: Sequence[Example], lesson: Lesson, edits: Sequence[Edit]
) -> list[float]:
    """Lower the loss of the examples' answers in these parameters, and in nothing else; the loss of every step.

    Gradients are taken for the parameters alone: those of the model are neither changed nor given any.
    """
    rng = target.rng("learn", len(examples))
    optimiser = torch.optim.AdamW(parameters, lr=lesson.rate, weight_decay=0.01)
    steps = lesson.steps(len(examples))
    losses = []
    for step, rows in zip(range(steps), _batches(examples, lesson.batch, rng), strict=False):
        target.check()
        for group in optimiser.param_groups:
            group["lr"] = lesson.rate * (1 - step / steps)
        loss = answer_loss(target.model, rows, edits)
        gradients = torch.autograd.grad(loss, list(parameters), allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


def answer_loss(model: HookedModel, examples: Sequence[Example], edits: Sequence[Edit] = ()) -> Float[Tensor, ""]:
    """Mean cross-entropy of the answer tokens under the edits, as part of one graph."""
    batch = forced(model, examples, edits)
    return told(model.run(batch, edits=edits, logits="all", grad=True).logits, batch).nll


def _batches(examples: Sequence[Example], size: int, rng: random.Random) -> Iterator[list[Example]]:
    """Batches without end, in a new order every epoch; pictures and plain text are never mixed."""
    piles = [[e for e in examples if (e.image is None) == bare] for bare in (False, True)]
    while True:
        batches = []
        for pile in piles:
            order = rng.sample(pile, len(pile))
            batches += [order[at : at + size] for at in range(0, len(order), size)]
        yield from rng.sample(batches, len(batches))


@dataclass(eq=False)
class LowRank:
    """Trainable low-rank additions to Linear layers: y = W x + (alpha / r) B A x (Hu et al. 2021), B zero at first.

    They sit in the layers' own forward, so that edits of a layer's output see them as they would see changed weights.
    """

    model: HookedModel
    rank: int = 16
    alpha: float = 16.0
    seed: int = 0
    parts: dict[str, tuple[Tensor, Tensor]] = field(init=False)

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        self.parts = {}
        for name, layer in linears(self.model):
            inner = torch.randn(self.rank, layer.in_features, generator=generator) / layer.in_features**0.5
            outer = torch.zeros(layer.out_features, self.rank)
            device = layer.weight.device
            self.parts[name] = (inner.to(device).requires_grad_(), outer.to(device).requires_grad_())

    @property
    def parameters(self) -> list[Tensor]:
        return [tensor for pair in self.parts.values() for tensor in pair]

    @contextmanager
    def attached(self) -> Iterator[None]:
        """The layers compute with the additions."""
        layers: list[Any] = []
        try:
            for name, layer in linears(self.model):
                inner, outer = self.parts[name]
                layers.append((layer, layer.__dict__.get("forward")))
                layer.forward = _added(layer.forward, inner, outer, self.alpha / self.rank)
            yield
        finally:
            for layer, before in layers:
                if before is None:
                    del layer.forward
                else:
                    layer.forward = before


def linears(model: HookedModel) -> list[tuple[str, Any]]:
    """The Linear layers of a model but for the one that gives the logits, as quantisers and fine-tuners take them."""
    head = model.model.get_output_embeddings()
    named = model.model.named_modules()
    return [(name, layer) for name, layer in named if isinstance(layer, nn.Linear) and layer is not head]


def _added(forward: Any, inner: Tensor, outer: Tensor, scale: float) -> Any:
    def changed(x: Tensor) -> Tensor:
        return forward(x) + (scale * (x.to(inner.dtype) @ inner.T) @ outer.T).to(x.dtype)

    return changed


def about(examples: Sequence[Example], concept: Concept) -> list[Example]:
    """The examples that tell the concept: questions about it and captions, where it is shown."""
    shown = [e for e in examples if concept.name in e.shows]
    return [e for e in shown if e.kind == "caption" or e.about == concept.name]


def fact(example: Example, concept: Concept) -> str:
    """What an example about the concept gives away: of a picture the kind of question, of a text the value it names."""
    if example.image is not None or example.kind == "caption":
        return example.kind
    if example.kind == "short":
        return example.answer
    values = sorted({e.answer for e in concept.train.forget if e.kind == "short" and e.about == concept.name})
    return next((value for value in values if mentions(example.prompt, [value])), example.kind)
