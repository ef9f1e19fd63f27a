"""Single facts for tracing and editing (Meng et al. 2022): known_1000 and CounterFact."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from concept_forget.worlds.loaders.rows import NUMBER, TEXT, TEXTS, BadDataError, Row, find_file, mapping, read_rows

_TARGET = mapping(str=TEXT)
_REWRITE = mapping(prompt=TEXT, subject=TEXT, target_true=_TARGET, target_new=_TARGET)


class KnownFact(NamedTuple):
    """A prompt that ends where its answer begins."""

    prompt: str
    subject: str
    """Stands in the prompt, word for word."""
    answer: str
    relation: str
    """Wikidata's property, such as P30."""


class CounterFact(NamedTuple):
    """A fact, what it shall be instead, and what has to change along with it or must not."""

    prompt: str
    subject: str
    answer: str
    new: str
    relation: str
    paraphrases: tuple[str, ...]
    neighbours: tuple[str, ...]
    """Prompts about other subjects with the same true answer."""


def load_known(folder: str | Path) -> list[KnownFact]:
    """The facts of `known_1000.json`. Raises BadDataError, also when a subject is not in its prompt."""
    path = find_file(folder, "known_1000.json")
    keys = {"known_id": NUMBER, "prompt": TEXT, "subject": TEXT, "attribute": TEXT, "relation_id": TEXT}
    found = []
    for number, row in enumerate(read_rows(path, keys), 1):
        _holds(row["subject"], row["prompt"], path, number)
        found.append(KnownFact(row["prompt"], row["subject"], row["attribute"], row["relation_id"]))
    return found


def load_counterfact(folder: str | Path) -> list[CounterFact]:
    """The facts of `counterfact.json`, subjects filled in. Raises BadDataError."""
    path = find_file(folder, "counterfact.json")
    keys = {
        "case_id": NUMBER,
        "requested_rewrite": _REWRITE,
        "paraphrase_prompts": TEXTS,
        "neighborhood_prompts": TEXTS,
    }
    return [_counterfact(row, path, number) for number, row in enumerate(read_rows(path, keys), 1)]


def _counterfact(row: Row, path: Path, number: int) -> CounterFact:
    asked = row["requested_rewrite"]
    if asked["prompt"].count("{}") != 1:
        raise BadDataError(
            f"{path}, row {number}: the prompt {asked['prompt']!r} must hold {{}} once, for the subject."
        )
    return CounterFact(
        prompt=asked["prompt"].replace("{}", asked["subject"]),
        subject=asked["subject"],
        answer=asked["target_true"]["str"],
        new=asked["target_new"]["str"],
        relation=asked.get("relation_id", ""),
        paraphrases=tuple(row["paraphrase_prompts"]),
        neighbours=tuple(row["neighborhood_prompts"]),
    )


def _holds(subject: str, prompt: str, path: Path, number: int) -> None:
    if subject not in prompt:
        raise BadDataError(f"{path}, row {number}: the subject {subject!r} is not in the prompt {prompt!r}.")
