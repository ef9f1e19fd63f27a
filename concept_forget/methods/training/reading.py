"""Teacher forcing for training: what a model gives to the tokens of answers, with gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from concept_forget.concepts import Example
from concept_forget.model import HookedModel
from concept_forget.sites import Site
from concept_forget.teacher import Told, by_sight, forced, told
from concept_forget.tokens import Batch


@dataclass
class Reader:
    """Reads one model. Pictures and plain texts go in batches of their own."""

    model: HookedModel

    def told(self, examples: Sequence[Example], end: bool) -> Told:
        """The answers; with `end` also the token that ends each. Of an answer to be forgotten the end is kept."""
        stop = (self.model.tokenizer.eos_token or "") if end else ""
        return Told.joined(
            [
                told(self.model.run(batch, logits="all", grad=torch.is_grad_enabled()).logits, batch)
                for batch in self._batches(examples, stop)
            ]
        )

    def activations(self, examples: Sequence[Example], site: Site) -> Float[Tensor, "n d"]:
        """At every position of prompts and answers that is not padding, in float32."""
        found = []
        for batch in self._batches(examples):
            run = self.model.run(batch, read=[site], logits=None, grad=torch.is_grad_enabled())
            x, eligible = run.activations[site], run.tokens.eligible(site)
            found.append((x.flatten(0, 1) if eligible is None else x[eligible.to(x.device)]).float())
        return torch.cat(found)

    def _batches(self, examples: Sequence[Example], end: str = "") -> Iterator[Batch]:
        for numbers in by_sight(examples):
            yield forced(self.model, [examples[number] for number in numbers], end=end)


@dataclass
class Step:
    """What a loss sees: the pairs drawn for one step, read by the model in training and by the untouched one.

    `forget`, `keep` and `instead` (the questions of `forget` with the method's other answers) are read when they are
    asked for and cost a forward pass each.
    """

    number: int
    epoch: int
    """Passes over the pairs to forget that are behind."""
    examples: dict[str, list[Example]]
    reader: Reader
    untouched: Callable[[], AbstractContextManager[Any]]
    memory: dict[str, Any] = field(default_factory=dict)
    """Whatever a loss keeps for later steps."""

    @cached_property
    def forget(self) -> Told:
        return self.reader.told(self.examples["forget"], end=False)

    @cached_property
    def keep(self) -> Told:
        return self.reader.told(self.examples["keep"], end=True)

    @cached_property
    def instead(self) -> Told:
        return self.reader.told(self.examples["instead"], end=True)

    def activations(self, part: str, site: Site) -> Float[Tensor, "n d"]:
        """Activations of the pairs of a part at a site."""
        return self.reader.activations(self.examples[part], site)

    @cached_property
    def before(self) -> Before:
        """The same pairs read by the untouched model, without gradients."""
        return Before(self)


@dataclass
class Before:
    """What the untouched model gives to the pairs of a step."""

    step: Step

    @cached_property
    def forget(self) -> Told:
        return self._read(lambda reader, examples: reader.told(examples["forget"], end=False))

    @cached_property
    def keep(self) -> Told:
        return self._read(lambda reader, examples: reader.told(examples["keep"], end=True))

    @cached_property
    def instead(self) -> Told:
        return self._read(lambda reader, examples: reader.told(examples["instead"], end=True))

    def activations(self, part: str, site: Site) -> Float[Tensor, "n d"]:
        """Activations of the pairs of a part at a site."""
        return self._read(lambda reader, examples: reader.activations(examples[part], site))

    def _read(self, read: Callable[[Reader, dict[str, list[Example]]], Any]) -> Any:
        with torch.no_grad(), self.step.untouched():
            return read(self.step.reader, self.step.examples)
