"""The current recipe against its controls, other methods and other settings, and against attempts to get it back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from analysis.audit import AttackResult, Audit, Budget, items_of
from analysis.audit import audit as attack
from analysis.audit.budget import QUICK
from analysis.audit.relearn import Relearn
from app.auditing import control_for
from app.ui.answering import prepared
from app.ui.desk import Desk, stoppable
from app.ui.edits import FITTED, LABELS, edits_for
from app.ui.jobs import Reporter
from app.ui.sessions import Session, Settings
from concept_forget.concepts import Concept, ExampleSet
from concept_forget.edits import Edit
from concept_forget.evaluation import Scores, evaluate
from concept_forget.model import HookedModel

CONTROLS = ("prompt", "random_features")
ATTACKS = (*QUICK, Relearn(counts=(5,), elsewhere=(), rates=(2e-3,)))
"""What the app tries, with seconds to spend; `concept-forget audit --budget full` spends minutes."""
SWEEP = 12
"""Validation questions per metric for every point of the sweep."""


class Point(NamedTuple):
    """One setting of the sweep with what it forgets and keeps on validation."""

    settings: Settings
    label: str
    forget: float
    keep: float
    score: float


def measure(desk: Desk, session: Session, questions: int, report: Reporter) -> dict[str, Any]:
    """Test metrics of the current recipe and its controls, as results.json has them; told after every part."""
    settings = session.settings
    results: dict[str, Any] = {
        "concept": settings.concept.removeprefix("own:"),
        "model": settings.model,
        "controls": {},
    }
    with stoppable(desk.model(settings.model), report):
        model, finding, edits = prepared(desk, session, report)
        concept = desk.concept(session)
        results["provenance"] = {"of": concept.of}
        scores = _scores(desk, model, concept, edits, questions, report, "the current recipe")
        results |= {**scores.to_json(), "hook": [stat.to_json() for stat in scores.hooks]}
        report.say(dict(results))
        for name in CONTROLS:
            control = replace(settings, method=name, loaded="")
            if name == "random_features":
                finding = finding or desk.finding(session, report)
                if control.strength == 0:
                    continue
            made = edits_for(finding, session, control)
            found = _scores(desk, model, concept, made, questions, report, LABELS[name].lower())
            results["controls"][name] = found.to_json()["metrics"]
            report.say(dict(results))
        blind = _blind(concept)
        if blind:
            scores = evaluate(model, concept, [], blind, limit=questions, resamples=200)
            results["blind"] = scores.to_json()["metrics"]
    return results


def compare(desk: Desk, session: Session, questions: int, report: Reporter) -> list[tuple[str, dict[str, Any]]]:
    """Test metrics of every method at its usual strength; told after each."""
    rows: list[tuple[str, dict[str, Any]]] = []
    with stoppable(desk.model(session.settings.model), report):
        finding = desk.finding(session, report)
        concept = desk.concept(session)
        for name, label in LABELS.items():
            if name in FITTED and name != session.settings.method:
                continue  # these take a while: they are compared once they were asked for
            settings = replace(
                session.settings, method=name, loaded="", action="scale" if name == "clamp" else "project"
            )
            edits = edits_for(finding, session, settings)
            found = _scores(desk, finding.model, concept, edits, questions, report, label.lower())
            rows.append((label, found.to_json()["metrics"]))
            report.say(list(rows))
    return rows


def sweep(desk: Desk, session: Session, report: Reporter) -> list[Point]:
    """Settings around the current one on validation, from gentle to strong; told after each."""
    points: list[Point] = []
    with stoppable(desk.model(session.settings.model), report):
        finding, concept = desk.finding(session, report), desk.concept(session)
        todo = list(candidates(session.settings))
        for number, settings in enumerate(todo):
            report.progress("sweeping settings on validation", number, len(todo))
            edits = edits_for(finding, session, settings)
            scores = evaluate(
                finding.model,
                concept,
                edits,
                concept.validation,
                before=desk.book(settings.model),
                limit=SWEEP,
                resamples=2,
            )
            rates = {name: change.after.value for name, change in scores.metrics.items() if change.after.n}
            forget = [rates[name] for name in ("UAd", "UAg") if name in rates]
            keep = [rates[name] for name in ("IRA", "CRA", "COA") if name in rates]
            if forget and keep:
                label = _label(settings)
                points.append(Point(settings, label, sum(forget) / len(forget), min(keep), rates.get("HM", 0.0)))
                report.say(list(points))
    return points


def candidates(now: Settings) -> Iterator[Settings]:
    """What a sweep tries: clamps of few and many features, gentle and strong, and differences of means."""
    base = replace(now, loaded="", features=(), gated=True)
    for k in (8, 16, 32):
        for strength in (1.0, 2.0, 4.0):
            yield replace(base, method="clamp", action="scale", k=k, strength=strength)
    for action in ("project", "shift"):
        for strength in (1.0, 2.0):
            yield replace(base, method="diff_means", action=action, strength=strength)
    yield replace(base, method="clamp", action="scale", k=16, strength=2.0, gated=False)


def audit(desk: Desk, session: Session, each: int, report: Reporter) -> Audit:
    """Tries to get the concept back, each on the edited model, the untouched one and, where there is one, a model that
    never knew it; told after every attack."""
    settings = session.settings
    with stoppable(desk.model(settings.model), report):
        model, _, edits = prepared(desk, session, report)
        concept = desk.concept(session)
        budget = Budget("app", ATTACKS, max(2, each // 3))
        twin = control_for(settings.model, concept.name)
        partial = Audit(model.name, concept.name, budget, tuple(items_of(concept, budget.each)), {}, twin or None)

        def keep(name: str, work: Callable[[], Any]) -> Any:
            value = work()
            target, _, attack = name.partition(" ")
            partial.results[target, attack] = AttackResult.from_json(value)  # type: ignore[index]
            if target == "edited":
                report.say(replace(partial, results=dict(partial.results), finished=False))
            return value

        def progress(_: str, done: int, total: int) -> None:
            report.progress("trying to get it back", done, total)

        control = desk.model(twin) if twin else None
        return attack(
            model,
            edits,
            concept,
            budget=budget,
            control=control,
            book=desk.book(settings.model),
            control_book=desk.book(twin) if twin else None,
            progress=progress,
            cancel=lambda: report.stopped,
            keep=keep,
        )


def _scores(
    desk: Desk, model: HookedModel, concept: Concept, edits: list[Edit], questions: int, report: Reporter, name: str
) -> Scores:
    return evaluate(
        model,
        concept,
        edits,
        before=desk.book(model.name),
        limit=questions,
        resamples=1000,
        progress=lambda done, total: report.progress(f"asking the test questions: {name}", done, total),
    )


def _blind(concept: Concept) -> ExampleSet | None:
    """The test questions without their pictures: what the words alone give away."""
    if not concept.test.forget or concept.test.forget[0].image is None:
        return None
    return ExampleSet(*(tuple(replace(e, image=None) for e in part) for part in concept.test))


def _label(settings: Settings) -> str:
    gate = "" if settings.gated else ", no gate"
    if settings.method == "clamp":
        return f"clamp {settings.k} features, {settings.strength:g}×{gate}"
    return f"{settings.action} means, {settings.strength:g}×{gate}"
