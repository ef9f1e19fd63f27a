"""Pieces of the page as HTML: everything typed by people or said by models is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from app.report_page import diff, percent
from app.ui.cards import Card, Effect
from app.ui.edits import GATED, LABELS, OF_FEATURES, SLIDING
from app.ui.look import Read, Seen, spotlight, uri
from app.ui.sessions import Sample, Session, Settings

ACT = """
element.addEventListener('click', (event) => {
  const found = event.target.closest('[data-act]');
  if (found && element.contains(found)) trigger('click', {act: found.dataset.act, arg: found.dataset.arg || ''});
});
"""
"""What makes `data-act` buttons of a gr.HTML speak: the handler gets `act` and `arg`."""


COPY = """
element.addEventListener('click', (event) => {
  const copy = event.target.closest('[data-copy]');
  if (!copy) return;
  navigator.clipboard.writeText(element.querySelector('a').href).then(() => { copy.textContent = 'Copied'; });
});
"""
"""What makes the button beside a link copy it."""


def share(query: str) -> str:
    """A link that opens this very recipe, with a button to copy it."""
    title = heading("A link to it", "Opens the app with this recipe, wherever it runs with the same models.")
    if not query:
        return title + note("It rests on files that were given here, so it travels as a file: make the recipe file.")
    return (
        f'{title}<p class="cf-link"><a href="{escape(query)}">{escape(query[:64])}{"…" if len(query) > 64 else ""}</a>'
        '<button type="button" data-copy>Copy the link</button></p>'
    )


def headline(settings: Settings, site: str = "", count: int = 0) -> str:
    """The current recipe as a sentence and chips."""
    chips = [("door", settings.site or site or "reading site")]
    if settings.loaded:
        chips = [("recipe", "uploaded, used as it is")]
    else:
        chips += used(settings, count)
        if settings.method not in OF_FEATURES and site:  # found, so cards can be chosen
            chips.insert(2, ("features", f"{count}, not used by this method"))
    shown = "".join(f"<li><span>{escape(name)}</span> {escape(value)}</li>" for name, value in chips)
    concept = escape(settings.concept.removeprefix("own:"))
    return (
        f'<h1 class="cf-title">Taking <em>{concept}</em> out of {escape(model_name(settings.model))}</h1>'
        f'<ul class="cf-chips" aria-label="Current recipe">{shown}</ul>'
    )


def used(settings: Settings, count: int = 0) -> list[tuple[str, str]]:
    """The method and what it makes use of, by name."""
    method = settings.method
    pairs = [("method", LABELS[method])]
    pairs += [("features", f"{count or len(settings.features) or settings.k}")] if method in OF_FEATURES else []
    pairs += [("strength", f"{settings.strength:g}×")] if method in SLIDING else []
    pairs += [("gate", "on" if settings.gated else "off")] if method in GATED else []
    return pairs


def model_name(source: str) -> str:
    """The last part of a path or hub id."""
    return source.rstrip("/").split("/")[-1]


def stage(session: Session, overlay: Seen | None = None, caption: str = "") -> str:
    """The picture (or text) that is looked at now."""
    current = session.sample
    if current is None:
        return '<div class="cf-stage cf-empty"><p>Choose a picture, or upload your own.</p></div>'
    shows = " · ".join(current.shows) or current.name
    if current.image is None:
        return f'<figure class="cf-stage cf-words"><blockquote>{escape(current.text)}</blockquote></figure>'
    picture = spotlight(overlay, 384) if overlay else big(current.image)
    alt = f"Where {caption} is active on the current picture" if overlay else f"The current picture: {shows}"
    note = caption if overlay else shows
    return (
        f'<figure class="cf-stage"><img src="{uri(picture, 576)}" alt="{escape(alt)}">'
        f"<figcaption>{escape(note)}</figcaption></figure>"
    )


def big(image: Any) -> Any:
    """Small pictures enlarged without blur, so that patches stay patches."""
    times = max(1, round(288 / max(image.size)))
    return image.resize((image.width * times, image.height * times)) if times > 1 else image


def pictures(samples: Sequence[Sample], current: Sample | None, concept: str) -> str:
    """Samples to choose from, as buttons: first those that have the concept."""
    if not samples:
        return '<p class="cf-note">Nothing to show yet.</p>'
    parts = []
    for has, title in ((True, f"With {concept}"), (False, f"Without {concept}")):
        some = [(number, sample) for number, sample in enumerate(samples) if (concept in sample.shows) == has]
        if some:
            parts.append(f'<h3 class="cf-h3">{escape(title)}</h3><div class="cf-thumbs">')
            parts += [
                _thumb(number, sample, current is not None and sample.name == current.name) for number, sample in some
            ]
            parts.append("</div>")
    return "".join(parts)


def _thumb(number: int, sample: Sample, chosen: bool) -> str:
    name = " · ".join(sample.shows) or sample.name
    pressed = f'aria-pressed="{str(chosen).lower()}" data-act="look" data-arg="{number}"'
    if sample.image is None:
        return f'<button type="button" class="cf-thumb cf-line" {pressed}>{escape(sample.text[:160])}</button>'
    return (
        f'<button type="button" class="cf-thumb" {pressed}><img src="{uri(sample.image, 160)}" alt="{escape(name)}">'
        f"<span>{escape(name)}</span></button>"
    )


def feature_cards(found: Sequence[Card], chosen: Iterable[int], shown: int | None) -> str:
    """The ranking as cards: pictures with the active patches, how strongly, how often, on what else."""
    taken = set(chosen)
    return (
        '<div class="cf-cards">'
        + "".join(_card(card, card.index in taken, card.index == shown) for card in found)
        + "</div>"
    )


def _card(card: Card, taken: bool, shown: bool) -> str:
    top = max(card.forget, card.near, card.retain) or 1.0
    pictures = "".join(
        f'<img src="{uri(spotlight(seen, 96), 96)}" alt="">' if isinstance(seen, Seen) else words(seen)
        for seen in card.examples
    )
    bars = "".join(
        f'<li class="{kind}"><span>{label}</span><i><b style="width:{100 * min(1, value / top):.1f}%"></b></i>'
        f"<em>{_short(value, top)}</em></li>"
        for kind, label, value in (
            ("with", "with it", card.forget),
            ("near", "its family", card.near),
            ("rest", "without it", card.retain),
        )
    )
    responds = ", ".join(f"{escape(label)} {share:.0%}" for label, share in card.responds) or "nothing labelled"
    return (
        f'<article class="cf-card{" taken" if taken else ""}{" shown" if shown else ""}">'
        f'<button type="button" class="cf-look" data-act="show" data-arg="{card.index}" '
        f'aria-pressed="{str(shown).lower()}" '
        f'aria-label="Feature {card.index}: show where it is active on the current picture">'
        f'<span class="cf-strip">{pictures}</span></button>'
        f"<header><b>#{card.index}</b><small>rank {card.rank} · fires on {percent(card.density)}</small>"
        f'<button type="button" class="cf-take" data-act="take" data-arg="{card.index}" '
        f'aria-pressed="{str(taken).lower()}" '
        f'aria-label="Feature {card.index} {"is chosen: drop it" if taken else "is not chosen: choose it"}">'
        f"{'✓ chosen' if taken else 'choose'}</button></header>"
        f'<ul class="cf-bars">{bars}</ul><p>Strongest on {responds}</p>{_pushes(card)}</article>'
    )


def _pushes(card: Card) -> str:
    """What it does to the next word's logits."""
    up, down = (", ".join(f"<b>{escape(word)}</b>" for word in words) for words in (card.promotes, card.suppresses))
    if not up and not down:
        return ""
    return f'<p class="cf-logits"><span>↑ {up or "nothing"}</span><span>↓ {down or "nothing"}</span></p>'


