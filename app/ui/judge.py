"""Step 5, Judge: numbers with intervals and controls, other methods, other settings, attempts to get it back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from typing import Any

import gradio as gr

from analysis import figures
from analysis.audit import Audit
from app.report_page import METRICS, OF_TEXTS, percent
from app.ui import html, judging
from app.ui.jobs import MODEL, Done, Step, guarded, run
from app.ui.judging import Point
from app.ui.pareto import pareto
from app.ui.parts import Parts, block, everything, speaking
from app.ui.sessions import Session

LEAK = 0.1
"""Share of an attempt's questions that may be answered again before it counts as bringing the concept back."""
TRIED = {
    "direct": "as asked",
    "paraphrase": "paraphrases",
    "alias": "aliases",
    "phrasing": "asked indirectly",
    "multi-turn": "later in a conversation",
    "hints": "told other facts first",
    "dilution": "padded, after filler",
    "crop": "cropped",
    "blur": "blurred",
    "resize": "resized",
    "colour": "darker",
    "noise": "noise",
    "typographic": "words written in",
    "relearn": "relearned from 5 examples",
}
"""The attacks in the words of the page."""
SHORT = {
    "UAd": "says no when asked",
    "UAg": "left out of captions",
    "IRA": "its family",
    "CRA": "other families",
    "COA": "same pictures",
}
SHORT_OF_TEXTS = SHORT | {"UAg": "name left out", "COA": "others beside it"}


def build(parts: Parts) -> None:
    """The components."""
    block(
        html.lead(
            "Is it gone, and is everything else still there? Higher is better in every row. Controls say what merely "
            "asking, random features or no picture at all would do."
        )
    )
    with gr.Row(elem_classes="cf-actions"):
        parts.questions = gr.Slider(
            10, 200, value=30, step=10, label="Test questions per metric", elem_id="cf-questions"
        )
        parts.judge_go = gr.Button("Measure", variant="primary", elem_classes="cf-go", elem_id="cf-measure")
        parts.judge_stop = gr.Button("Stop", elem_classes="cf-stop", elem_id="cf-judge-stop")
    parts.judge_status = block("", elem_id="cf-judge-status", elem_classes="cf-status")
    parts.judge_plot = gr.Plot(show_label=False, visible=False, elem_classes="cf-plot", elem_id="cf-metrics")
    parts.judge_table = block("", elem_id="cf-judge-table", elem_classes="cf-status")
    block(
        html.heading(
            "Forget against keep",
            "Settings from gentle to strong, on validation questions. Press a point, or its line, to make it the "
            "current recipe.",
        )
    )
    parts.sweep_go = gr.Button("Sweep the settings", elem_classes="cf-go", elem_id="cf-sweep")
    parts.sweep = speaking(elem_id="cf-points")
    block(html.heading("Methods side by side", "Every method on the same test questions."))
    parts.compare_go = gr.Button("Compare the methods", elem_classes="cf-go", elem_id="cf-compare")
    parts.compare = block("", elem_id="cf-methods", elem_classes="cf-status")
    block(
        html.heading(
            "Attempts to get it back",
            "Other words, aliases, changed pictures, words written into them, and relearning from five examples: how "
            "many questions about the concept are answered again?",
        )
    )
    parts.audit_go = gr.Button("Try to get it back", elem_classes="cf-go", elem_id="cf-audit-go")
    parts.audit = block("", elem_id="cf-audit", elem_classes="cf-status")


