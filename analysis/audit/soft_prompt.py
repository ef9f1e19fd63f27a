"""A soft prompt: tokens that no word has, found by gradient, before the question."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.audit.base import Attack, AttackResult, Outcome, Target
from analysis.audit.items import Item, tells
from analysis.audit.tuning import answer_loss
from concept_forget.model import HookedModel

Aim = Literal["affirm", "away"]


@dataclass(frozen=True)
class SoftPrompt(Attack):
    """One prompt of free embeddings for all items, moved by the sign of the gradient (Schwinn et al. 2024).

    affirm: towards an opening that holds no answer. away: from what the target says now where that is wrong. Neither
    aim is told what is right. The items are asked after every `every` steps, and any time counts.
    """

    tokens: int = 20
    steps: int = 60
    every: int = 20
    step: float = 0.1
    """Of the mean size of an embedding's coordinates, per step."""
    batch: int = 16
    opening: str = "Sure, the answer is"
    aims: tuple[Aim, ...] = ("affirm", "away")

    name: ClassVar[str] = "soft prompt"
    access: ClassVar = "inference"

    def run(self, target: Target) -> AttackResult:
        started = time.perf_counter()
        mark = marker(target.model, self.tokens)
        if mark is None:
            return self.result(target, started, skipped="The tokenizer has no token that keeps a place in a prompt.")
        text, ids = mark
        items = [item.each(lambda e: replace(e, prompt=f"{text} {e.prompt}")) for item in target.items]
        wrong = [
            (item, outcome.said)
            for item, outcome in zip(items, self._now(target), strict=True)
            if not outcome.back and outcome.said and not tells([outcome.said], item.forbidden)
        ]
        outcomes: tuple[Outcome, ...] = ()
        losses: dict[str, list[float]] = {}
        with target.settled() as settled:
            # the book tells prompts apart and not what stands in their place
            for aim in self.aims:
                goals = wrong if aim == "away" else [(i, self.opening) for i in items if self._fair(i)]
                if goals:
                    found, losses[aim] = self._aimed(settled, items, goals, ids, aim)
                    outcomes += found
        return self.result(target, started, outcomes, loss=losses)

    def _fair(self, item: Item) -> bool:
        return not tells([self.opening], item.forbidden)

    @staticmethod
    def _now(target: Target) -> tuple[Outcome, ...]:
        return target.judged([(number, "", item) for number, item in enumerate(target.items)])

    def _aimed(
        self, target: Target, items: Sequence[Item], goals: Sequence[tuple[Item, str]], ids: list[int], aim: Aim
    ) -> tuple[tuple[Outcome, ...], list[float]]:
        model, rng = target.model, target.rng(self.name, aim)
        embedding = model.model.get_input_embeddings()
        start = embedding.weight[torch.tensor(ids, device=embedding.weight.device)].detach().float()
        size = float(embedding.weight.detach().float().abs().mean())
        soft = start.clone().requires_grad_()
        outcomes: tuple[Outcome, ...] = ()
        losses = []
        with placed(model, soft, ids):
            for step in range(1, self.steps + 1):
                target.check()
                chosen = rng.sample(list(goals), min(self.batch, len(goals)))
                wanted = [replace(item.shown, answer=answer) for item, answer in chosen]
                loss = answer_loss(model, wanted, target.edits)
                (gradient,) = torch.autograd.grad(loss, [soft])
                uphill = 1 if aim == "away" else -1
                with torch.no_grad():
                    soft += uphill * self.step * size * gradient.sign()
                losses.append(round(float(loss.detach()), 4))
                if step % self.every == 0:
                    tries = [(number, f"{aim}, {step} steps", item) for number, item in enumerate(items)]
                    outcomes += target.judged(tries)
        return outcomes, [losses[0], losses[-1]]


def marker(model: HookedModel, tokens: int) -> tuple[str, list[int]] | None:
    """Words whose tokens stand in every prompt unchanged, and these tokens (without the first and last word's)."""
    for word in ("!", "*", "x"):
        text = " ".join([word] * (tokens + 2))
        whole = model.tokenizer(text, add_special_tokens=False)["input_ids"]
        one = model.tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
        inner = one * tokens
        if _places(torch.tensor([whole]), inner).any():
            return text, inner
    return None


@contextmanager
def placed(model: HookedModel, soft: Float[Tensor, "k d"], ids: Sequence[int]) -> Iterator[None]:
    """Wherever these tokens stand in a row, the model reads the soft vectors instead of their embeddings."""

    def swap(_module: torch.nn.Module, args: tuple, named: dict, output: Tensor) -> Tensor | None:
        read = args[0] if args else named["input"]
        rows, columns = torch.nonzero(_places(read, ids), as_tuple=True)
        if not len(rows):
            return None
        output = output.clone()
        # the last such run of a row: nothing but the marker has one
        for offset in range(len(ids)):
            output[rows, columns + offset] = soft[offset].to(output.device, output.dtype)
        return output

    handle = model.model.get_input_embeddings().register_forward_hook(swap, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _places(ids: Tensor, wanted: Sequence[int]) -> Tensor:
    """Where in each row these tokens begin, the first time, [b, t - k + 1] bool."""
    if ids.shape[1] < len(wanted):
        return torch.zeros(len(ids), 1, dtype=torch.bool, device=ids.device)
    match = (ids.unfold(1, len(wanted), 1) == torch.tensor(list(wanted), device=ids.device)).all(-1)
    return match & (match.cumsum(1) == 1)
