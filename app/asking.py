"""Asking one batch of a job, bare and under edits; what cannot be asked is told apart, item by item."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from app.items import Item
from concept_forget.edits import Edit, NoEdit, SiteEdit
from concept_forget.evaluation.sharing import CannotShareError, looked_at_once
from concept_forget.model import HookedModel

Answer = tuple[str | None, str | None, str | None]
"""Bare, edited, error."""


class Asker:
    """Asks one batch: both ways where that can make a difference."""

    def __init__(self, model: HookedModel, edits: Sequence[Edit], max_new_tokens: int, bare: bool) -> None:
        self.model, self.edits, self.new, self.bare = model, tuple(edits), max_new_tokens, bare
        self.share = True
        self.rewords = any(type(edit).prompt is not Edit.prompt for edit in edits)
        # edits that say themselves whether they did anything
        self.honest = all(isinstance(one, SiteEdit | NoEdit) for edit in edits for one in edit.each())
        limit = getattr(model.model.config.get_text_config(decoder=True), "max_position_embeddings", None)
        self.limit = limit if isinstance(limit, int) else None

    def __call__(self, items: Sequence[Item], images: Sequence[Any]) -> tuple[list[Answer], list[dict[str, Any]]]:
        """An answer per item and what the hooks did."""
        answers: list[Answer | None] = [(None, None, image) if isinstance(image, str) else None for image in images]
        left = [row for row, answer in enumerate(answers) if answer is None]
        batch = None
        try:
            batch = self._prepared(items, images, left, self.edits) if left else None
            bad = [] if batch is None else self._too_long(batch)
        except (ValueError, RuntimeError, ArithmeticError, TypeError, IndexError):
            # one of them cannot be prepared: find out which, one by one
            bad = [self._alone(items[row], images[row]) for row in left]
        for row, reason in zip(left, bad, strict=True):
            if reason:
                answers[row] = (None, None, reason)
        asked, left = left, [row for row, answer in enumerate(answers) if answer is None]
        hooks: list[dict[str, Any]] = []

        def both(rows: list[int]) -> Any:
            # what was prepared to be counted is asked as it is, unless rows were left out
            whole = batch if rows == asked else None
            return self._both(items, rows, images, whole or self._prepared(items, images, rows, self.edits))

        for part in _parts(left, both):
            rows, (bare, edited, stats) = part
            hooks = stats if not hooks else [added(a, b) for a, b in zip(hooks, stats, strict=True)]
            for place, row in enumerate(rows):
                answers[row] = (bare[place], edited[place], None)
        return [answer for answer in answers if answer is not None], hooks

    def _too_long(self, batch: Any) -> list[str]:
        lengths = batch.tokens.mask.sum(1).tolist()
        room = None if self.limit is None else self.limit - self.new
        return [
            f"The prompt has {length} tokens; {self.model.name} takes {self.limit}, {self.new} of them for the answer."
            if room is not None and length > room
            else ""
            for length in lengths
        ]

    def _alone(self, item: Item, image: Any) -> str:
        try:
            return self._too_long(self._prepared([item], [image], [0], self.edits))[0]
        except (ValueError, RuntimeError, ArithmeticError, TypeError, IndexError) as error:
            return f"It cannot be prepared for {self.model.name}: {error}"

    def _both(self, items: Sequence[Item], rows: Sequence[int], images: Sequence[Any], batch: Any) -> Any:
        chosen = [items[row] for row in rows]
        edited = self._generated(chosen, batch, self.edits)
        stats = [stat.to_json() for stat in edited.hooks]
        if not self.bare:
            return [None] * len(rows), edited.texts, stats
        if self.honest and not any(stat["tokens"] for stat in stats):
            # every gate stayed shut: the model computed exactly what it would have computed bare
            return edited.texts, edited.texts, stats
        plain = self._prepared(items, images, rows, ()) if self.rewords else batch
        return self._generated(chosen, plain, ()).texts, edited.texts, stats

    def _prepared(
        self, items: Sequence[Item], images: Sequence[Any], rows: Sequence[int], edits: Sequence[Edit]
    ) -> Any:
        shown = [images[row] for row in rows] if images[rows[0]] is not None else None
        return self.model.prepare([items[row].prompt for row in rows], shown, edits=edits)

    def _generated(self, items: Sequence[Item], batch: Any, edits: Sequence[Edit]) -> Any:
        pictures = [item.picture for item in items]
        if self.share and pictures[0] is not None:
            try:
                with looked_at_once(self.model, batch, pictures):
                    return self.model.generate(batch, edits, max_new_tokens=self.new)
            except CannotShareError:
                self.share = False
        return self.model.generate(batch, edits, max_new_tokens=self.new)


def _parts(rows: list[int], work: Callable[[list[int]], Any]) -> list[tuple[list[int], Any]]:
    """`work` on all rows, or on halves of them while the device has not enough memory."""
    if not rows:
        return []
    try:
        return [(rows, work(rows))]
    except torch.OutOfMemoryError:
        if len(rows) == 1:
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = len(rows) // 2
    return _parts(rows[:half], work) + _parts(rows[half:], work)


def added(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """Two hook statistics as one. Of what is no hook (weights, rules) the later."""
    if "mean_abs_delta" not in a:
        return b
    tokens = a["tokens"] + b["tokens"]
    moved = a["mean_abs_delta"] * a["tokens"] + b["mean_abs_delta"] * b["tokens"]
    mean = moved / tokens if tokens else 0.0
    return {**a, "calls": a["calls"] + b["calls"], "tokens": tokens, "mean_abs_delta": mean}
