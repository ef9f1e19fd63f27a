"""Step 1, Pick: the model, the concept, the picture."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from app.concept_spec import Spec
from app.own_concept import answered_by, own_concept
from app.ui import html
from app.ui.jobs import MODEL, Done, Reporter, Step, guarded, run
from app.ui.look import upload
from app.ui.parts import Parts, block, everything, looking, speaking
from app.ui.samples import offered
from app.ui.sessions import Sample, Session
from concept_forget.concepts import Concept

TEXTS = frozenset({".txt", ".jsonl"})


def build(parts: Parts) -> None:
    """The components."""
    with gr.Row():
        parts.model = gr.Dropdown(
            parts.desk.names(),
            value=parts.desk.first,
            allow_custom_value=not parts.desk.open_to_all,
            label="Model",
            info="Shipped, or a folder or hub id of your own",
            elem_id="cf-model",
        )
        parts.concept = gr.Dropdown(
            parts.desk.concepts(parts.desk.first),
            value=parts.desk.called(),
            label="Concept",
            info="Type to search its name, family or an alias",
            elem_id="cf-concept",
        )
    parts.pick_status = block("", elem_classes="cf-status")
    parts.pictures = speaking(elem_id="cf-pictures")
    with gr.Accordion("A concept of your own, from examples", open=False):
        block(
            html.note(
                "Give pictures, or texts with one sentence a line, that have it and some that don't: at least five "
                "of each."
            )
        )
        with gr.Row():
            parts.own_name = gr.Textbox(label="What is it called?", placeholder="dog", max_lines=1)
            parts.own_aliases = gr.Textbox(label="Other words for it", placeholder="puppy, hound", max_lines=1)
        with gr.Row():
            parts.own_with = gr.File(label="Have it", file_count="multiple", height=130)
            parts.own_without = gr.File(label="Don't have it", file_count="multiple", height=130)
        parts.own_go = gr.Button("Use this concept", elem_classes="cf-go")


def wire(parts: Parts) -> None:
    """What happens."""
    loading = [parts.pick_status, *parts.all_recipe]

    @guarded
    def model(key: str, name: str) -> Iterator[dict[Any, Any]]:
        session = parts.sessions.get(key)
        for event in run(session, lambda report: _load(parts, name, report)):
            if isinstance(event, Step):
                yield {parts.pick_status: html.progress(event.stage, event.done, event.total)}
            elif isinstance(event, Done):
                if not event.stopped:
                    _moved(parts, session, name)
                yield {parts.pick_status: "", **everything(parts, session)}

    @guarded
    def concept(key: str, name: str) -> dict[Any, Any]:
        session = parts.sessions.get(key)
        session.change(concept=name, features=(), loaded="")
        look_at(parts, session)
        return everything(parts, session)

    @guarded
    def look(key: str, event: gr.EventData) -> dict[Any, Any]:
        session = parts.sessions.get(key)
        number = int(event._data["arg"])
        if 0 <= number < len(session.samples):
            session.sample, session.feature = session.samples[number], None
        return looking(parts, session)

    @guarded
    def another(key: str) -> dict[Any, Any]:
        session = parts.sessions.get(key)
        names = [sample.name for sample in session.samples]
        here = names.index(session.sample.name) if session.sample and session.sample.name in names else -1
        if names:
            session.sample, session.feature = session.samples[(here + 1) % len(names)], None
        return looking(parts, session)

    @guarded
    def uploaded(key: str, path: str) -> dict[Any, Any]:
        session = parts.sessions.get(key)
        session.sample, session.feature = Sample("your picture", upload(path)), None
        return looking(parts, session)

    @guarded
    def own(
        key: str, name: str, aliases: str, have: list[str] | None, lack: list[str] | None
    ) -> Iterator[dict[Any, Any]]:
        session = parts.sessions.get(key)
        words = tuple(word.strip() for word in aliases.split(",") if word.strip())
        if not name.strip():
            raise ValueError("Say what the concept is called.")
        spec, source = Spec(name.strip(), aliases=words), session.settings.model
        for event in run(session, lambda report: _own(parts, source, spec, have or [], lack or [], report)):
            if isinstance(event, Step):
                yield {parts.pick_status: html.progress(event.stage, event.done, event.total)}
            elif isinstance(event, Done):
                if not event.stopped:
                    session.own[f"own:{spec.name}"] = event.value
                    session.change(concept=f"own:{spec.name}", features=(), loaded="")
                    look_at(parts, session)
                yield {parts.pick_status: "", **everything(parts, session)}

    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    one = {"concurrency_id": MODEL, "concurrency_limit": 1, **quiet}
    moved = parts.model.input(model, [parts.key, parts.model], loading, **one)
    parts.picked = [moved, parts.concept.input(concept, [parts.key, parts.concept], loading[1:], **quiet)]
    views = [parts.picture, parts.pictures, parts.question, parts.tower, parts.upload]
    parts.pictures.click(look, parts.key, views, **quiet)
    parts.another.click(another, parts.key, views, **quiet)
    parts.upload.upload(uploaded, [parts.key, parts.upload], views, **quiet)
    given = [parts.key, parts.own_name, parts.own_aliases, parts.own_with, parts.own_without]
    parts.picked.append(parts.own_go.click(own, given, loading, **one))


def look_at(parts: Parts, session: Session) -> None:
    """Offer what belongs to the current concept, and look at the first of it."""
    session.samples, session.feature = offered(parts.desk, session), None
    session.sample = session.samples[0] if session.samples else None


def _moved(parts: Parts, session: Session, name: str) -> None:
    """Go on with another model, and with a concept that it can be asked about."""
    concept = session.settings.concept
    known = [known for _, known in parts.desk.concepts(name)]
    if not concept.startswith("own:") and concept not in known:
        concept = known[0]
    before = parts.desk.reads(session.settings.model)
    method = {} if before == parts.desk.reads(name) else {"method": parts.desk.first_method(name)}
    session.change(model=name, concept=concept, site="", features=(), loaded="", **method)
    if before != parts.desk.reads(name) or not session.samples:
        look_at(parts, session)


def _load(parts: Parts, name: str, report: Reporter) -> None:
    report.progress(f"loading {name}", 0, 1)
    parts.desk.model(name)


def _own(parts: Parts, source: str, spec: Spec, have: list[str], lack: list[str], report: Reporter) -> Concept:
    """A concept from uploads: pictures are decoded here and only their pixels are used, texts are read as text."""
    report.progress("reading the examples", 0, 1)
    with tempfile.TemporaryDirectory(prefix="concept-forget-") as folder:
        concept = own_concept(spec, _copied(have, Path(folder) / "have"), _copied(lack, Path(folder) / "lack"))
    model = parts.desk.model(source)
    if not model.has_vision and concept.train.forget[0].image is not None:
        raise ValueError(f"{model.name} reads text only. Give texts: a .txt file with one sentence a line.")
    report.progress("asking the untouched model", 0, 1)
    return answered_by(concept, lambda examples: parts.desk.book(source).answers(examples))


def _copied(files: list[str], folder: Path) -> Path:
    folder.mkdir()
    for number, name in enumerate(files):
        source = Path(name)
        if source.suffix.lower() in TEXTS:
            (folder / f"{number:04d}{source.suffix.lower()}").write_bytes(source.read_bytes())
        else:
            upload(name).save(folder / f"{number:04d}.png")
    return folder
