"""What can be looked at: pictures of the concept and others, of the world or of the user's own."""

from __future__ import annotations

from app.ui.desk import Desk
from app.ui.sessions import Sample, Session
from concept_forget.concepts import Example
from concept_forget.worlds import VOCABULARY, questions, sample

WITH, WITHOUT = 6, 6
QUESTIONS = {
    True: ("Describe the picture.", "What is in the picture?"),
    False: ("Who or what is this about?", "Go on."),
}


def offered(desk: Desk, session: Session) -> tuple[Sample, ...]:
    """Test pictures (or texts) with the concept, then without."""
    name = session.settings.concept
    if name.startswith("own:") or desk.reads(session.settings.model):
        test = desk.concept(session).test
        return tuple(_of(test.forget)[:WITH] + _of(test.without)[:WITHOUT])
    if name not in VOCABULARY:
        return ()
    family = VOCABULARY[name].family
    subject = family in ("object", "sport", "emotion")
    others = sample("test", WITHOUT, 41, without=name, **({"family": family} if subject else {}))
    found = []
    for scene in [*sample("test", WITH, 40, having=name), *others]:
        asked = tuple(questions(scene, 0))
        found.append(Sample(scene.id, scene.image, shows=tuple(scene.labels.values()), asked=asked, scene=scene))
    return tuple(found)


def asked_about(session: Session) -> list[str]:
    """Questions to offer for the current picture: its caption, about the concept, about the rest."""
    current, concept = session.sample, session.settings.concept.removeprefix("own:")
    if current is None or not current.asked:
        picture = current is None or current.image is not None
        own = session.own.get(session.settings.concept)
        about = _prompts(own.test.forget if own else (), concept)[:2] if picture else []
        return list(dict.fromkeys([*(QUESTIONS[picture] if picture else (current.text,)), *about]))  # type: ignore[union-attr]
    first = ["Describe the picture."] if current.image is not None else []
    return list(dict.fromkeys([*first, *_prompts(current.asked, concept)]))


def telling_question(session: Session) -> str:
    """A question about the current example whose answer is one word about the concept; else the current question."""
    name, asked = session.settings.concept.removeprefix("own:"), session.sample.asked if session.sample else ()
    about = [e.prompt for e in asked if e.about == name and e.kind != "caption"]
    return about[0] if about else session.question


def _prompts(examples: tuple[Example, ...], concept: str) -> list[str]:
    order = sorted(examples, key=lambda example: (example.kind != "caption", example.about != concept))
    return list(dict.fromkeys(example.prompt for example in order))


def _of(examples: tuple[Example, ...]) -> list[Sample]:
    groups: dict[str, list[Example]] = {}
    for example in examples:
        groups.setdefault(example.group, []).append(example)
    return [
        Sample(name, some[0].image, "" if some[0].image else some[0].prompt, tuple(sorted(some[0].shows)), tuple(some))
        for name, some in groups.items()
    ]
