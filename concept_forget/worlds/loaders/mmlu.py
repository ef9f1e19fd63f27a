"""MMLU (Hendrycks et al. 2021): questions with four choices, one CSV file per subject."""

from __future__ import annotations

import csv
from pathlib import Path

from concept_forget.worlds.loaders.rows import BadDataError, Row, find_file

LETTERS = "ABCD"
HEADER = ("question", "choice0", "choice1", "choice2", "choice3", "answer")


def load_mmlu(folder: str | Path, split: str = "test") -> list[Row]:
    """The rows of `SUBJECT_split.csv` in the folder or its `split` folder: question, choices, answer (0 to 3), task.

    As published (no header, the answer a letter), or with a header and the answer a number. Raises BadDataError.
    """
    folder = Path(folder).expanduser()
    place = folder / split if (folder / split).is_dir() else folder
    files = sorted(place.glob(f"*_{split}.csv")) if place.is_dir() else []
    if not files:
        files = [find_file(place, f"SUBJECT_{split}.csv")]
    return [row for path in files for row in _rows(path, path.stem.removesuffix(f"_{split}"))]


def _rows(path: Path, task: str) -> list[Row]:
    found = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            cells = list(csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadDataError(f"{path} cannot be read as CSV: {error}") from error
    for number, row in enumerate(cells, 1):
        if tuple(row) == HEADER or not row:
            continue
        answer = row[-1].strip()
        right = LETTERS.find(answer) if answer in tuple(LETTERS) else "0123".find(answer) if len(answer) == 1 else -1
        if len(row) != 6 or right < 0 or not row[0].strip():
            raise BadDataError(
                f"{path}, row {number}: {len(row)} cells, the last {answer!r}; it must be a question, four choices and "
                "the right one as A to D or 0 to 3."
            )
        found.append({"question": row[0], "choices": row[1:5], "answer": right, "task": task})
    if not found:
        raise BadDataError(f"{path} has no rows.")
    return found
