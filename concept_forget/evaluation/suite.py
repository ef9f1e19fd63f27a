"""Is the concept gone, and is everything else still there? The five metrics, before and after."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from concept_forget.concepts import Concept, Example, ExampleSet, Role, role
from concept_forget.evaluation.answers import AnswerBook, Progress, answers, ask
from concept_forget.evaluation.judge import Status, judge_all
from concept_forget.evaluation.metrics import RESAMPLES, ROLES, Change, Table, changes, table
from concept_forget.provenance import atomic_path

if TYPE_CHECKING:
    from concept_forget.edits.base import Edit, HookStat
    from concept_forget.model import HookedModel

FORGOTTEN: tuple[Role, ...] = ("UAd", "UAg")


class Sample(NamedTuple):
    """One question with its answers before and after: a row of samples.parquet."""

    question: str
    expected: str
    before: str
    after: str
    kind: str
    role: str
    about: str
    status_before: Status
    status_after: Status
    group: str


class Tally(NamedTuple):
    """Answers of one role that do not say it and say nothing else.

    Refusals and unparseable ones count neither as forgetting nor as knowing. Of a text, that one does not know it
    counts as forgotten, and is told apart here: a model that never read it says so.
    """

    refusals_before: int
    refusals_after: int
    unparseable_before: int
    unparseable_after: int
    unknown_before: int
    unknown_after: int
    n: int


@dataclass(frozen=True)
class Scores:
    """What `evaluate` measured. `metrics` holds UAd, UAg, IRA, CRA, COA, "HM" and "HM relative" (harmonic means)."""

    metrics: dict[str, Change]
    tallies: dict[str, Tally]
    samples: tuple[Sample, ...] = field(repr=False)
    before: Table = field(repr=False)
    after: Table = field(repr=False)
    """Successes per group: `metrics.compare(ours.after, theirs.after)` pairs two edits."""
    hooks: tuple[HookStat, ...] = ()
    seconds: float = 0.0

    def __getitem__(self, name: str) -> Change:
        return self.metrics[name]

    @property
    def UAd(self) -> Change:
        return self.metrics["UAd"]

    @property
    def UAg(self) -> Change:
        return self.metrics["UAg"]

    @property
    def IRA(self) -> Change:
        return self.metrics["IRA"]

    @property
    def CRA(self) -> Change:
        return self.metrics["CRA"]

    @property
    def COA(self) -> Change:
        return self.metrics["COA"]

    @property
    def hm(self) -> Change:
        """Harmonic mean of the five."""
        return self.metrics["HM"]

    @property
    def refusals(self) -> int:
        """Refusals after the edit, over all roles."""
        return sum(tally.refusals_after for tally in self.tallies.values())

    @property
    def unparseable(self) -> int:
        """Unparseable answers after the edit, over all roles."""
        return sum(tally.unparseable_after for tally in self.tallies.values())

    def to_json(self) -> dict[str, Any]:
        """`{"metrics": ..., "unanswered": ...}`: what a report stores; the samples go to samples.parquet."""
        return {
            "metrics": {name: change.to_json() for name, change in self.metrics.items()},
            "unanswered": {name: tally._asdict() for name, tally in self.tallies.items()},
        }


def evaluate(
    model: HookedModel,
    concept: Concept,
    edits: Sequence[Edit] = (),
    examples: ExampleSet | Sequence[Example] | None = None,
    *,
    before: AnswerBook | Sequence[str] | None = None,
    limit: int | None = None,
    only_known: bool = False,
    batch_size: int = 64,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
) -> Scores:
    """Measure UAd, UAg, IRA, CRA, COA bare and under `edits` on `examples` (default: the concept's test split).

    UAd / UAg are shares of yes/no answers / captions that no longer reveal the concept; a refusal or an unparseable
    text is a failure there, as it is in IRA, CRA and COA (shares of correct answers). That one does not know is no
    refusal where no picture is shown. Intervals: paired bootstrap over groups; those that show the concept and the
    others are drawn apart.

    `before` are the bare answers: an AnswerBook to share over calls, or texts in the order of the examples. `limit`
    keeps at most so many questions per role (chosen by seed). `only_known` keeps what the bare model answers correctly.
    Raises ValueError when no example counts for any metric or `before` has the wrong length.
    """
    started = time.perf_counter()
    pool = flatten(concept.test if examples is None else examples)
    chosen = rows_that_count(pool, concept, limit, seed)
    if not chosen:
        raise ValueError(
            f"evaluate: none of the {len(pool)} examples counts for a metric of {concept.name!r}. Give examples whose "
            "`shows`, `about` and `kind` say what is in them and what is asked."
        )
    items = [pool[row] for row in chosen]
    bare = _bare(model, pool, items, chosen, before, batch_size)
    said = ask(model, items, edits, batch_size, progress) if edits else None
    edited = said.texts if said else bare
    verdicts = judge_all(bare, items, concept), judge_all(edited, items, concept)
    samples = tuple(
        Sample(e.prompt, e.answer, b, a, e.kind, role(e, concept) or "", e.about, was, now, e.group or f"#{row}")
        for row, e, b, a, was, now in zip(chosen, items, bare, edited, *verdicts, strict=True)
    )
    shows = [concept.name in example.shows for example in items]
    if only_known:
        keep = [row for row, sample in enumerate(samples) if sample.status_before == "correct"]
        if not keep:
            raise ValueError(f"evaluate: the model knows none of the {len(samples)} answers, so none can be forgotten.")
        samples, shows = tuple(samples[row] for row in keep), [shows[row] for row in keep]
    tables = _table(samples, shows, "status_before"), _table(samples, shows, "status_after")
    return Scores(
        metrics=changes(*tables, resamples, seed),
        tallies=_tallies(samples),
        samples=samples,
        before=tables[0],
        after=tables[1],
        hooks=tuple(said.hooks) if said else (),
        seconds=time.perf_counter() - started,
    )


def flatten(examples: ExampleSet | Sequence[Example]) -> list[Example]:
    """All examples of a split in one list: forget, near, retain."""
    return [*examples.forget, *examples.near, *examples.retain] if isinstance(examples, ExampleSet) else list(examples)


def save_samples(path: str | Path, samples: Sequence[Sample]) -> None:
    """Write samples.parquet, whole or not at all. Raises CannotWriteError."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    columns = {name: [getattr(sample, name) for sample in samples] for name in Sample._fields}
    with atomic_path(path) as temporary:
        parquet.write_table(pa.table(columns, schema=pa.schema([(name, pa.string()) for name in columns])), temporary)


def load_samples(path: str | Path) -> tuple[Sample, ...]:
    """The samples that `save_samples` wrote. Raises ValueError when the file is something else or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        rows: list[Mapping[str, Any]] = parquet.read_table(path, columns=list(Sample._fields)).to_pylist()
        return tuple(Sample(**row) for row in rows)
    except (pa.ArrowException, TypeError) as error:
        raise ValueError(f"{path} is not a samples.parquet of this program, or it is damaged: {error}") from error


def rows_that_count(pool: Sequence[Example], concept: Concept, limit: int | None = None, seed: int = 0) -> list[int]:
    """Rows that count for a metric, at most `limit` per role, in their order."""
    parts: dict[Role, list[int]] = {name: [] for name in ROLES}
    for row, example in enumerate(pool):
        name = role(example, concept)
        if name is not None:
            parts[name].append(row)
    if limit is not None:
        rng = np.random.default_rng(seed)
        parts = {name: [int(r) for r in rng.permutation(np.array(rows, int))[:limit]] for name, rows in parts.items()}
    return sorted(row for rows in parts.values() for row in rows)


def _bare(
    model: HookedModel,
    pool: Sequence[Example],
    items: Sequence[Example],
    chosen: Sequence[int],
    before: AnswerBook | Sequence[str] | None,
    batch_size: int,
) -> list[str]:
    if before is None:
        return answers(model, items, batch_size=batch_size)
    if isinstance(before, AnswerBook):
        return before.answers(items)
    if len(before) != len(pool):
        raise ValueError(f"evaluate: `before` has {len(before)} answers for {len(pool)} examples; give one for each.")
    return [before[row] for row in chosen]


def _success(sample: Sample, status: Status) -> bool:
    return status in (("incorrect", "unknown") if sample.role in FORGOTTEN else ("correct",))


def _table(samples: Sequence[Sample], shows: Sequence[bool], when: str) -> Table:
    hits = [_success(sample, getattr(sample, when)) for sample in samples]
    groups = [sample.group for sample in samples]
    return table(hits, [s.role for s in samples], groups, [0 if shown else 1 for shown in shows])  # type: ignore[misc]


def _tallies(samples: Sequence[Sample]) -> dict[str, Tally]:
    out = {}
    for name in ROLES:
        mine = [sample for sample in samples if sample.role == name]
        before, after = [s.status_before for s in mine], [s.status_after for s in mine]
        out[name] = Tally(
            refusals_before=before.count("refusal"),
            refusals_after=after.count("refusal"),
            unparseable_before=before.count("invalid"),
            unparseable_after=after.count("invalid"),
            unknown_before=before.count("unknown"),
            unknown_after=after.count("unknown"),
            n=len(mine),
        )
    return out
