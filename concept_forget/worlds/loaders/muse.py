"""MUSE (Shi et al. 2024): memorised passages, knowledge of them, and membership, as folders of one corpus."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from concept_forget.worlds.loaders.rows import TEXT, Row, find_file, read_rows, read_texts

_QA = {"question": TEXT, "answer": TEXT}


class Muse(NamedTuple):
    """One corpus in MUSE's shape."""

    verbatim: list[Row]
    """`verbmem/forget.json`: prompt and gt, how the text goes on."""
    knowledge_forget: list[Row]
    """`knowmem/forget_qa.json`: question and answer."""
    knowledge_retain: list[Row]
    """`knowmem/retain_qa.json` (published as `retain2_qa.json`)."""
    forget: list[str]
    """`privleak/forget.json`: passages to forget, members of the training set."""
    holdout: list[str]
    """`privleak/holdout.json`: passages like them that were never read."""
    retain: list[str]
    """`privleak/retain.json` (published as `retain2.json`)."""


def load_muse(folder: str | Path) -> Muse:
    """A corpus from its folder (`data/bbc` of the published repository, or one laid out alike). Raises BadDataError."""
    folder = Path(folder).expanduser()
    knowledge, passages = folder / "knowmem", folder / "privleak"
    return Muse(
        read_rows(find_file(folder / "verbmem", "forget.json"), {"prompt": TEXT, "gt": TEXT}),
        read_rows(find_file(knowledge, "forget_qa.json"), _QA),
        read_rows(find_file(knowledge, "retain2_qa.json", "retain_qa.json"), _QA),
        read_texts(find_file(passages, "forget.json")),
        read_texts(find_file(passages, "holdout.json")),
        read_texts(find_file(passages, "retain2.json", "retain.json")),
    )
