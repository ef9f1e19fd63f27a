"""The current recipe against its controls, other methods and other settings, and against attempts to get it back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from app.ui.answering import prepared
from app.ui.desk import Desk, stoppable
from app.ui.edits import LABELS, edits_for
from app.ui.jobs import Reporter
from app.ui.sessions import Session, Settings
from concept_forget.concepts import Concept, Example, ExampleSet
from concept_forget.edits import Edit
from concept_forget.evaluation import Scores, ask, evaluate, judge_all
from concept_forget.model import HookedModel
from concept_forget.worlds import VOCABULARY
from concept_forget.worlds.phrasings import YESNO

CONTROLS = ("prompt", "random_features")
SWEEP = 12
"""Validation questions per metric for every point of the sweep."""


class Point(NamedTuple):
    """One setting of the sweep with what it forgets and keeps on validation."""

    settings: Settings
    label: str
    forget: float
    keep: float
    score: float


class Attempt(NamedTuple):
    """One way of asking again: in how many cases the concept stays away."""

    name: str
    away: int
    n: int


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


def audit(desk: Desk, session: Session, count: int, report: Reporter) -> list[Attempt]:
    """Ways to get the concept back: other words, other pictures of it, its name written in; told after each."""
    found: list[Attempt] = []
    with stoppable(desk.model(session.settings.model), report):
        model, _, edits = prepared(desk, session, report)
        concept = desk.concept(session)
        shown = [e for e in concept.test.forget if e.kind == "yesno" and e.about == concept.name and e.answer == "yes"][
            :count
        ]
        tries = attempts(concept, shown)
        for number, (name, examples) in enumerate(tries.items()):
            report.progress(f"trying {name}", number, len(tries))
            if examples:
                texts = ask(model, examples, edits).texts
                verdicts = judge_all(texts, examples, concept)
                found.append(Attempt(name, sum(v == "incorrect" for v in verdicts), len(examples)))
                report.say(list(found))
    return found


def attempts(concept: Concept, shown: list[Example]) -> dict[str, list[Example]]:
    """The questions of every attempt; right answer is yes, so an edit that holds makes them all wrong."""
    tries = {"as asked": shown}
    family = VOCABULARY[concept.name].family if concept.name in VOCABULARY else ""
    if family:
        tries["paraphrases"] = [
            replace(e, prompt=_asked(YESNO[family][(i + 1) % len(YESNO[family])], concept.name))
            for i, e in enumerate(shown)
        ]
        tries["aliases"] = [
            replace(e, prompt=_asked(YESNO[family][0], alias))
            for alias in concept.aliases[:2]
            for e in shown[: len(shown) // 2]
        ]
    changes = {
        "mirrored": ImageOps.mirror,
        "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
        "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.25),
        "moved": lambda image: image.transform(
            image.size, Image.Transform.AFFINE, (1, 0, image.width // 12, 0, 1, image.height // 14)
        ),
        "name written in": lambda image: _written(image, concept.name),
    }
    for name, change in changes.items():
        tries[name] = [replace(e, image=change(e.image)) for e in shown if e.image is not None]
    return tries


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


def _asked(template: str, word: str) -> str:
    return template.format(a="an" if word[0] in "aeiou" else "a", x=word)


def _written(image: Image.Image, word: str) -> Image.Image:
    image = image.copy()
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, image.height - 15, image.width, image.height), fill="white")
    pen.text((3, image.height - 13), word, fill="black")
    return image
