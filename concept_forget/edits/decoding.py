"""Decoding rules: edits of how words are chosen. The model computes what it always did."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from concept_forget.edits.base import Edit
from concept_forget.sites import Site
from concept_forget.tokens import Batch, TokenMap

if TYPE_CHECKING:
    from concept_forget.model import HookedModel

Speak = Callable[[Batch, Mapping[str, Any]], list[str]]
"""Generates for a batch with these settings of transformers on top."""


class DecodingRule(Edit, ABC):
    """Decodes the rows that its own gate takes for the concept's under a rule; `HookedModel.generate` honours it.

    The gate reads the bare model's hidden states of the prompt. All other rows are what generation without the rule
    gives, bit for bit: they are generated in the same batch. Forward passes (`HookedModel.run`) are left alone, so
    probabilities and probes see the model as it is: nothing is gone from the weights.
    """

    site: Site
    """Where the gate reads."""
    kind: ClassVar[str]

    @abstractmethod
    def opens(self, model: HookedModel, batch: Batch) -> Bool[Tensor, " b"]:
        """Which prompts are decoded under the rule; called on the bare model."""

    @abstractmethod
    def settings_for(self, model: HookedModel, batch: Batch, stat: RuleStat) -> dict[str, Any]:
        """Settings of transformers' `generate` (beams, a logits processor) that carry the rule out on this batch."""

    @contextmanager
    def attached(self, model: HookedModel) -> Iterator[RuleStat]:
        """Under this context `model.generate` follows the rule. Rules nest: the first whose gate opens has the row."""
        running = RunningRule(self, RuleStat(type(self).__name__, self.site))
        model.engine.rules.append(running)
        try:
            yield running.stat
        finally:
            model.engine.rules.remove(running)


@dataclass(eq=False)
class RuleStat:
    """Proof that a rule bites."""

    edit: str
    """Kind of edit."""
    site: Site
    rows: int = 0
    """Prompts its gate judged."""
    gated: int = 0
    """Of these, decoded under the rule."""
    tokens: int = 0
    """Tokens generated under it, over all beams."""
    blocked: int = 0
    """Tokens that were among the candidates of a beam and were blocked."""
    forced: int = 0
    """Times that everything was blocked, so that the least penalised candidate was taken."""
    seconds: float = 0.0
    """Spent on judging prompts and on decoding under it."""

    def to_json(self) -> dict[str, Any]:
        """As it stands in results.json. `calls` and `mean_abs_delta` are there for readers of hooks: no activation
        moves."""
        counts = {name: getattr(self, name) for name in ("rows", "gated", "tokens", "blocked", "forced")}
        hook = {"site": str(self.site), "edit": self.edit, "calls": self.rows, "mean_abs_delta": 0.0}
        return hook | counts | {"seconds": round(self.seconds, 3)}

    def plus(self, other: RuleStat) -> RuleStat:
        """Everything added up."""
        names = ("rows", "gated", "tokens", "blocked", "forced", "seconds")
        return replace(self, **{name: getattr(self, name) + getattr(other, name) for name in names})


@dataclass(eq=False)
class RunningRule:
    """A rule under application, and its proof."""

    rule: DecodingRule
    stat: RuleStat


def ruled(model: HookedModel, batch: Batch, speak: Speak) -> list[str]:
    """What the model says after each prompt under the rules that are applied to it.

    Without rules it is `speak(batch, {})`. With rules, rows that no gate takes come from that very call, on the whole
    batch; the others are generated once more, by themselves, under the rule that takes them.
    """
    rules = [] if model.engine.paused else list(model.engine.rules)
    if not rules:
        return speak(batch, {})
    taken = _taken(model, batch, rules)
    texts = speak(batch, {}) if any(owner is None for owner in taken) else [""] * batch.size
    for running in rules:
        rows = [row for row, owner in enumerate(taken) if owner is running]
        if rows:
            started = time.perf_counter()
            part = rows_of(batch, rows)
            settings = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
            said = speak(part, {**settings, **running.rule.settings_for(model, part, running.stat)})
            for row, text in zip(rows, said, strict=True):
                texts[row] = text
            running.stat.seconds += time.perf_counter() - started
    return texts


def _taken(model: HookedModel, batch: Batch, rules: list[RunningRule]) -> list[RunningRule | None]:
    """The rule that has each row; None where it is left alone."""
    taken: list[RunningRule | None] = [None] * batch.size
    for running in rules:
        started = time.perf_counter()
        with model.bare():
            opened = running.rule.opens(model, batch).tolist()
        running.stat.rows += batch.size
        for row, is_open in enumerate(opened):
            if is_open and taken[row] is None:
                taken[row] = running
                running.stat.gated += 1
        running.stat.seconds += time.perf_counter() - started
    return taken


def rows_of(batch: Batch, rows: list[int]) -> Batch:
    """Some rows of a batch, with their pictures. The padding stays, so every row reads as it did before."""
    tokens, chosen = batch.tokens, torch.tensor(rows)
    tiles, answers = (None if part is None else part[rows] for part in (tokens.tiles, tokens.answer_mask))
    few = TokenMap(tokens.text[rows], tokens.layout, tiles, answers)
    return Batch({name: _rows(name, value, batch, chosen) for name, value in batch.inputs.items()}, few, batch.prompted)


def _rows(name: str, value: Tensor, batch: Batch, rows: Tensor) -> Tensor:
    rows = rows.to(value.device)
    if len(value) == batch.size:
        return value[rows]
    # Qwen2-VL lays the patches of all pictures end to end
    grids = batch.inputs.get("image_grid_thw")
    if grids is None or len(grids) != batch.size or int(grids.prod(1).sum()) != len(value):
        raise ValueError(
            f"A decoding rule needs a part of the batch, and {name} {tuple(value.shape)} has no row for each of its "
            f"{batch.size} prompts. Ask one prompt at a time."
        )
    return torch.cat([value.split(grids.prod(1).tolist())[row] for row in rows.tolist()])
