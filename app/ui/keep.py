"""Step 6, Keep: the recipe as a file, as code and as a report; what was done before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from typing import Any

import gradio as gr

from app.exporting import Export
from app.ui import html, keeping
from app.ui.jobs import MODEL, Done, Step, guarded, run
from app.ui.links import link
from app.ui.parts import Parts, block, everything, speaking
from app.ui.samples import offered
from app.ui.sessions import Session, Settings

HISTORY = 12
"""Earlier recipes shown."""


def build(parts: Parts) -> None:
    """The components."""
    block(
        html.lead(
            "A recipe is two small files, YAML and tensors, that run unchanged here, in a notebook and in a batch "
            "script. The report holds the numbers, pictures and controls in one page that opens offline. An export is "
            "a checkpoint that from_pretrained loads, compared with the edited model before it is handed out."
        )
    )
    parts.badge = block("", elem_id="cf-badge", elem_classes="cf-status")
    with gr.Row(elem_classes="cf-actions"):
        parts.recipe_go = gr.Button(
            "Make the recipe file", variant="primary", elem_classes="cf-go", elem_id="cf-recipe-go"
        )
        parts.report_go = gr.Button("Make the report", elem_classes="cf-go", elem_id="cf-report-go")
        parts.export_go = gr.Button("Export a checkpoint", elem_classes="cf-go", elem_id="cf-export-go")
        parts.recipe_up = gr.UploadButton(
            "Open a recipe", file_types=[".zip"], type="filepath", elem_classes="cf-go", elem_id="cf-recipe-up"
        )
        parts.keep_stop = gr.Button("Stop", elem_classes="cf-stop")
    parts.keep_status = block("", elem_id="cf-keep-status", elem_classes="cf-status")
    parts.file = gr.File(label="Ready to download", visible=False, interactive=False, elem_id="cf-file")
    block(html.heading("The same in Python"))
    parts.python = gr.Code(
        language="python", show_label=False, wrap_lines=True, lines=4, elem_id="cf-python", interactive=False
    )
    block(
        html.heading(
            "The same concept from the command line",
            "The batch run chooses its settings on validation and measures with more questions.",
        )
    )
    parts.cli = gr.Code(
        language="shell", show_label=False, wrap_lines=True, lines=1, elem_id="cf-cli", interactive=False
    )
    parts.link = block(html.share(""), js_on_load=html.COPY, elem_id="cf-link")
    block(html.heading("History"))
    parts.history = speaking(elem_id="cf-past")


def wire(parts: Parts) -> None:
    """What happens."""

    def refresh(key: str) -> dict[Any, Any]:
        session = parts.sessions.get(key)
        return {
            parts.python: keeping.python(session.settings),
            parts.cli: keeping.cli(session.settings),
            parts.history: _history(session),
            parts.badge: _badge(session),
            parts.link: html.share(link(session.settings)),
        }

    def making(key: str, make: Callable[[Session, Any], Any]) -> Iterator[dict[Any, Any]]:
        session = parts.sessions.get(key)
        for event in run(session, lambda report: make(session, report)):
            if isinstance(event, Step):
                yield {parts.keep_status: html.progress(event.stage, event.done, event.total)}
            elif isinstance(event, Done):
                ready = {} if event.stopped else {parts.file: gr.update(value=str(event.value), visible=True)}
                yield {parts.keep_status: html.note("Stopped.") if event.stopped else "", **ready}

    @guarded
    def recipe(key: str) -> Iterator[dict[Any, Any]]:
        yield from making(key, lambda session, report: keeping.recipe_file(parts.desk, session, report))

    @guarded
    def report(key: str) -> Iterator[dict[Any, Any]]:
        yield from making(key, lambda session, report: keeping.report_file(parts.desk, session, report))

    @guarded
    def export(key: str) -> Iterator[dict[Any, Any]]:
        session = parts.sessions.get(key)
        for event in run(session, lambda report: keeping.export_folder(parts.desk, session, report)):
            if isinstance(event, Step):
                yield {parts.keep_status: html.progress(event.stage, event.done, event.total)}
            elif event.stopped:
                yield {parts.keep_status: html.note("Stopped.")}
            else:
                made, packed = event.value
                ready = {} if packed is None else {parts.file: gr.update(value=str(packed), visible=True)}
                where = "" if parts.desk.open_to_all else str(made.folder)
                yield {parts.keep_status: _exported(made, where), **ready}

    @guarded
    def upload(key: str, path: str) -> Iterator[dict[Any, Any]]:
        session = parts.sessions.get(key)
        for event in run(session, lambda report: keeping.load_recipe(parts.desk, session, path, report)):
            if isinstance(event, Done) and not event.stopped:
                session.samples = offered(parts.desk, session) or session.samples
                session.sample = session.samples[0] if session.samples else session.sample
                said = html.note(
                    f"The recipe for {session.settings.concept} fits {session.settings.model} and is in use."
                )
                yield {parts.keep_status: said, **everything(parts, session)}

    @guarded
    def back(key: str, event: gr.EventData) -> dict[Any, Any]:
        session = parts.sessions.get(key)
        number = int(event._data["arg"])
        if 0 <= number < len(session.past):
            session.use(session.past[number])
        return everything(parts, session)

    one = {"concurrency_id": MODEL, "concurrency_limit": 1, "show_progress": "hidden", "api_visibility": "private"}
    parts.recipe.change(
        refresh,
        parts.key,
        [parts.python, parts.cli, parts.history, parts.badge, parts.link],
        show_progress="hidden",
        api_visibility="private",
    )
    parts.recipe_go.click(recipe, parts.key, [parts.keep_status, parts.file], **one)
    parts.report_go.click(report, parts.key, [parts.keep_status, parts.file], **one)
    parts.export_go.click(export, parts.key, [parts.keep_status, parts.file], **one)
    parts.recipe_up.upload(upload, [parts.key, parts.recipe_up], [parts.keep_status, *parts.all_recipe], **one)
    parts.history.click(back, parts.key, parts.all_recipe, show_progress="hidden", api_visibility="private")
    parts.keep_stop.click(
        lambda key: parts.sessions.get(key).interrupt(), parts.key, None, queue=False, api_visibility="private"
    )


def _badge(session: Session) -> str:
    settings = session.settings
    edits = session.recipes[settings.loaded].edits if settings.loaded in session.recipes else ()
    word, why, exact = keeping.badge(settings, edits)
    kind = "cf-badge" if exact else "cf-badge hook"
    return f'<p class="cf-note"><span class="{kind}">{escape(word)}</span>&ensp;{escape(why)}</p>'


def _exported(made: Export, where: str) -> str:
    kind = "cf-badge" if made.badge == "exact" else "cf-badge hook"
    said = "Reloaded by stock code and compared with the hooked model"
    if made.error is not None and made.kl is not None:
        said += f": largest difference of a logit {made.error:.2g}, mean KL {made.kl:.2g} nats."
    else:
        said = "The folder holds the recipe and how to serve it."
    kept = made.numbers.get("effect_kept")
    said += f" It keeps {kept:.0%} of the effect." if kept is not None and made.badge == "approximate" else ""
    place = f" It lies in <code>{escape(where)}</code>." if where else ""
    return (
        f'<p class="cf-note"><span class="{kind}">{escape(made.badge)}</span>&ensp;{escape(said)} '
        f"{escape(made.reason)}{place}</p>"
    )


def _history(session: Session) -> str:
    past = list(enumerate(session.past))[-HISTORY:][::-1]
    now = f'<li class="now">now · {escape(_short(session.settings))}</li>'
    rows = "".join(
        f'<li><button type="button" data-act="back" data-arg="{number}">{escape(_short(settings))}</button></li>'
        for number, settings in past
    )
    return f'<ul class="cf-history">{now}{rows}</ul>'


def _short(settings: Settings) -> str:
    (_, method), *others = html.used(settings)
    said = ", ".join([method, *(f"{name} {value}" for name, value in others)])
    rest = "uploaded recipe" if settings.loaded else said
    return f"{settings.concept.removeprefix('own:')} in {html.model_name(settings.model)}: {rest}"
