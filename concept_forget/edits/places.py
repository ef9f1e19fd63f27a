"""Where an edit is let in: masks of positions, and what a gate decided about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from concept_forget.edits.base import SiteEdit
    from concept_forget.edits.gate_bank import GateBank


@dataclass(eq=False)
class Doorway:
    """Where one edit is let in: what its gate decided at the prompt, held through cached decoding."""

    edit: SiteEdit
    decided: Tensor | None = None
    any_open: bool = True

    def judge(self, x: Tensor, places: Places) -> None:
        """Lets the gate decide about a prompt."""
        assert self.edit.gate is not None
        kind = places.of(self.edit.tokens())
        self.settle(self.edit.gate.decide(x, both(places.eligible, kind)).to(x.device), places)
        seen = both(self.decided, kind)
        # The one wait for the device, once per prompt: a closed gate then costs nothing at any later step.
        self.any_open = seen is not None and bool(seen.any())

    def settle(self, decided: Tensor, places: Places) -> None:
        """Takes over what was decided about a prompt."""
        self.decided = decided if places.editable is None else decided & places.editable

    def mask(self, x: Tensor, places: Places) -> Tensor | None:
        """The positions of an activation that may be changed; None where all may."""
        kind = places.of(self.edit.tokens())
        if self.decided is None:
            return both(places.editable, kind)
        (b, t, _), seen = x.shape, self.decided.shape[1]
        if t == seen:
            return both(self.decided, kind)
        row = self.decided.any(1, keepdim=True)
        grown = torch.cat([self.decided, row.expand(b, t - seen)], 1) if t > seen else row.expand(b, t)
        return both(grown, kind)


class Doorways:
    """Where several edits that read the same activation are let in; plain gates judge it together (`GateBank`)."""

    def __init__(self, edits: Sequence[SiteEdit], bank: GateBank | None = None) -> None:
        self.all, self.bank = [Doorway(edit) for edit in edits], bank
        self.together = [self.all[number] for number in (bank.numbers if bank else ())]
        self.alone = [door for door in self.all if door.edit.gate is not None and door not in self.together]

    def __call__(self, x: Tensor, places: Places, continuing: bool) -> dict[int, Tensor | None]:
        """The masks of the edits that are open anywhere, by number."""
        first = next(iter((*self.together, *self.alone)), None)
        if first is not None and (not continuing or first.decided is None or len(first.decided) != len(x)):
            with torch.no_grad():
                self._judge(x, places)
        return {number: door.mask(x, places) for number, door in enumerate(self.all) if door.any_open}

    def _judge(self, x: Tensor, places: Places) -> None:
        for door in self.alone:
            door.judge(x, places)
        if self.bank is not None:
            decided = self.bank.decide(x, places.eligible)
            for door, rows, any_open in zip(self.together, decided.unbind(1), decided.any(0).tolist(), strict=True):
                door.settle(rows[:, None].expand(x.shape[:2]), places)
                door.any_open = any_open


class Places(NamedTuple):
    """Masks [b, t] of the positions of an activation; None where all are."""

    eligible: Tensor | None
    """Not padding: what gates judge by."""
    editable: Tensor | None
    """What an edit may change."""
    pictures: Tensor | None
    """Where the picture is in a prompt; None where that cannot be told."""

    def of(self, tokens: Literal["all", "image", "text"]) -> Tensor | None:
        """The positions of this kind. Raises ValueError where the token ids are not known."""
        if tokens == "all":
            return None
        if self.pictures is None:
            raise ValueError(
                f"An edit of {tokens} tokens needs a text site of a model that sees, and a forward pass that is given "
                "input_ids; use tokens='all' here."
            )
        return self.pictures if tokens == "image" else ~self.pictures


def both(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """Positions in both masks; None stands for all."""
    if one is None or other is None:
        return one if other is None else other
    return one & other


def union(masks: Sequence[Tensor | None]) -> Tensor | None:
    """Positions in at least one mask; None stands for all."""
    found: Tensor | None = None
    for mask in masks:
        if mask is None:
            return None
        found = mask if found is None else found | mask
    return found
