"""Step 4, Remove: the edit, and what the model says before and after it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from analysis import figures
from app.report_page import diff
from app.ui import answering, html
from app.ui.answering import Answer, Neighbour, Said
from app.ui.edits import ACTIONS, LABELS, OF_FEATURES, SLIDING, typical
from app.ui.jobs import MODEL, Done, Step, guarded, run
from app.ui.parts import METHOD_CHOICES, Parts, block, controls, headline
from app.ui.sessions import Session

UNIT = "times the typical activation{}: 0 leaves it, 1 silences, 2 negates"
"""What the slider counts in."""


def build(parts: Parts) -> None:
    """The components."""
    with gr.Row(elem_classes="cf-actions"):
        parts.question = gr.Dropdown(
            ["Describe the picture."],
            value="Describe the picture.",
            allow_custom_value=True,
            label="Ask",
            elem_id="cf-question",
            scale=4,
        )
        parts.ask = gr.Button("Ask both", variant="primary", elem_classes="cf-go", elem_id="cf-ask")
        parts.remove_stop = gr.Button("Stop", elem_classes="cf-stop", elem_id="cf-remove-stop")
    parts.panes = block(html.panes(None, None), elem_id="cf-answers")
    parts.remove_status = block("", elem_classes="cf-status")
    with gr.Row(equal_height=True):
        with gr.Column(elem_classes="cf-box", min_width=280):
            parts.strength = gr.Slider(
                0,
                6,
                value=2,
                step=0.25,
                label="Strength",
                elem_id="cf-strength",
                buttons=["reset"],
                info=UNIT.format(""),
            )
            parts.k = gr.Slider(1, 64, value=16, step=1, label="Features", elem_id="cf-k", buttons=["reset"])
            parts.gate = gr.Checkbox(True, label="Gate: act only where it shows", elem_id="cf-gate")
        with gr.Column(elem_classes="cf-box", min_width=280):
            parts.method = gr.Dropdown(METHOD_CHOICES, value="clamp", label="Method", elem_id="cf-method")
            parts.action = gr.Dropdown(
                [(label, name) for name, label in ACTIONS["clamp"].items()],
                value="scale",
                label="How",
                elem_id="cf-action",
            )
            parts.door = gr.Dropdown([("where the model reads", "")], value="", label="Door", elem_id="cf-door")
    with gr.Row(equal_height=False):
        with gr.Column(min_width=280):
            block(html.heading("How likely each word is"))
            parts.words = block(html.note("Ask, and the next word's probabilities stand here."), elem_id="cf-words")
            block(
                html.heading(
                    "What is left inside",
                    "Can a linear probe still read it? The frozen probe was trained before the edit; only the "
                    "retrained one says whether the information is gone.",
                )
            )
            parts.probe_status = block("", elem_classes="cf-status")
            parts.probe_plot = gr.Plot(show_label=False, elem_classes="cf-plot", elem_id="cf-probes", visible=False)
        with gr.Column(min_width=280):
            block(html.heading("What else changed"))
            parts.neighbours = block(
                html.note("Questions about everything else, on this picture and on others."), elem_id="cf-neighbours"
            )


def wire(parts: Parts) -> None:
    """What happens."""
    moving = [parts.method, parts.action, parts.strength, parts.k, parts.gate, parts.door, parts.score]
    tops = [parts.recipe, parts.undo, parts.redo]

    def interrupt(key: str) -> None:
        parts.sessions.get(key).interrupt()

    @guarded
    def answer(key: str, question: str, *values: Any) -> Iterator[dict[Any, Any]]:
        session = parts.sessions.get(key)
        adopt(session, *values)
        session.question = question
        if session.sample is None:
            raise ValueError("Choose a picture in step 1, Pick, or upload one.")
        if not question.strip():
            raise ValueError("There is no question. Type one, or choose one from the list.")
        sample, settings = session.sample, session.settings
        yield {
            **headline(parts, session),
            **controls(parts, session),
            parts.picture: html.stage(session),
            parts.panes: html.panes("", None, running="before"),
        }
        turn = session.turn
        said = Said("", None, "before")
        for event in run(
            session, lambda report: answering.answer(parts.desk, session, settings, sample, question, report)
        ):
            if isinstance(event, Step):
                yield {parts.remove_status: html.progress(event.stage, event.done, event.total)}
            elif isinstance(event, Said):
                said = event
                yield {parts.panes: html.panes(said.before, said.after, running=said.running), parts.remove_status: ""}
            elif event.stopped:
                yield {parts.panes: html.panes(said.before, said.after, "Stopped."), parts.remove_status: ""}
            else:
                session.answered = turn
                found: Answer = event.value
                proof = html.proof(found.hooks, found.seconds)
                yield {
                    **headline(parts, session),
                    **controls(parts, session),
                    parts.panes: html.panes(found.before, found.after, proof),
                    parts.words: html.bars(found.words, found.said),
                    parts.remove_status: "",
                    parts.strength: _unit(parts, session),
                }

    @guarded
    def neighbours(key: str) -> Iterator[dict[Any, Any]]:
        session = parts.sessions.get(key)
        if session.answered == session.turn:
            for event in run(session, lambda report: answering.neighbours(parts.desk, session, report)):
                if isinstance(event, Done) and not event.stopped:
                    yield {parts.neighbours: _neighbours(event.value)}

    @guarded
    def probes(key: str) -> Iterator[dict[Any, Any]]:
        session = parts.sessions.get(key)
        if session.answered == session.turn and not session.settings.loaded:
            for event in run(session, lambda report: answering.probes(parts.desk, session, report)):
                if isinstance(event, Step):
                    yield {parts.probe_status: html.progress(event.stage, event.done, event.total)}
                elif not event.stopped:
                    plot = figures.probe_curves({"probes": event.value})
                    yield {parts.probe_plot: gr.update(value=plot, visible=True), parts.probe_status: ""}
                else:
                    yield {parts.probe_status: ""}

    given = [parts.key, parts.question, *moving[:-1]]
    outputs = [*tops, *moving, parts.picture, parts.panes, parts.words, parts.remove_status]
    one = {"concurrency_id": MODEL, "concurrency_limit": 1, "show_progress": "hidden", "api_visibility": "private"}
    for trigger in (
        parts.ask.click,
        parts.strength.release,
        parts.k.release,
        parts.gate.input,
        parts.method.input,
        parts.action.input,
        parts.door.input,
        parts.question.input,
    ):
        # What is under way for older settings is stopped first, then the new ones are asked.
        first = trigger(interrupt, parts.key, None, queue=False, trigger_mode="always_last", api_visibility="private")
        first.then(answer, given, outputs, **one).then(neighbours, parts.key, [parts.neighbours], **one).then(
            probes, parts.key, [parts.probe_plot, parts.probe_status], **one
        )
    parts.remove_stop.click(interrupt, parts.key, None, queue=False, api_visibility="private")


def adopt(session: Session, method: str, action: str | None, strength: float, k: float, gate: bool, door: str) -> None:
    """Take the controls over into the settings."""
    now = session.settings
    if now.loaded:
        return
    if method not in LABELS:
        raise LookupError(f"There is no method {method!r}. There are {', '.join(LABELS)}.")
    actions = ACTIONS.get(method, {})
    changes: dict[str, Any] = {"method": method, "strength": float(strength), "gated": bool(gate)}
    changes["action"] = action if action in actions else next(iter(actions), now.action)
    if int(k) != (len(now.features) or now.k):
        changes |= {"k": int(k), "features": ()}
    if (door or "") != now.site:
        changes |= {"site": door or "", "features": ()}
    session.change(**changes)


def _unit(parts: Parts, session: Session) -> Any:
    """The slider with its unit."""
    known = parts.desk.known(session)
    if known is None or session.settings.method not in SLIDING & OF_FEATURES:
        return gr.update()
    one = typical(known, session.settings)
    return gr.update(info=UNIT.format(f" ({one:.2g})"))


def _neighbours(found: list[Neighbour]) -> str:
    if not found:
        return html.note("No question with a known answer about this picture; see step 5, Judge.")
    parts = []
    for here, title in ((True, "this one"), (False, "others, without it")):
        some = [n for n in found if n.here == here]
        known = [n for n in some if n.kept is not None]
        if not some:
            continue
        kept = sum(bool(n.kept) for n in known)
        rows = [(html.escape(n.question), str(diff(n.before, n.after)), _tag(n.kept)) for n in some]
        parts.append(html.table([f"{title}: {kept} of {len(known)} kept", "answer", ""], rows, title))
    return '<div class="cf-said">' + "".join(parts) + "</div>"


def _tag(kept: bool | None) -> str:
    if kept is None:
        return '<span class="cf-tag">wrong before</span>'
    return '<span class="cf-tag">✓ kept</span>' if kept else '<span class="cf-tag bad">✗ lost</span>'
