"""`bench published`: what a model says to the rows of a published data set, bare and under a recipe."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.bench import Cells
from app.dictionaries import Progress, stage
from app.opening import open_model
from concept_forget.edits import Edit
from concept_forget.evaluation.text import Item, PerItem, knowledge, rouge_l_recall, say
from concept_forget.evaluation.text.rwku_utility import mmlu
from concept_forget.model import HookedModel
from concept_forget.provenance import hash_json, versions, write_atomic
from concept_forget.recipe import Recipe
from concept_forget.worlds.loaders import (
    data_folder,
    load_counterfact,
    load_known,
    load_lume,
    load_mmlu,
    load_muse,
    load_tofu,
    tofu_splits,
)

SCHEMA = "concept-forget/bench-published/1"
Parts = dict[str, list[Any]]
"""What is asked by part: items, or the rows of a multiple-choice test."""


@dataclass(frozen=True)
class PublishedRequest:
    """Which files to ask which model. Equal requests give equal numbers."""

    data: str
    format: str
    model: str = "tiny-llama"
    recipe: str = ""
    """Run directory of the edit to measure under as well."""
    limit: int = 100
    """Rows of each part, drawn by seed; 0: all."""
    words: int = 64
    """New tokens of an answer."""
    seed: int = 0


def bench(
    request: PublishedRequest, out: Path, *, resume: bool = False, device: str = "", progress: Progress | None = None
) -> dict[str, Any]:
    """Probability, memorisation, extraction, truth ratio and ROUGE-L recall of every part, kept as it is finished in
    cells.jsonl; writes bench.json.

    Raises LookupError for an unknown format and BadDataError for files that are absent or wrong, before the model is
    loaded.
    """
    if request.format not in FORMATS:
        raise LookupError(f"There is no format {request.format!r}. There are {', '.join(FORMATS)}.")
    parts = FORMATS[request.format](data_folder(request.data))
    counts = {name: len(rows) for name, rows in parts.items()}
    rng = random.Random(request.seed)
    chosen = {
        name: rng.sample(rows, min(request.limit, len(rows))) if request.limit else rows for name, rows in parts.items()
    }
    if progress:
        progress(f"loading {request.model}", 0, 1)
    model = open_model(request.model, device)
    edits = {"before": (), **({"after": Recipe.load(Path(request.recipe), model).edits} if request.recipe else {})}
    cells = Cells(out / "cells.jsonl", hash_json(asdict(request))[:16], resume)
    for name, rows in chosen.items():
        for when, applied in edits.items():
            if (name, when) not in cells.done:
                found = _measured(model, rows, applied, request, stage(progress, f"asking {name} ({when})"))
                measured = {key: value.measured(seed=request.seed).to_json() for key, value in found.items()}
                cells.add({"concept": name, "method": when, "metrics": measured})
    rows = {
        name: {"rows": counts[name], **{when: cells.done[name, when]["metrics"] for when in edits}} for name in chosen
    }
    result = {"schema": SCHEMA, **asdict(request), "parts": rows, "versions": versions()}
    write_atomic(out / "bench.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return result


def _measured(
    model: HookedModel,
    rows: Sequence[Any],
    edits: Sequence[Edit],
    request: PublishedRequest,
    progress: Callable[[int, int], None] | None,
) -> Mapping[str, PerItem]:
    if not isinstance(rows[0], Item):
        return {"accuracy": PerItem(tuple(mmlu(model, rows, edits, 16)), tuple(f"#{k}" for k in range(len(rows))))}
    found = knowledge(model, rows, edits, batch_size=16)
    said = say(model, rows, edits, request.words, batch_size=16, progress=progress)
    recalls = [rouge_l_recall(text, item.answer) for text, item in zip(said, rows, strict=True)]
    return {**found, "ROUGE-L recall": PerItem.of(recalls, rows)}


def _tofu(folder: Path) -> Parts:
    return {
        split: [
            Item(row["answer"], row["question"], wrong=tuple(row.get("perturbed_answer", ())))
            for row in load_tofu(folder, split)
        ]
        for split in tofu_splits(folder)
    }


def _lume(folder: Path) -> Parts:
    found: Parts = {}
    for part, items in load_lume(folder).items():
        for item in items:
            asked = Item(item.output, item.input, group=item.document)
            found.setdefault(f"{part}, {item.task}, {item.kind}", []).append(asked)
    return found


def _muse(folder: Path) -> Parts:
    muse = load_muse(folder)
    asked = {"knowledge, forget": muse.knowledge_forget, "knowledge, retain": muse.knowledge_retain}
    parts = {name: [Item(row["answer"], row["question"]) for row in rows] for name, rows in asked.items()}
    return {"verbatim": [Item(row["gt"], row["prompt"]) for row in muse.verbatim], **parts}


def _known(folder: Path) -> Parts:
    return {"facts": [Item(fact.answer, fact.prompt, group=fact.subject) for fact in load_known(folder)]}


def _counterfact(folder: Path) -> Parts:
    found: Parts = {"facts": [], "paraphrases": [], "neighbours": []}
    for fact in load_counterfact(folder):
        asked = {"facts": (fact.prompt,), "paraphrases": fact.paraphrases, "neighbours": fact.neighbours}
        for name, prompts in asked.items():
            found[name] += [Item(fact.answer, p, wrong=(fact.new,), group=fact.subject) for p in prompts]
    return found


def _mmlu(folder: Path) -> Parts:
    there = [split for split in ("test", "val", "dev") if list(folder.glob(f"**/*_{split}.csv"))]
    return {split: list(load_mmlu(folder, split)) for split in there or ["test"]}


FORMATS: dict[str, Callable[[Path], Parts]] = {
    "tofu": _tofu,
    "lume": _lume,
    "muse": _muse,
    "known": _known,
    "counterfact": _counterfact,
    "mmlu": _mmlu,
}
"""How the files of a data set become questions, by its name."""
