"""report.html: one self-contained page that says what was removed, what was kept, and what is left inside."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup
from PIL import Image

from analysis import figures

SIDE = 288
"""Pixels on the longer side of a picture in the page."""
METRICS = {
    "UAd": ("Says no when asked", "yes/no questions about it that no longer reveal it"),
    "UAg": ("Leaves it out of captions", "captions of its pictures without it or an alias"),
    "IRA": ("Rest of its family", "questions about others of its family, in other pictures"),
    "CRA": ("Other families", "questions about other families, in other pictures"),
    "COA": ("Rest of its pictures", "questions about everything else in the pictures that show it"),
}
OF_TEXTS = METRICS | {
    "UAg": ("Leaves the name out", "questions and descriptions that lead to its name, answered without it"),
    "IRA": ("Rest of its family", "questions about others of its family"),
    "CRA": ("Other families", "questions about other families, and skills"),
    "COA": ("Others beside it", "questions about others in texts that name it too"),
}
CONTROLS = {"prompt": "asked not to", "random_features": "random features", "random_weights": "random weights"}
STATUS = {
    "correct": "right",
    "incorrect": "wrong",
    "unknown": "doesn't know",
    "refusal": "refuses",
    "invalid": "unreadable",
}
GOOD: dict[str, tuple[str, ...]] = dict.fromkeys(("UAd", "UAg"), ("incorrect", "unknown"))
"""What an answer about the concept should be after the edit; any other should be correct."""


class Answer(NamedTuple):
    """One question about a picture or text and what the model said before and after."""

    question: str
    before: str
    after: str
    role: str
    """UAd, UAg, IRA, CRA or COA."""
    status_before: str
    status_after: str


@dataclass(frozen=True)
class Exhibit:
    """A picture (or text) of the test split with its questions."""

    image: Image.Image | None
    shows: tuple[str, ...]
    has_concept: bool
    answers: tuple[Answer, ...]


def render(
    results: Mapping[str, Any], exhibits: Sequence[Exhibit] = (), features: Sequence[Mapping[str, Any]] = ()
) -> str:
    """The page, from what results.json holds, some test pictures with answers, and the ranked features."""
    texts = figures.reads_texts(results)
    plots = {"metrics": figures.fragment(figures.metric_dumbbell(results), "figure-metrics")}
    if results.get("probes"):
        plots["probes"] = figures.fragment(figures.probe_curves(results), "figure-probes")
    if features:
        plots["features"] = figures.fragment(figures.feature_bars(features), "figure-features")
    return _template().render(
        r=results,
        things="texts" if texts else "pictures",
        metrics=[
            _row(name, *words, results)
            for name, words in (OF_TEXTS if texts else METRICS).items()
            if name in results["metrics"]
        ],
        controls={name: label for name, label in CONTROLS.items() if name in results.get("controls", {})},
        harmonic=results["metrics"].get("HM"),
        verdict=verdict(results),
        exhibits=[_exhibit(exhibit, results["concept"]) for exhibit in exhibits],
        probes=results.get("probes") or [],
        plots={name: Markup(plot) for name, plot in plots.items()},
        plotly=Markup(figures.script()),
        scheme=Markup(figures.SCHEME_CSS),
        seconds=sum(results.get("timing", {}).values()),
    )


def verdict(results: Mapping[str, Any]) -> list[str]:
    """Plain sentences: what it no longer says, what else it still says, what the probes still read."""
    name, metrics = results["concept"], results["metrics"]
    before, after = ({key: change[when]["value"] for key, change in metrics.items()} for when in ("before", "after"))
    said = []
    if after.get("UAd") is not None and after.get("UAg") is not None:
        texts = figures.reads_texts(results)
        shown, told = ("Asked about", "of the texts that lead to the name") if texts else ("Shown", "of its captions")
        said.append(
            f"{shown} {name}, the model no longer reveals it in {percent(after['UAd'])} of the yes/no questions and "
            f"{percent(after['UAg'])} {told} (before: {percent(before['UAd'])} and {percent(before['UAg'])})."
        )
    kept = [key for key in ("COA", "IRA", "CRA") if after.get(key) is not None]
    beside = "about others in texts with it" if figures.reads_texts(results) else "about the rest of the same pictures"
    words = {"COA": beside, "IRA": "about its family", "CRA": "about everything else"}
    if kept:
        parts = [f"{percent(after[key])} {words[key]} ({percent(before[key])})" for key in kept]
        said.append(f"It still answers {listed(parts)} correctly.")
    probes = [p for p in results.get("probes") or [] if figures.measured(p.get("after_retrained"))[0] >= 0]
    edited = [p for p in probes if abs(_value(p, "before") - _value(p, "after_frozen")) > 1e-9]
    if edited:
        worst = max(edited, key=lambda p: _value(p, "after_retrained"))
        _, low, _ = figures.measured(worst["after_retrained"])
        chance = _value(worst, "chance")
        meaning = "the information is still inside, the answers no longer use it" if low > chance else "near chance"
        said.append(
            f"A probe retrained under the edit reads it with {percent(_value(worst, 'after_retrained'))} at "
            f"{worst['site']} (chance: {percent(chance)}): {meaning}."
        )
    return said


def diff(before: str, after: str) -> Markup:
    """`after` with the words that left struck through and the words that came marked, as HTML."""
    old, new = (re.findall(r"\S+", text) for text in (before, after))
    parts = []
    for what, i, j, k, m in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        gone, came = escape(" ".join(old[i:j])), escape(" ".join(new[k:m]))
        if what == "equal":
            parts.append(came)
            continue
        parts += [f"<del>{gone}</del>"] if gone else []
        parts += [f"<ins>{came}</ins>"] if came else []
    return Markup(" ".join(parts))


def data_uri(image: Image.Image) -> str:
    """A picture as a data URI: PNG where it is small (no artefacts on drawings), else JPEG."""
    image = image.convert("RGB")
    small = max(image.size) <= SIDE
    if not small:
        image = image.copy()
        image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG" if small else "JPEG", **({"optimize": True} if small else {"quality": 86}))
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def percent(value: float | None) -> str:
    """98% or 99.6%: a decimal only where rounding would claim all or nothing."""
    if value is None or math.isnan(value):
        return "not measured"
    rounded = f"{value:.0%}"
    return f"{value:.1%}" if rounded in ("100%", "0%") and value not in (0.0, 1.0) else rounded


def listed(parts: Sequence[str]) -> str:
    """a, b and c."""
    return ", ".join(parts[:-1]) + f" and {parts[-1]}" if len(parts) > 1 else "".join(parts)


def _row(name: str, title: str, what: str, results: Mapping[str, Any]) -> dict[str, Any]:
    change = results["metrics"][name]
    controls = results.get("controls") or {}
    return {
        "name": name,
        "title": title,
        "what": what,
        "before": change["before"],
        "after": change["after"],
        "difference": change.get("difference"),
        "controls": {key: (controls[key].get(name) or {}).get("after") for key in CONTROLS if key in controls},
        "unanswered": results.get("unanswered", {}).get(name, {}),
    }


def _exhibit(exhibit: Exhibit, concept: str) -> dict[str, Any]:
    others = [name for name in exhibit.shows if name != concept]
    shown = listed(sorted(others)) or "nothing that is labelled"
    return {
        "uri": data_uri(exhibit.image) if exhibit.image else "",
        "alt": f"A test picture that shows {concept + ', ' if exhibit.has_concept else ''}{shown}",
        "has": exhibit.has_concept,
        "caption": " · ".join(exhibit.shows),
        "answers": [
            {
                **answer._asdict(),
                "diff": diff(answer.before, answer.after),
                "same": answer.before == answer.after,
                "good": answer.status_after in GOOD.get(answer.role, ("correct",)),
                "verdict": _verdict(answer, concept),
            }
            for answer in exhibit.answers
        ],
    }


def _verdict(answer: Answer, concept: str) -> str:
    if answer.status_after in ("unknown", "refusal", "invalid"):
        return STATUS[answer.status_after]
    if answer.role == "UAg":
        return f"still names {concept}" if answer.status_after == "correct" else "no longer named"
    if answer.role == "UAd":
        return f"still sees {concept}" if answer.status_after == "correct" else "no longer seen"
    return (
        "kept"
        if answer.status_after == "correct"
        else ("lost" if answer.status_before == "correct" else "wrong before")
    )


def _value(probe: Mapping[str, Any], key: str) -> float:
    return figures.measured(probe.get(key))[0]


def _interval(value: Mapping[str, Any] | None) -> str:
    """[low, high] in per cent, or nothing where it was not measured."""
    if not value or value.get("low") is None:
        return ""
    low, high = (f"{100 * value[end]:.0f}".replace("-0", "0") for end in ("low", "high"))
    return f"{low} to {high}".replace("-", "−")


def _signed(value: Mapping[str, Any] | None) -> str:
    if not value or value.get("value") is None:
        return ""
    return f"{100 * value['value']:+.0f}".replace("-", "−").replace("+0", "0").replace("−0", "0")


@lru_cache(maxsize=1)
def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"percent": percent, "interval": _interval, "signed": _signed}
    environment.filters["measured"] = lambda value: figures.measured(value)[0]
    return environment.get_template("report.html.jinja")
