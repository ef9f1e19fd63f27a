"""RWKU (Jin et al. 2024): what a model knows of one famous person, as files of one folder per target."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from concept_forget.worlds.loaders.rows import (
    NUMBER,
    TEXT,
    TEXTS,
    BadDataError,
    Check,
    Row,
    find_file,
    mapping,
    one_of,
    read_rows,
)

_PROBE = {"query": TEXT, "answer": TEXT, "level": one_of("1", "2", "3"), "type": TEXT, "subject": TEXT}
_PASSAGE = {"text": TEXT, "subject": TEXT}
_CORPUS = {"text": TEXT, "subject": TEXT}
KEYS: dict[str, Mapping[str, Check]] = {
    "forget_level1": _PROBE,
    "forget_level2": _PROBE,
    "forget_level3": _PROBE,
    "neighbor_level1": _PROBE,
    "neighbor_level2": _PROBE,
    "forget_mia": _PASSAGE,
    "retain_mia": _PASSAGE,
    "retain_mmlu": {"question": TEXT, "choices": TEXTS, "answer": NUMBER, "task": TEXT},
    "retain_bbh": {"task": TEXT, "cot": TEXT, "question": TEXT, "answer": TEXT},
    "truthful": {"question": TEXT, "mc1_targets": mapping(choices=TEXTS)},
    "triviaqa": {"question": TEXT, "answers": TEXTS},
    "fluency": {"instruction": TEXT},
    "positive": _CORPUS,
    "negative": _CORPUS,
    "pair": {"prompt": TEXT, "response": TEXTS, "subject": TEXT},
}
"""The files of a target and what a row of each must have."""
NEEDED = ("forget_level1", "forget_level2", "forget_level3")


def load_rwku(folder: str | Path, target: str = "") -> dict[str, list[Row]]:
    """The files of one target by name (`forget_level1`, ...), rows as published.

    `folder` holds the files, or it is the data set's own: then `target` names one of its `Target/<n>_<Name>` folders,
    with spaces or underscores. Files beyond the three forget levels may be absent. Raises BadDataError.
    """
    place = _place(Path(folder).expanduser(), target)
    found = {}
    for name, required in KEYS.items():
        if name in NEEDED or any((place / f"{name}{ending}").is_file() for ending in (".json", ".jsonl")):
            found[name] = read_rows(find_file(place, f"{name}.json", f"{name}.jsonl"), required)
    return found


def rwku_targets(folder: str | Path) -> tuple[str, ...]:
    """The names of the targets in the data set's folder, in its order. Raises BadDataError."""
    return tuple(_targets(Path(folder).expanduser()))


def _place(folder: Path, target: str) -> Path:
    if not target:
        return folder
    there = _targets(folder)
    wanted = target.replace("_", " ").casefold()
    for name, path in there.items():
        if name.casefold() == wanted:
            return path
    raise BadDataError(f"{folder} has no target {target!r}. There are {', '.join(list(there)[:6])}, ...")


def _targets(folder: Path) -> dict[str, Path]:
    inner = folder / "Target"
    if not inner.is_dir():
        raise BadDataError(
            f"{folder} has no folder Target. Give RWKU's own folder, or one target's folder and no target."
        )
    numbered = [(path.name.partition("_"), path) for path in inner.iterdir() if path.is_dir()]
    ordered = sorted(numbered, key=lambda item: (int(item[0][0]) if item[0][0].isdigit() else 0, item[0][2]))
    return {parts[2].replace("_", " "): path for parts, path in ordered}