def wire(parts: Parts) -> None:
    """What happens."""

    def working(key: str, work: Callable[[Session, Any], Any], show: Callable[[Session, Any], dict]) -> Iterator[dict]:
        session = parts.sessions.get(key)
        for event in run(session, lambda report: work(session, report)):
            if isinstance(event, Step):
                yield {parts.judge_status: html.progress(event.stage, event.done, event.total)}
            elif not isinstance(event, Done):
                yield show(session, event)
            elif event.stopped:
                yield {parts.judge_status: html.note("Stopped; what was finished stays.")}
            else:
                yield {**show(session, event.value), parts.judge_status: ""}

    def judged(session: Session, results: dict[str, Any]) -> dict[Any, Any]:
        session.judged = {**results, "settings": session.settings}
        plot = figures.metric_dumbbell(results)
        return {parts.judge_plot: gr.update(value=plot, visible=True), parts.judge_table: _table(results)}

    def swept(session: Session, points: list[Point]) -> dict[Any, Any]:
        session.points = [point._asdict() for point in points]
        return {parts.sweep: pareto(points, session.settings)}

    @guarded
    def measure(key: str, questions: float) -> Iterator[dict[Any, Any]]:
        yield from working(key, lambda s, report: judging.measure(parts.desk, s, int(questions), report), judged)

    @guarded
    def sweep(key: str) -> Iterator[dict[Any, Any]]:
        yield from working(key, lambda s, report: judging.sweep(parts.desk, s, report), swept)

    @guarded
    def compare(key: str, questions: float) -> Iterator[dict[Any, Any]]:
        yield from working(
            key,
            lambda s, report: judging.compare(parts.desk, s, int(questions), report),
            lambda s, rows: {parts.compare: _compared(rows, parts.desk.concept(s).of)},
        )

    @guarded
    def audit(key: str, questions: float) -> Iterator[dict[Any, Any]]:
        yield from working(
            key,
            lambda s, report: judging.audit(parts.desk, s, int(questions), report),
            lambda _, found: {parts.audit: _audit(found)},
        )

    @guarded
    def load(key: str, event: gr.EventData) -> dict[Any, Any]:
        session = parts.sessions.get(key)
        number = int(event._data["arg"])
        if not 0 <= number < len(session.points):
            raise LookupError("This point is no longer here. Sweep again.")
        session.use(session.points[number]["settings"])
        points = [Point(**point) for point in session.points]
        return {**everything(parts, session), parts.sweep: pareto(points, session.settings)}

    one = {"concurrency_id": MODEL, "concurrency_limit": 1, "show_progress": "hidden", "api_visibility": "private"}
    status = parts.judge_status
    parts.judge_go.click(measure, [parts.key, parts.questions], [status, parts.judge_plot, parts.judge_table], **one)
    parts.sweep_go.click(sweep, parts.key, [status, parts.sweep], **one)
    parts.compare_go.click(compare, [parts.key, parts.questions], [status, parts.compare], **one)
    parts.audit_go.click(audit, [parts.key, parts.questions], [status, parts.audit], **one)
    parts.sweep.click(
        load, parts.key, [*parts.all_recipe, parts.sweep], show_progress="hidden", api_visibility="private"
    )
    parts.judge_stop.click(
        lambda key: parts.sessions.get(key).interrupt(), parts.key, None, queue=False, api_visibility="private"
    )


def _table(results: dict[str, Any]) -> str:
    metrics, controls = results["metrics"], results.get("controls", {})
    names = {"prompt": "only asked", "random_features": "random features"}
    head = [
        "metric",
        "before",
        "after",
        *(names[name] for name in controls),
        *(["no picture"] if results.get("blind") else []),
        "questions",
    ]
    meanings, rows = OF_TEXTS if figures.reads_texts(results) else METRICS, []
    for name in (*meanings, "HM"):
        if name not in metrics or not metrics[name]["after"]["n"]:
            continue
        title, what = meanings.get(name, ("Harmonic mean", "near 0 as soon as one of them is"))
        blind = results.get("blind") or {}
        after = (
            f'<span class="now">{percent(metrics[name]["after"]["value"])}</span>{_interval(metrics[name]["after"])}'
        )
        cells = [
            _cell(metrics[name]["before"]),
            after,
            *(_cell((c.get(name) or {}).get("after")) for c in controls.values()),
        ]
        cells += [_cell((blind.get(name) or {}).get("after"))] if blind else []
        rows.append(
            [
                f"<b>{title}</b><small>{what}</small>",
                *cells,
                str(metrics[name]["after"]["n"] if name in meanings else ""),
            ]
        )
    return html.table(head, rows, "Metrics before and after with controls")


def _cell(value: dict[str, Any] | None) -> str:
    return "" if not value or value["value"] is None else percent(value["value"]) + _interval(value)


def _interval(value: dict[str, Any]) -> str:
    return "" if value.get("low") is None else f"<small>{100 * value['low']:.0f} to {100 * value['high']:.0f}</small>"


def _compared(rows: list[tuple[str, dict[str, Any]]], of: str) -> str:
    short = SHORT_OF_TEXTS if of == "texts" else SHORT
    cells = [
        [escape(label), *(_cell((metrics.get(name) or {}).get("after")) for name in (*short, "HM"))]
        for label, metrics in rows
    ]
    return html.table(["method", *short.values(), "harmonic mean"], cells, "Methods compared")


def _audit(found: Audit) -> str:
    chips = []
    for name in found.attacks:
        leak = found.leak(name)
        if leak is None or not leak.n:
            continue
        held = leak.value <= LEAK
        rest = [f"of {leak.n} questions that the untouched model answers"]
        never = found.leak(name, "control")
        rest += [f"a model that never knew it answers {percent(never.value)} of them"] if never else []
        chips.append(
            f'<li class="{"good" if held else "bad"}" title="{escape("; ".join(rest))}">'
            f'<span aria-hidden="true">{"✓" if held else "✗"}</span>{escape(TRIED.get(name, name))} '
            f"<b>{round(leak.value * leak.n)} of {leak.n}</b>"
            f'<span class="cf-hidden">{"holds" if held else "does not hold"}</span></li>'
        )
    if not chips:
        return html.note("The untouched model answers none of the questions, so there is nothing to get back.")
    label = "Attempts, and how many questions they bring back"
    notes = "" if not found.finished else "".join(html.note(note) for note in found.notes)
    return f'<ul class="cf-audit" aria-label="{label}">{"".join(chips)}</ul>{notes}'
