"""The small YAML that says what an own concept is called and what to ask about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

import yaml

from concept_forget.concepts import Kind

EXAMPLE = """\
name: dog
family: animal
aliases: [puppy, hound]
questions:
  yesno: ["Is there a {name} in the picture?"]
  caption: ["Describe the picture."]
others:
  - {question: "What animal is this?", family: animal, label: folder}
  - {question: "What is the weather like?", family: weather}
"""
PICTURE_QUESTIONS = {
    "yesno": ("Is there {a} {name} in the picture?", "Does the picture show {a} {name}?"),
    "caption": ("Describe the picture.",),
    "short": (),
}
TEXT_QUESTIONS = {
    "yesno": ("{text}\nIs this about {name}? Answer yes or no.",),
    "caption": ("{text}",),
    "short": (),
}


class SpecError(ValueError):
    """A concept file that does not say what is needed: names the key and what it may hold."""


@dataclass(frozen=True)
class Other:
    """A question about something else than the concept: what must stay (IRA, CRA, COA)."""

    questions: tuple[str, ...]
    """Phrasings; `{text}` stands for the text where the concept is given by texts."""
    family: str = ""
    """Family of what is asked about; equal to the concept's own for IRA."""
    answer: str = ""
    """The expected answer if it is the same everywhere."""
    label: str = ""
    """Where else the expected answer comes from: `folder`, or a column of labels.csv / labels.jsonl. With neither
    `answer` nor `label`, what the untouched model says is expected."""
    aliases: tuple[str, ...] = ()
    kind: Kind = "short"


@dataclass(frozen=True)
class Spec:
    """What an own concept is called and what is asked about it."""

    name: str
    family: str = ""
    aliases: tuple[str, ...] = ()
    questions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Per kind (yesno, caption, short) the phrasings that ask about the concept; empty: sensible ones."""
    others: tuple[Other, ...] = ()

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise SpecError("The concept needs a name: `name: dog` in the YAML, or --concept NAME.")
        if not self.family:
            object.__setattr__(self, "family", self.name)

    def ask(self, kind: Kind, text: bool = False) -> tuple[str, ...]:
        """The phrasings of a kind with the name filled in (`{text}` is left for the item)."""
        given = self.questions.get(kind) or (TEXT_QUESTIONS if text else PICTURE_QUESTIONS)[kind]
        article = "an" if self.name[:1].lower() in "aeiou" else "a"
        return tuple(fill(question, name=self.name, a=article) for question in given)


def fill(question: str, **values: str) -> str:
    """`question` with `{key}` replaced for the keys given; every other brace stays as it is."""
    for key, value in values.items():
        question = question.replace("{" + key + "}", value)
    return question


def read_spec(path: Path, name: str = "") -> Spec:
    """The spec in a YAML file; `name` wins over the file's. Raises SpecError saying which key is wrong."""
    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpecError(f"There is no concept file {path}. It should look like this:\n{EXAMPLE}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} is not readable YAML: {error}. It should look like this:\n{EXAMPLE}") from None
    if not isinstance(data, Mapping):
        raise SpecError(
            f"{path} holds {type(data).__name__}, not keys and values. It should look like this:\n{EXAMPLE}"
        )
    return spec_from(data, str(path), name)


def spec_from(data: Mapping[str, Any], source: str = "the concept", name: str = "") -> Spec:
    """The spec in a mapping as the YAML has it. Raises SpecError saying which key is wrong."""
    _only(data, ("name", "family", "aliases", "questions", "others"), source)
    questions = data.get("questions") or {}
    if not isinstance(questions, Mapping):
        raise SpecError(f"{source}: `questions` must map {', '.join(get_args(Kind))} to lists of questions.")
    _only(questions, get_args(Kind), f"{source}: questions")
    others = data.get("others") or []
    if not isinstance(others, list):
        raise SpecError(f"{source}: `others` must be a list of questions, each with a family and an answer or a label.")
    return Spec(
        name=name or str(data.get("name") or ""),
        family=str(data.get("family") or ""),
        aliases=_words(data.get("aliases"), f"{source}: aliases"),
        questions={kind: _words(asked, f"{source}: questions.{kind}") for kind, asked in questions.items()},
        others=tuple(_other(entry, f"{source}: others[{index}]") for index, entry in enumerate(others)),
    )


def _other(entry: Any, source: str) -> Other:
    if not isinstance(entry, Mapping):
        raise SpecError(f"{source} must have a `question` and a `family`; it is {entry!r}.")
    _only(entry, ("question", "family", "answer", "label", "aliases", "kind"), source)
    asked = _words(entry.get("question"), f"{source}: question")
    if not asked:
        raise SpecError(f"{source} has no `question`.")
    kind = entry.get("kind", "short")
    if kind not in ("short", "yesno"):
        raise SpecError(f"{source}: kind is {kind!r}; it can be short or yesno.")
    given = entry.get("answer")  # YAML reads a bare yes / no as true / false
    answer = ("yes" if given else "no") if isinstance(given, bool) else "" if given is None else str(given)
    if answer and entry.get("label"):
        raise SpecError(
            f"{source} has both `answer` and `label`; give one (or neither: what the model says is expected)."
        )
    aliases = _words(entry.get("aliases"), f"{source}: aliases")
    return Other(asked, str(entry.get("family") or ""), answer, str(entry.get("label") or ""), aliases, kind)


def _only(data: Mapping[str, Any], allowed: tuple[str, ...], source: str) -> None:
    for key in data:
        if key not in allowed:
            near = get_close_matches(str(key), allowed, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise SpecError(f"{source} has the unknown key {key!r}.{hint} Allowed: {', '.join(allowed)}.")


def _words(value: Any, source: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(item, str | int | float) for item in value):
        return tuple(str(item) for item in value)
    raise SpecError(f"{source} must be a text or a list of texts; it is {value!r}.")
