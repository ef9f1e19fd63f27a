"""What an audit found: how much of the concept comes back, over what a model says that never knew it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, get_args

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from analysis.audit.base import ACCESS, Access, AttackResult, TargetName
from analysis.audit.budget import Budget
from analysis.audit.items import KINDS, Item
from concept_forget.evaluation import Status
from concept_forget.evaluation.metrics import RESAMPLES, Measured, draw_groups, interval
from concept_forget.provenance import versions

SCHEMA = "concept-forget/audit/1"
REVERSIBLE = (
    "An edit that is applied while the model runs is undone by anybody who has the weights: they leave it out. "
    "Attacks on the weights were run with the edit in place."
)


@dataclass(frozen=True)
class Audit:
    """All attacks on all targets. Rates are over items that the untouched model knows; intervals resample groups."""

    model: str
    concept: str
    budget: Budget
    items: tuple[Item, ...] = field(repr=False)
    results: dict[tuple[TargetName, str], AttackResult] = field(repr=False)
    """By target and attack."""
    control: str | None = None
    """The model that never knew the concept."""
    seed: int = 0
    hooks: bool = False
    """Whether some of the edit lives outside the weights."""
    finished: bool = True
    """False when it was stopped: then it says only what was tried."""
    resamples: int = RESAMPLES

    @cached_property
    def scorable(self) -> Bool[ndarray, " items"]:
        """The items that the untouched model answers rightly when asked directly, and its counterpart too."""
        return self.back(["direct"], "untouched")

    @property
    def targets(self) -> tuple[TargetName, ...]:
        return tuple(dict.fromkeys(target for target, _ in self.results))

    @property
    def attacks(self) -> tuple[str, ...]:
        """The attacks that were tried on the edited model."""
        return tuple(name for target, name in self.results if target == "edited")

    def back(self, attacks: Iterable[str], target: TargetName) -> Bool[ndarray, " items"]:
        """Of every item, whether any try of these attacks brings it back."""
        out = np.zeros(len(self.items), bool)
        for outcome in self._outcomes(attacks, target):
            out[outcome.item] |= outcome.back
        return out

    def tried(self, attacks: Iterable[str]) -> Bool[ndarray, " items"]:
        """Of every item, whether any of these attacks can ask it."""
        out = np.zeros(len(self.items), bool)
        for outcome in self._outcomes(attacks, "edited"):
            out[outcome.item] = True
        return out

    def leak(self, attacks: str | Sequence[str], target: TargetName = "edited") -> Measured | None:
        """Share of scorable items that any of these attacks brings back; of one attack, over those it can ask.

        None where the target was not attacked so.
        """
        names = [attacks] if isinstance(attacks, str) else list(attacks)
        if not any((target, name) in self.results and self.results[target, name].outcomes for name in names):
            return None
        counted = self.scorable & self.tried(names) if isinstance(attacks, str) else self.scorable
        return self._rate(self.back(names, target).astype(float), counted)

    def advantage(self, attacks: str | Sequence[str]) -> Measured | None:
        """The headline: leak of the edited model minus that of the control, paired. None without a control."""
        names = [attacks] if isinstance(attacks, str) else list(attacks)
        if self.leak(attacks, "edited") is None or self.leak(attacks, "control") is None:
            return None
        counted = self.scorable & self.tried(names) if isinstance(attacks, str) else self.scorable
        gap = self.back(names, "edited").astype(float) - self.back(names, "control")
        return self._rate(gap, counted)

    def within(self, access: Access) -> tuple[str, ...]:
        """The attacks of this access class and those below it that ask items."""
        asked = {name for (_, name), result in self.results.items() if result.outcomes}
        return tuple(name for name in self.budget.within(access) if name in asked)

    def worst(self, access: Access = "weights", target: TargetName = "edited") -> Measured | None:
        """Worst-case leakage over the budget: share of scorable items for which any allowed attack succeeds."""
        return self.leak(self.within(access), target)

    def statuses(self, attacks: Iterable[str], target: TargetName = "edited") -> dict[str, int]:
        """How many tries on scorable items ended how."""
        found = Counter(o.status for o in self._outcomes(attacks, target) if self.scorable[o.item])
        return {name: found.get(name, 0) for name in get_args(Status)}

    def to_json(self) -> dict[str, Any]:
        """As audit.json has it: the headline, every attack, the worst case by access class; without the answers."""
        held: list[Access] = [access for access in ACCESS if any(r.access == access for r in self.results.values())]
        by_kind = {kind: [number for number, i in enumerate(self.items) if i.shown.kind == kind] for kind in KINDS}
        return {
            "schema": SCHEMA,
            "model": self.model,
            "control": self.control,
            "concept": self.concept,
            "seed": self.seed,
            "finished": self.finished,
            "budget": self.budget.to_json(),
            "items": {
                "n": len(self.items),
                "scorable": int(self.scorable.sum()),
                "by kind": {kind: [len(rows), int(self.scorable[rows].sum())] for kind, rows in by_kind.items()},
            },
            "worst": {
                access: {
                    **{target: _json(self.worst(access, target)) for target in ("edited", "untouched", "control")},
                    "advantage": _json(self.advantage(self.within(access))),
                    "attacks": list(self.within(access)),
                }
                for access in held
            },
            "attacks": {name: self._attack(name) for name in self.attacks},
            "notes": self.notes,
            "versions": versions(),
        }

    @property
    def notes(self) -> list[str]:
        """What a reader of the numbers has to know."""
        found = []
        if self.hooks:
            found.append(REVERSIBLE)
        if self.control is None:
            found.append("No model that never knew the concept was given: leaks are not compared with chance.")
        if not self.scorable.any():
            found.append("The untouched model knows none of the items, so nothing could be scored.")
        if not self.finished:
            found.append("Stopped before all attacks were tried: the worst case is that of the ones tried.")
        return found

    def _attack(self, name: str) -> dict[str, Any]:
        mine = self.results["edited", name]
        return {
            "access": mine.access,
            "skipped": mine.skipped,
            "tries": len(mine.outcomes),
            **{target: _json(self.leak(name, target)) for target in ("edited", "untouched", "control")},
            "advantage": _json(self.advantage(name)),
            "statuses": {target: self.statuses([name], target) for target in self.targets},
            "variants": self._variants(name),
            "figures": {t: self.results[t, name].figures for t in self.targets if (t, name) in self.results},
            "seconds": {t: self.results[t, name].seconds for t in self.targets if (t, name) in self.results},
        }

    def _variants(self, name: str) -> dict[str, dict[str, Any]]:
        """Per variant of an attack, the share of scorable items that it brings back."""
        found: dict[str, dict[str, Any]] = {}
        for target in self.targets:
            rows: dict[str, list[bool]] = {}
            for outcome in self._outcomes([name], target):
                if self.scorable[outcome.item]:
                    rows.setdefault(outcome.variant, []).append(outcome.back)
            for variant, hits in rows.items():
                found.setdefault(variant, {})[target] = {"value": float(np.mean(hits)), "n": len(hits)}
        return found

    def _outcomes(self, attacks: Iterable[str], target: TargetName):
        for name in attacks:
            result = self.results.get((target, name))
            if result is not None:
                yield from result.outcomes

    def _rate(self, values: ndarray, counted: ndarray) -> Measured:
        """Mean over the counted items, with the interval of resampling their groups."""
        rows = np.flatnonzero(counted)
        groups: dict[str, int] = {}
        place = [groups.setdefault(self.items[r].shown.group or f"#{r}", len(groups)) for r in rows]
        if not len(rows):
            return interval(float("nan"), np.zeros(0), 0)
        hits, counts = np.zeros((2, len(groups)))
        np.add.at(hits, place, values[rows])
        np.add.at(counts, place, 1.0)
        draws = draw_groups((len(groups),), self.resamples, self.seed)
        return interval(float(values[rows].mean()), draws @ hits / (draws @ counts), len(rows))


def _json(measured: Measured | None) -> dict[str, Any] | None:
    return None if measured is None else measured.to_json()
