"""TOFU (Maini et al. 2024): questions about fictitious authors, with paraphrased and wrong answers."""

from __future__ import annotations

from pathlib import Path

from concept_forget.worlds.loaders.rows import TEXT, TEXTS, Row, find_file, read_rows

SPLITS = (
    "full",
    *("forget01", "forget05", "forget10", "retain99", "retain95", "retain90"),
    *("holdout01", "holdout05", "holdout10"),
    *("forget01_perturbed", "forget05_perturbed", "forget10_perturbed", "retain_perturbed"),
    *("real_authors_perturbed", "world_facts_perturbed"),
)


def tofu_splits(folder: str | Path) -> tuple[str, ...]:
    """The splits whose files are in the folder. Raises BadDataError when there are none."""
    place = Path(folder).expanduser()
    found = [split for split in SPLITS for end in ("json", "jsonl") if (place / f"{split}.{end}").is_file()]
    if not found:
        find_file(place, *(f"{split}.json" for split in SPLITS))
    return tuple(found)


def load_tofu(folder: str | Path, split: str) -> list[Row]:
    """The rows of a split: question and answer; in a perturbed one also perturbed_answer, and a paraphrase if given.

    Raises LookupError for an unknown split and BadDataError for a file that is absent or wrong.
    """
    if split not in SPLITS:
        raise LookupError(f"TOFU has no split {split!r}. It has {', '.join(SPLITS)}.")
    required = {"question": TEXT, "answer": TEXT}
    if split.endswith("_perturbed"):
        required["perturbed_answer"] = TEXTS
    optional = {"paraphrased_answer": TEXT, "paraphrased_question": TEXT}
    return read_rows(find_file(folder, f"{split}.json", f"{split}.jsonl"), required, optional)
