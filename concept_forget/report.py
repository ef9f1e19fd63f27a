"""Everything measured in one run: metrics with intervals, controls, probes, hooks, gate, timing, versions, seed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from concept_forget.evaluation.metrics import Change
from concept_forget.provenance import versions, write_atomic

if TYPE_CHECKING:
    from concept_forget.evaluation.suite import Scores

SCHEMA = "concept-forget/results/1"


@dataclass(frozen=True)
class Report:
    """The content of results.json. Metrics are in [0, 1]; what was not measured is NaN here and null in the file."""

    model: str
    concept: str
    method: str
    seed: int
    metrics: dict[str, Change]
    """UAd, UAg, IRA, CRA, COA, "HM", "HM relative" under the edit."""
    unanswered: dict[str, dict[str, int]] = field(default_factory=dict)
    """Per metric: refusals and unparseable answers before and after, and n. They never count as forgetting.
    Unknown: how often it said not to know, which does where no picture is shown."""
    controls: dict[str, dict[str, Change]] = field(default_factory=dict)
    """The same metrics under every control: none, prompt, random_features."""
    probes: tuple[dict[str, Any], ...] = ()
    """Per site: before, after_frozen, after_retrained, selectivity, chance (`analysis.probing.ProbeResult.to_json`)."""
    hook: tuple[dict[str, Any], ...] = ()
    """Per site: calls, tokens, mean_abs_delta: the proof that the edit bites."""
    gate: dict[str, float] | None = None
    """{"recall", "false_fire"} of the gate on the test split; None for an edit without one."""
    settings: dict[str, Any] = field(default_factory=dict)
    """The method's settings as chosen on validation."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Model revision, config hash, recipe hash, world and split sizes: whatever says which run this was."""
    timing: dict[str, float] = field(default_factory=dict)
    """Seconds per stage."""
    versions: dict[str, str] = field(default_factory=versions)

    @classmethod
    def of(
        cls,
        scores: Scores,
        *,
        model: str,
        concept: str,
        method: str,
        seed: int,
        controls: Mapping[str, Scores] | None = None,
        probes: Sequence[Any] = (),
        **more: Any,
    ) -> Report:
        """From what `evaluate` and `probe` returned; `more` are fields of this class (gate, settings, timing, ...)."""
        return cls(
            model=model,
            concept=concept,
            method=method,
            seed=seed,
            metrics=dict(scores.metrics),
            unanswered={name: tally._asdict() for name, tally in scores.tallies.items()},
            controls={name: dict(control.metrics) for name, control in (controls or {}).items()},
            probes=tuple(probe.to_json() for probe in probes),
            hook=tuple(stat.to_json() for stat in scores.hooks),
            **more,
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON value that begins with the schema; `from_json` gives the same report back."""
        return {
            "schema": SCHEMA,
            "model": self.model,
            "concept": self.concept,
            "method": self.method,
            "seed": self.seed,
            "metrics": _changes_to_json(self.metrics),
            "unanswered": self.unanswered,
            "controls": {name: _changes_to_json(control) for name, control in self.controls.items()},
            "probes": list(self.probes),
            "hook": list(self.hook),
            "gate": self.gate,
            "settings": self.settings,
            "provenance": self.provenance,
            "timing": self.timing,
            "versions": self.versions,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Report:
        """Raises ValueError when the data has another schema or lacks a field, saying which."""
        found = data.get("schema") if isinstance(data, Mapping) else None
        if found != SCHEMA:
            raise ValueError(
                f"These results have schema {found!r}; this version reads {SCHEMA!r}. Run again to write them anew, or "
                "use the version of concept-forget that wrote them."
            )
        try:
            values = {name: data[name] for name in cls.__dataclass_fields__}
            values["metrics"] = _changes_from_json(values["metrics"])
            values["controls"] = {name: _changes_from_json(control) for name, control in values["controls"].items()}
            values["probes"], values["hook"] = tuple(values["probes"]), tuple(values["hook"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"These results are incomplete or damaged: {error!r}. Run again for new ones.") from error
        return cls(**values)

    def save(self, path: str | Path) -> Path:
        """Write results.json, whole or not at all. Raises CannotWriteError; ValueError on what JSON cannot hold."""
        return write_atomic(path, json.dumps(self.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """The report that `save` wrote. Raises ValueError when there is no such file, or it is not one of ours."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ValueError(f"There is no results file {path}. Give the results.json of a run directory.") from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not JSON: {error}. Give the results.json of a run directory.") from error
        return cls.from_json(data)


def _changes_to_json(changes: Mapping[str, Change]) -> dict[str, Any]:
    return {name: change.to_json() for name, change in changes.items()}


def _changes_from_json(data: Mapping[str, Any]) -> dict[str, Change]:
    return {name: Change.from_json(change) for name, change in data.items()}
