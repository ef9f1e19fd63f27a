"""What the steps share: the components of the page, and how all of them are brought up to date at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gradio as gr

from app.ui import html
from app.ui.desk import Desk
from app.ui.edits import ACTIONS, GATED, LABELS, OF_FEATURES, SLIDING
from app.ui.samples import asked_about
from app.ui.sessions import Session, Sessions
from app.ui.tracing import TOWERS


class Parts(SimpleNamespace):
    """Components by name, and the server's side: `desk` and `sessions`."""

    desk: Desk
    sessions: Sessions


def block(value: str = "", **options: Any) -> gr.HTML:
    """HTML in our own style, without gradio's rules for prose."""
    return gr.HTML(value, apply_default_css=False, **options)


def speaking(value: str = "", **options: Any) -> gr.HTML:
    """HTML whose `data-act` buttons raise `click` with `act` and `arg`."""
    return block(value, js_on_load=html.ACT, **options)


def concept_choices(desk: Desk, session: Session) -> list[tuple[str, str]]:
    """Every concept with its family and aliases, so that typing any of them finds it."""
    return [(f"{key[4:]}  ·  yours", key) for key in session.own] + desk.concepts(session.settings.model)


def everything(parts: Parts, session: Session) -> dict[Any, Any]:
    """Updates for all that shows the current recipe or picture."""
    settings = session.settings
    return {
        **headline(parts, session),
        **looking(parts, session),
        parts.model: gr.update(value=settings.model),
        parts.concept: gr.update(choices=concept_choices(parts.desk, session), value=settings.concept),
        **controls(parts, session),
    }


def headline(parts: Parts, session: Session) -> dict[Any, Any]:
    """The recipe as a sentence."""
    known = parts.desk.known(session)
    count = len(session.settings.features) or session.settings.k
    undo, redo = gr.update(interactive=bool(session.past)), gr.update(interactive=bool(session.future))
    recipe = html.headline(session.settings, str(known.site) if known else "", count)
    return {parts.recipe: recipe, parts.undo: undo, parts.redo: redo}


def looking(parts: Parts, session: Session) -> dict[Any, Any]:
    """The current picture, those to choose from, and what to ask about it."""
    name = session.settings.concept.removeprefix("own:")
    asked = asked_about(session)
    if session.question not in asked:
        session.question = asked[0]
    return {
        parts.picture: html.stage(session),
        parts.pictures: html.pictures(session.samples, session.sample, name),
        parts.question: gr.update(choices=asked, value=session.question),
        parts.tower: places(session),
        parts.upload: gr.update(visible=not parts.desk.reads(session.settings.model)),
    }


def controls(parts: Parts, session: Session) -> dict[Any, Any]:
    """The controls of the Remove step as the settings have them."""
    s, free = session.settings, not session.settings.loaded
    actions = ACTIONS.get(s.method, {})
    action = s.action if s.action in actions else next(iter(actions), None)  # gradio refuses "" among no choices
    named = [(label, name) for name, label in actions.items()]
    sites = _sites(parts, session)
    return {
        parts.method: gr.update(value=s.method, interactive=free),
        parts.action: gr.update(choices=named, value=action, visible=bool(actions), interactive=free),
        parts.strength: gr.update(value=s.strength, interactive=free and s.method in SLIDING),
        parts.k: gr.update(value=len(s.features) or s.k, interactive=free and s.method in SLIDING & OF_FEATURES),
        parts.gate: gr.update(value=s.gated, interactive=free and s.method in GATED),
        parts.door: gr.update(choices=sites, value=s.site, interactive=free),
        parts.score: gr.update(value=s.score),
    }


def places(session: Session) -> Any:
    """What can be traced over: a text has tokens only."""
    seen = session.sample is not None and session.sample.image is not None
    names = [name for name in TOWERS if seen or name == "text"]
    return gr.update(choices=[(TOWERS[name], name) for name in names], value=names[0], visible=len(names) > 1)


def _sites(parts: Parts, session: Session) -> list[tuple[str, str]]:
    """Doors to choose from: the model's own, then every residual stream and both ends of the projector."""
    name = session.settings.model
    if not parts.desk.loaded(name):
        return [("where the model reads", "")]
    model = parts.desk.model(name)
    some = [str(site) for site in model.sites() if site.stream in ("resid", "in", "out")]
    return [(f"{model.reading_site}, where the model reads", ""), *((one, one) for one in some)]


METHOD_CHOICES = [(label, name) for name, label in LABELS.items()]
