"""Settings chosen on validation: every candidate on a few questions, the best of them on more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from app.dictionaries import DEFAULT_RANKING, Progress
from app.opening import PLUS, find_method
from concept_forget.concepts import Concept, Example, ForgetRequest, role
from concept_forget.edits import Edit, ImageGate, SiteEdit
from concept_forget.evaluation import AnswerBook, evaluate
from concept_forget.evaluation.faint import asked_faintly
from concept_forget.evaluation.metrics import ROLES, harmonic_mean
from concept_forget.evaluation.suite import FORGOTTEN, rows_that_count
from concept_forget.methods import (
    METHODS,
    Blur,
    Clamp,
    DiffMeans,
    Dsg,
    GatedClamp,
    Leace,
    Method,
    PatchClamp,
    RandomFeatures,
)
from concept_forget.model import HookedModel

RANKINGS = {
    "sauce": ("sauce",),
    "clamp": ("contrast", "causal"),
    "gated_clamp": ("contrast", "causal"),
    "residual_clamp": ("contrast", "causal"),
    "dsg": ("contrast", "causal"),
}
"""Rankings a method chooses from on validation; others work with the first of `DEFAULT_RANKING`."""
Candidate = tuple[str, Method, Edit]
"""Ranking, settings, edit."""
Judged = dict[tuple[str, Method, int], tuple[float, dict[str, float]]]
"""Validation score and rates by ranking, settings and number of questions, of one concept."""


@dataclass(frozen=True)
class Choosing:
    """How settings are chosen on validation: all on a few questions, then the best on more."""

    first: int = 12
    """Questions per metric for every candidate."""
    second: int = 48
    """Questions per metric for those that are left."""
    keep: int = 5
    """Candidates that reach the second round."""
    faint: int = 2
    """On how many faint copies of each picture forgetting is also judged (`asked_faintly`), 0 for none. What any of
    them brings back is not forgotten: an edit that holds only where the concept is shown plainly loses against one that
    holds everywhere."""


NONE = "none"
"""The ranking of methods that need no features; `ranked` then holds what else they are to be told of the place."""
FINDS = 0.95
"""Share of the validation pictures with the concept that the best gate has to find, or `sauce+` tries without one."""
UNGATED: tuple[Method, ...] = (Clamp(), DiffMeans(try_gates=False), Leace())
OF_TEXT: tuple[Method, ...] = (Blur(), Dsg(), Leace(gated=True))
"""What `sauce+` tries besides on a model that reads text only."""
OF_PICTURES: tuple[Method, ...] = (DiffMeans(strength=3.0, faint=1, try_gates=False), PatchClamp())
"""What `sauce+` tries first on a model that sees, one after the other. A gate per picture is perfect until a changed
picture slips past it (docs/removal.md); these decide patch by patch. Of equals the one that goes furthest is taken: the
first."""
HOLDS = 0.9
"""Worst of the five validation rates of the best so far at which `sauce+` looks no further."""


class Choice(NamedTuple):
    """The settings chosen on validation, with their edit."""

    method: Method
    edit: Edit
    ranking: str
    tried: list[dict[str, Any]]
    """Every candidate with its validation scores, the chosen one first."""


def choose_method(
    model: HookedModel,
    concept: Concept,
    name: str,
    ranked: Mapping[str, Any],
    *,
    seed: int = 0,
    choosing: Choosing | None = None,
    book: AnswerBook | None = None,
    judged: Judged | None = None,
    only_known: bool = False,
    ungated: bool = False,
    settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    among: Iterable[Candidate] | None = None,
) -> Choice:
    """The settings of a method with the highest harmonic mean of the five metrics on validation, with their edit.

    `judged` remembers candidates of this concept, for methods that share some. `only_known` judges them, as a report
    with it does, on what the untouched model answers correctly. `among` are the candidates, instead of the method's.
    `ungated` leaves out those behind a gate, which no weights can hold exactly; raises ValueError when none is left.
    `settings` of the method are held, and only the others chosen.
    """
    choosing, book = choosing or Choosing(), book or AnswerBook(model)
    judged = {} if judged is None else judged
    request = ForgetRequest(concept, seed)
    faint = cache(
        lambda limit: asked_faintly(concept, limit, choosing.faint, seed) if choosing.faint and model.has_vision else ()
    )
    judge = _Judge(model, concept, choosing, book, judged, only_known, faint, progress)
    found: dict[tuple[str, Method], Edit] = {}
    choice = None
    for stage in _stages(model, request, name, ranked, ungated, settings) if among is None else (among,):
        found |= {(ranking, method): edit for ranking, method, edit in stage if not (ungated and _gates(edit))}
        if found:
            choice = judge.best([(ranking, method, edit) for (ranking, method), edit in found.items()])
            if all(choice.tried[0].get(rate, 1.0) >= HOLDS for rate in ROLES):
                break
    if choice is None:
        raise ValueError(f"Every setting of {name} has a gate. Choose another method, or do without --ungated.")
    return choice


@dataclass(frozen=True)
class _Judge:
    """Candidates of one concept on validation."""

    model: HookedModel
    concept: Concept
    choosing: Choosing
    book: AnswerBook
    judged: Judged
    only_known: bool
    faint: Callable[[int], Sequence[Example]]
    progress: Progress | None

    def best(self, candidates: Sequence[Candidate]) -> Choice:
        """The best candidate: all on a few questions, those left on more. A single one is not judged."""
        if len(candidates) == 1:
            ranking, method, edit = candidates[0]
            return Choice(method, edit, ranking, [{**method.settings(), "ranking": ranking, "chosen": True}])
        choosing, total = self.choosing, len(candidates) + self.choosing.keep
        scored = []
        for number, one in enumerate(candidates):
            self._report(number, total)
            scored.append((*self.score(one, choosing.first), number))
        scored.sort(key=lambda entry: (-entry[0], entry[2]))
        final = []
        for number, (_, _, index) in enumerate(scored[: choosing.keep]):
            self._report(len(candidates) + number, total)
            final.append((*self.score(candidates[index], choosing.second), index))
        final.sort(key=lambda entry: (-entry[0], entry[2]))
        tried = [
            {
                **candidates[index][1].settings(),
                "ranking": candidates[index][0],
                "round": 2 if position < len(final) else 1,
                "score": round(score, 4),
                **rates,
                "chosen": position == 0,
            }
            for position, (score, rates, index) in enumerate([*final, *scored[choosing.keep :]])
        ]
        ranking, method, edit = candidates[final[0][2]]
        return Choice(method, edit, ranking, tried)

    def score(self, candidate: Candidate, limit: int) -> tuple[float, dict[str, float]]:
        """Validation score and rates on so many questions per metric."""
        ranking, method, edit = candidate
        key = (ranking, method, limit)
        if key not in self.judged:
            self.judged[key] = on_validation(
                self.model, self.concept, edit, limit, self.book, self.only_known, self.faint(limit)
            )
        return self.judged[key]

    def _report(self, done: int, total: int) -> None:
        if self.progress:
            self.progress("choosing settings on validation", done, total)


def control_methods(chosen: Method) -> dict[str, Method]:
    """The two controls of an edit: asking, and the same edit on random features (a plain clamp where it has none)."""
    of = chosen if isinstance(chosen, Clamp | GatedClamp | PatchClamp | Dsg) else Clamp()
    return {"prompt": METHODS["prompt"](), "random_features": RandomFeatures(of=of)}


def method_of(settings: Mapping[str, Any]) -> Method:
    """The method that `Method.settings` described."""
    return METHODS[settings["method"]](**{key: value for key, value in settings.items() if key != "method"})


def rankings_of(name: str) -> tuple[str, ...]:
    """The rankings that a method chooses from."""
    return RANKINGS["gated_clamp"] if name == PLUS else RANKINGS.get(name, DEFAULT_RANKING)


def methods_of(model: HookedModel, name: str, settings: Mapping[str, Any] | None = None) -> list[Method]:
    """The methods to choose from under a name on this model: for `sauce+` also what only texts have."""
    return [*find_method(name, settings), *(OF_TEXT if name == PLUS and not model.has_vision else ())]


def _stages(
    model: HookedModel,
    request: ForgetRequest,
    name: str,
    ranked: Mapping[str, Any],
    ungated: bool,
    settings: Mapping[str, Any] | None,
) -> Iterator[Iterator[Candidate]]:
    """What to choose from; a later stage is for what no earlier one does well."""
    bases = methods_of(model, name, settings)
    if name == PLUS and model.has_vision:
        for first in OF_PICTURES:
            yield _fitted(model, request, first, ranked)
    yield _candidates(model, request, name, bases, ranked, ungated, settings)


def _fitted(model: HookedModel, request: ForgetRequest, base: Method, ranked: Mapping[str, Any]) -> Iterator[Candidate]:
    for ranking in (NONE,) if NONE in ranked else rankings_of(base.name):
        if ranking in ranked:
            for method, edit in base.fit_grid(model, request, ranked[ranking]):
                yield ranking, method, edit


def _candidates(
    model: HookedModel,
    request: ForgetRequest,
    name: str,
    bases: Iterable[Method],
    ranked: Mapping[str, Any],
    ungated: bool,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[Candidate]:
    recall = 0.0
    for base in bases:
        for ranking, method, edit in _fitted(model, request, base, ranked):
            if any(getattr(method, key) != value for key, value in (settings or {}).items()):
                continue
            recall = max(recall, *(one.recall for one in _gates(edit)), 0.0)
            yield ranking, method, edit
    if name == PLUS and (ungated or recall < FINDS):
        # On photographs the gate is what misses (docs/examples/real_photographs.md): do without one where it does.
        for base in UNGATED:
            yield from (one for one in _fitted(model, request, base, ranked) if not _gates(one[2]))


def _gates(edit: Edit) -> list[ImageGate]:
    """The gates of an edit, also those of edits in it."""
    sites = [one for one in edit.each() if isinstance(one, SiteEdit)]
    gates = [one.gate for edit in sites for one in (edit.branches() or (edit,))]
    return [gate for gate in gates if isinstance(gate, ImageGate)]


def on_validation(
    model: HookedModel,
    concept: Concept,
    edit: Edit,
    limit: int,
    book: AnswerBook,
    only_known: bool = False,
    faint: Sequence[Example] = (),
) -> tuple[float, dict[str, float]]:
    """What an edit is chosen by: the harmonic mean of the five rates on validation, and the rates, as in a report.

    With `faint` questions, each a group with its copies, UAd and UAg are the shares of groups of which all hold.
    """
    pool = [e for part in concept.validation for e in part if not faint or role(e, concept) not in FORGOTTEN]
    asked = [pool[row] for row in rows_that_count(pool, concept, limit)]
    after = evaluate(model, concept, [edit], [*asked, *faint], before=book, only_known=only_known, resamples=1).after
    hits, counts = after.hits, after.counts
    if faint:
        forgotten = [name in FORGOTTEN for name in ROLES]
        hits = np.where(forgotten, (counts > 0) & (hits == counts), hits)
        counts = np.where(forgotten, counts > 0, counts)
    hits, counts = hits.sum(0), counts.sum(0)
    there = counts > 0
    # Half a success and half a failure more: one lucky or unlucky answer among few does not decide.
    score = float(harmonic_mean((hits[there] + 0.5) / (counts[there] + 1)))
    return score, {name: round(hits[k] / counts[k], 4) for k, name in enumerate(ROLES) if there[k]}
