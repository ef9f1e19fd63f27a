"""Rows of a published data file, checked: which keys, which types, and what to do when they are not there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class BadDataError(ValueError):
    """A file is missing, is not what its format says, or lacks something: names file, row and what belongs there."""


class Check:
    """A condition on a value and how to say it."""

    def __init__(self, said: str, holds: Callable[[Any], bool]) -> None:
        self.said, self.holds = said, holds


TEXT = Check("a text that is not empty", lambda value: isinstance(value, str) and bool(value.strip()))
NUMBER = Check("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool))
TEXTS = Check(
    "a list of texts", lambda value: isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value)
)


def one_of(*values: str) -> Check:
    """One of these texts."""
    return Check(f"one of {', '.join(values)}", lambda value: value in values)


def mapping(**keys: Check) -> Check:
    """An object with these keys."""
    said = f"an object with {', '.join(f'{key} ({check.said})' for key, check in keys.items())}"
    return Check(said, lambda v: isinstance(v, dict) and all(k in v and check.holds(v[k]) for k, check in keys.items()))


def read_rows(path: Path, required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> list[Row]:
    """The rows of a .json (list of objects, or one object per line, as TOFU has it) or .jsonl file, in order.

    Every row must have the required keys; optional ones are checked where they are; others stay as they are. Raises
    BadDataError.
    """
    rows = []
    for number, row in enumerate(_parsed(path), 1):
        if not isinstance(row, dict):
            raise BadDataError(f"{path}, row {number}: an object was expected, not {type(row).__name__}.")
        for key, check in {**required, **(optional or {})}.items():
            if key not in row:
                if key in required:
                    wanted = ", ".join(f"{name} ({c.said})" for name, c in required.items())
                    raise BadDataError(
                        f"{path}, row {number} has no {key!r}; it has {', '.join(row)}. Needed: {wanted}."
                    )
            elif not check.holds(row[key]):
                raise BadDataError(f"{path}, row {number}: {key!r} is {_short(row[key])}; it must be {check.said}.")
        rows.append(row)
    if not rows:
        raise BadDataError(f"{path} has no rows.")
    return rows


def read_texts(path: Path) -> list[str]:
    """A .json file that is a list of texts, in order. Raises BadDataError."""
    found = list(_parsed(path))
    for number, text in enumerate(found, 1):
        if not TEXT.holds(text):
            raise BadDataError(f"{path}, row {number} is {_short(text)}; it must be {TEXT.said}.")
    if not found:
        raise BadDataError(f"{path} has no rows.")
    return found


def find_file(folder: str | Path, *names: str) -> Path:
    """The first of these files that is in the folder. Raises BadDataError that says what is there."""
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise BadDataError(f"{folder} is not a folder. Give the folder that holds {' or '.join(names)}.")
    for name in names:
        if (folder / name).is_file():
            return folder / name
    here = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
    raise BadDataError(f"{folder} has no {' or '.join(names)}; it has {here}.")


def _parsed(path: Path) -> Iterator[Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadDataError(f"{path} cannot be read: {error}") from error
    if path.suffix == ".json" and text.lstrip().startswith("["):
        try:
            yield from json.loads(text)
        except json.JSONDecodeError as error:
            raise BadDataError(f"{path} is not JSON: {error}. Was it cut off on the way?") from error
        return
    # not splitlines: a text may hold line separators of Unicode
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise BadDataError(f"{path}, line {number} is not JSON: {error}. Was the file cut off?") from error


def _short(value: Any) -> str:
    said = repr(value)
    return said if len(said) <= 60 else f"{said[:57]}..."