def _short(value: float, top: float) -> str:
    """Two digits, and none for what is nothing beside the largest."""
    return "0" if abs(value) < 0.005 * top else f"{value:.2g}"


def words(read: Read) -> str:
    """A text with every token underlaid by how active the feature is there."""
    top = float(read.heat.max()) if len(read.heat) else 0.0
    parts = [
        f'<span style="--heat:{max(0.0, float(value)) / top if top > 0 else 0:.2f}">{escape(token)}</span>'
        for token, value in zip(read.tokens, read.heat, strict=True)
    ]
    return f'<span class="cf-read">{"".join(parts)}</span>'


def feature_effect(feature: int, found: Effect) -> str:
    """What hangs on one feature here and now."""
    read = words(found.seen) if isinstance(found.seen, Read) else ""
    active = float(found.seen.heat.max()) if found.seen.heat.size else 0.0
    silent = "" if active > 0 else " It is silent here."
    return (
        f'<div class="cf-effect"><h3 class="cf-h3">Feature {feature} on the current example</h3>{read}'
        f'<p class="cf-note">“{escape(found.question)}” with the feature and without it.{silent}</p>'
        f"{bars(found.words)}</div>"
    )


def bars(found: Sequence[tuple[str, float, float]], said: str = "") -> str:
    """Probabilities of the next word before and after, as paired bars."""
    where = f'<p class="cf-note">After “{escape(said)} …”</p>' if said else ""
    rows = "".join(
        f"<tr><th scope='row'>{escape(word)}</th><td><i class='before'><b style='width:{100 * p:.1f}%'></b></i>"
        f"<i class='after'><b style='width:{100 * q:.1f}%'></b></i></td><td>{percent(p)}</td><td>{percent(q)}</td></tr>"
        for word, p, q in found
    )
    return (
        f"{where}<table class='cf-probs'><thead><tr><th scope='col'>next word</th><td></td><th scope='col'>before</th>"
        f"<th scope='col'>after</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def panes(before: str | None, after: str | None, proof: str = "", running: str = "") -> str:
    """The answers side by side; once both are there, the second says what changed."""
    same = before is not None and before == after
    second = (
        str(diff(before, after)) if before is not None and after is not None and not running else escape(after or "")
    )
    note = "" if running or after is None else '<small class="cf-same">not a word changed</small>' if same else ""
    return (
        '<div class="cf-panes" aria-live="polite">'
        f'<section class="cf-pane"><h3>Before</h3><p>{escape(before or "")}{_cursor(running == "before")}</p></section>'
        f'<section class="cf-pane after"><h3>After</h3><p>{second}{_cursor(running == "after")}</p>{note}</section>'
        "</div>"
        f'<p class="cf-proof">{proof}</p>'
    )


def _cursor(on: bool) -> str:
    return '<span class="cf-cursor" aria-hidden="true"></span>' if on else ""


def proof(hooks: Sequence[Mapping[str, Any]], seconds: float) -> str:
    """That the hook fired, in words."""
    if not hooks:
        return f"No hook: the model is as it was, bit for bit. {seconds:.2f} s"
    parts = []
    for hook in hooks:
        if "relative_norm" in hook:
            moved = f"{hook['relative_norm']:.3g} of their norm"
            parts.append(f"{hook['parameters']} weights in {hook['tensors']} tensors were moved by {moved}.")
            continue
        if "blocked" in hook:  # a rule of decoding changes no activation
            took = "took it for the concept" if hook["gated"] else "left it alone"
            read = f"The rule read the question at <code>{escape(hook['site'])}</code>, {took}"
            parts.append(f"{read} and kept {hook['blocked']} tokens from being said.")
            continue
        times = f"{hook['calls']} time{'s' if hook['calls'] != 1 else ''}"
        acted = f"changed {hook['tokens']} tokens by {hook['mean_abs_delta']:.3g} on average."
        acted = acted if hook["tokens"] else "changed nothing: its gate stayed closed."
        parts.append(f"The hook at <code>{escape(hook['site'])}</code> was called {times} and {acted}")
    mark = "✓" if any(hook.get("tokens", 1) for hook in hooks) else "○"
    return f'<b class="cf-fired">{mark}</b> {" ".join(parts)} {seconds:.2f} s'


def progress(stage_name: str, done: int, total: int) -> str:
    """A bar with words."""
    share = 100 * done / total if total > 1 else 0
    bar = f'<b style="width:{share:.0f}%"></b>' if total > 1 else '<b class="cf-wait"></b>'
    count = f"{done} of {total}" if total > 1 else ""
    return (
        f'<div class="cf-progress" role="status"><span>{escape(stage_name)}</span><em>{count}</em>'
        f'<i role="progressbar" aria-valuenow="{share:.0f}" aria-valuemin="0" aria-valuemax="100" '
        f'aria-label="{escape(stage_name)}">{bar}</i></div>'
    )


def lead(text: str) -> str:
    """What a step is for."""
    return f'<p class="cf-lead">{escape(text)}</p>'


def heading(title: str, text: str = "") -> str:
    """The title of a part of a step, with a line of what it says."""
    return f'<h2 class="cf-h2">{escape(title)}</h2>' + (note(text) if text else "")


def note(text: str, kind: str = "") -> str:
    """A quiet line."""
    return f'<p class="cf-note {kind}">{escape(text)}</p>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], label: str) -> str:
    """A table of ready-made HTML cells; the first of each row is its heading."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>' for row in rows
    )
    return (
        f'<div class="cf-scroll" tabindex="0" role="region" aria-label="{escape(label)}"><table class="cf-table">'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )
