"""LUME (SemEval-2025 Task 4): synthetic stories, made-up personal data and real biographies, to forget and to keep."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, NamedTuple

from concept_forget.worlds.loaders.rows import TEXT, BadDataError, find_file, one_of, read_rows

Task = Literal["Task1", "Task2", "Task3"]
_ID = re.compile(r"^(?P<document>.+?)(?P<kind>sc|qa)(?P<number>\d+)$")


class LumeItem(NamedTuple):
    """One item of LUME."""

    document: str
    """The text it comes from: all items of a document belong together."""
    kind: Literal["completion", "question"]
    """The second half of a text after its first, or a short answer to a question."""
    input: str
    output: str
    task: Task
    """Task1 stories, Task2 personal data, Task3 biographies."""


def load_lume(folder: str | Path) -> dict[Literal["forget", "retain"], list[LumeItem]]:
    """Both sets from `forget.jsonl` and `retain.jsonl`.

    Raises BadDataError, also when a document is in both sets: what is kept would be what is forgotten.
    """
    found: dict[Literal["forget", "retain"], list[LumeItem]] = {}
    for part in ("forget", "retain"):
        path = find_file(folder, f"{part}.jsonl", f"{part}.json")
        keys = {"id": TEXT, "input": TEXT, "output": TEXT, "task": one_of("Task1", "Task2", "Task3")}
        found[part] = [_item(row, path, number) for number, row in enumerate(read_rows(path, keys), 1)]
    both = {item.document for item in found["forget"]} & {item.document for item in found["retain"]}
    if both:
        raise BadDataError(f"{folder}: {len(both)} documents are in forget and in retain, such as {min(both)!r}.")
    return found


def _item(row: dict, path: Path, number: int) -> LumeItem:
    parts = _ID.match(row["id"])
    if parts is None:
        raise BadDataError(f"{path}, row {number}: the id {row['id']!r} must end in sc or qa and a number.")
    kind = "completion" if parts["kind"] == "sc" else "question"
    return LumeItem(parts["document"].strip('"'), kind, row["input"], row["output"], row["task"])
