"""Step 2, Find: the features that stand for the concept, as cards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from app.ui import html
from app.ui.cards import Card, cards, effect
from app.ui.desk import stoppable
from app.ui.edits import LABELS, OF_FEATURES, chosen
from app.ui.jobs import MODEL, Done, Reporter, Step, guarded, run
from app.ui.look import Seen
from app.ui.parts import Parts, block, controls, headline, speaking
from app.ui.samples import telling_question
from app.ui.sessions import Session

SCORES = [
    ("against its own family", "contrast"),
    ("mean difference (SAUCE)", "sauce"),
    ("how often it fires", "frequency"),
    ("what it does to the answer", "causal"),
]


def build(parts: Parts) -> None:
    """The components."""
    block(
        html.lead(
            "Which features of the dictionary stand for it? A card shows where a feature is most active, how strongly "
            "with the concept and without, and on what else. Press a strip to see it on the current picture."
        )
    )
    with gr.Row(elem_classes="cf-actions"):
        parts.score = gr.Dropdown(SCORES, value="contrast", label="Rank by", elem_id="cf-score")
        parts.find_go = gr.Button("Find its features", variant="primary", elem_classes="cf-go", elem_id="cf-find")
        parts.find_stop = gr.Button("Stop", elem_classes="cf-stop", visible=False)
    parts.find_status = block("", elem_classes="cf-status")
    parts.effect = block("", elem_classes="cf-status")
    parts.cards = speaking(elem_id="cf-features")


def wire(parts: Parts) -> None:
    """What happens."""
    tops = [parts.recipe, parts.undo, parts.redo]

    @guarded
    def find(key: str, score: str) -> Iterator[dict[Any, Any]]:
        session = parts.sessions.get(key)
        if score != session.settings.score:
            session.change(score=score, features=(), loaded="")
        yield {parts.find_stop: gr.update(visible=True)}
        for event in run(session, lambda report: found(parts, session, report)):
            if isinstance(event, Step):
                yield {parts.find_status: html.progress(event.stage, event.done, event.total)}
            elif isinstance(event, Done):
                yield {
                    parts.find_stop: gr.update(visible=False),
                    parts.find_status: html.note("Stopped.") if event.stopped else _said(parts, session),
                    **({} if event.stopped else {parts.cards: shown(parts, session, event.value)}),
                    **headline(parts, session),
                    **controls(parts, session),
                }

    @guarded
    def card(key: str, event: gr.EventData) -> Iterator[dict[Any, Any]]:
        session = parts.sessions.get(key)
        act, number = event._data["act"], int(event._data["arg"])
        if act == "take":
            yield take(parts, session, number)
            return
        session.feature = number
        for done in run(session, lambda report: _effect(parts, session, number, report)):
            if isinstance(done, Done) and not done.stopped:
                seen, cut = done.value
                overlay = cut.seen if isinstance(cut.seen, Seen) else None
                yield {
                    parts.picture: html.stage(session, overlay, f"feature {number}"),
                    parts.effect: html.feature_effect(number, cut),
                    parts.cards: shown(parts, session, seen),
                }

    moving = [parts.method, parts.action, parts.strength, parts.k, parts.gate, parts.door, parts.score]
    outputs = [parts.find_stop, parts.find_status, parts.cards, *tops, *moving]
    parts.finding = parts.find_go.click(
        find,
        [parts.key, parts.score],
        outputs,
        concurrency_id=MODEL,
        concurrency_limit=1,
        show_progress="hidden",
        api_visibility="private",
    )
    parts.find_stop.click(
        lambda key: parts.sessions.get(key).interrupt(), parts.key, None, queue=False, api_visibility="private"
    )
    parts.cards.click(
        card,
        parts.key,
        [parts.picture, parts.effect, parts.cards, *tops, *moving],
        concurrency_id=MODEL,
        concurrency_limit=1,
        show_progress="hidden",
        api_visibility="private",
    )


def take(parts: Parts, session: Session, number: int) -> dict[Any, Any]:
    """Choose a feature, or drop it where it is chosen."""
    known = parts.desk.known(session)
    if known is None:
        raise LookupError("The features were found for another recipe. Press Find its features again.")
    now = chosen(known, session.settings).indices.tolist()
    features = [feature for feature in now if feature != number] if number in now else [*now, number]
    if not features:
        raise ValueError("At least one feature must stay chosen; drop this one after choosing another.")
    order = {int(index): place for place, index in enumerate(known.ranked(session.settings.score).indices)}
    session.change(features=tuple(sorted(features, key=lambda feature: order.get(feature, len(order)))))
    made = cards(known, session.settings.score)
    return {parts.cards: shown(parts, session, made), **headline(parts, session), **controls(parts, session)}


def found(parts: Parts, session: Session, report: Reporter) -> list[Card]:
    """The cards of the current recipe; found now where nobody has before."""
    with stoppable(parts.desk.model(session.settings.model), report):
        finding = parts.desk.finding(session, report)
        report.progress("making the cards", 0, 1)
        return cards(finding, session.settings.score, report)


def shown(parts: Parts, session: Session, made: list[Card]) -> str:
    """The cards as HTML."""
    known = parts.desk.known(session)
    now = chosen(known, session.settings).indices.tolist() if known else []
    return html.feature_cards(made, now, session.feature)


def _effect(parts: Parts, session: Session, number: int, report: Reporter) -> Any:
    if session.sample is None:
        raise ValueError("Choose a picture in step 1, Pick, or upload one.")
    with stoppable(parts.desk.model(session.settings.model), report):
        finding = parts.desk.finding(session, report)
        return cards(finding, session.settings.score), effect(
            finding, number, session.sample, telling_question(session)
        )


def _said(parts: Parts, session: Session) -> str:
    known = parts.desk.known(session)
    assert known is not None
    said = (
        f"{known.dictionary.d_sae} features at {known.site}; the best 16 agree to {known.stable:.0%} between resamples "
        "of the examples."
    )
    if session.settings.method not in OF_FEATURES:
        said += f" “{LABELS[session.settings.method]}” uses none of them: to clamp them, choose so in step 4, Remove."
    return html.note(said)
