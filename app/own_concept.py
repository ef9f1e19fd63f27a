"""A concept of one's own: folders of pictures, or files of texts, that have it and that don't."""

from __future__ import annotations

import csv
import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from app.concept_spec import Other, Spec, fill
from concept_forget.concepts import Concept, Example, ExampleSet, Kind

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
TEXTS = frozenset({".txt", ".jsonl"})
SHARES = (0.6, 0.2, 0.2)
"""Of the groups, for fitting, choosing and reporting."""
LEAST = 5
"""Groups that each side needs, so that every split has some."""
LONGEST = 1024
"""Pictures are scaled down to this many pixels on the longer side: no vision tower reads more."""


class ConceptError(ValueError):
    """Pictures or texts that cannot be used: names the file or folder and what to do."""


@dataclass(frozen=True)
class Item:
    """One picture or one text, with what is known about it."""

    group: str
    """Hash of its content: two copies of one picture never end up in two splits."""
    path: str
    image: Image.Image | None = None
    text: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    """Columns of labels.csv / labels.jsonl or of the JSON line, and `folder`, the sub-folder it lies in."""


def own_concept(spec: Spec, forget: Path, retain: Path, near: Path | None = None, seed: int = 0) -> Concept:
    """The concept that `forget` shows and `retain` (and `near`: others of its family) don't, split by seeded groups.

    Raises ConceptError naming the file or folder that cannot be used.
    """
    parts = {"forget": read_items(forget), "near": read_items(near) if near else [], "retain": read_items(retain)}
    _same_kind(parts)
    _disjoint(parts)
    for name in ("forget", "retain"):
        groups = {item.group for item in parts[name]}
        if len(groups) < LEAST:
            folder = {"forget": forget, "retain": retain}[name]
            raise ConceptError(
                f"{folder} has {len(groups)} different examples; at least {LEAST} are needed (--{name}), and some "
                "hundred make the numbers mean something."
            )
    splits = {name: split(items, seed) for name, items in parts.items()}
    train, validation, test = (
        ExampleSet(
            *(
                tuple(
                    example for item in splits[part][index] for example in questions(item, spec, part == "forget", seed)
                )
                for part in ("forget", "near", "retain")
            )
        )
        for index in range(3)
    )
    return Concept(spec.name, spec.family, train, validation, test, spec.aliases)


def questions(item: Item, spec: Spec, shown: bool, seed: int = 0) -> list[Example]:
    """What is asked about one picture or text. An empty answer is later filled with what the untouched model says."""
    rng = random.Random(f"{seed}/{item.group}")
    text = item.image is None
    shows = frozenset({spec.name}) if shown else frozenset(filter(None, (item.labels.get("folder"),)))
    common = {"image": item.image, "shows": shows, "group": item.group}

    def words(question: str) -> str:
        return fill(question, text=item.text)

    asked = []
    about_it: tuple[tuple[Kind, str], ...] = (
        ("yesno", "yes" if shown else "no"),
        ("short", spec.name),
        ("caption", ""),
    )
    for kind, answer in about_it:
        phrasings = spec.ask(kind, text)
        if not phrasings or (kind == "short" and not shown):
            continue
        about = {} if kind == "caption" else {"about": spec.name, "family": spec.family, "aliases": spec.aliases}
        asked.append(Example(words(rng.choice(phrasings)), answer, kind=kind, **about, **common))
    own = (_row_question(item),) if item.labels.get("question") else ()
    for other in (*own, *(spec.others or _default_others(item, text))):
        answer = _expected(item, other)
        if answer is None or (shown and answer.lower() in map(str.lower, (spec.name, *spec.aliases))):
            continue  # asks about the concept itself: no measure of what else stays
        prompt = words(rng.choice(other.questions))
        about = (answer if other.kind == "short" else "") or other.family or other.questions[0]
        family = other.family or (spec.family if other.label == "folder" else "other")
        asked.append(
            Example(prompt, answer, kind=other.kind, about=about, family=family, aliases=other.aliases, **common)
        )
    return asked


def answered_by(concept: Concept, say: Callable[[Sequence[Example]], Sequence[str]]) -> Concept:
    """`concept` with what `say` (the untouched model) answers wherever no answer is expected yet, captions apart."""

    def fill_in(examples: tuple[Example, ...]) -> tuple[Example, ...]:
        open_ = [index for index, example in enumerate(examples) if not example.answer and example.kind != "caption"]
        said = dict(zip(open_, say([examples[index] for index in open_]), strict=True)) if open_ else {}
        return tuple(replace(e, answer=said[i]) if i in said else e for i, e in enumerate(examples) if said.get(i, "-"))

    splits = {
        name: ExampleSet(*(fill_in(part) for part in getattr(concept, name)))
        for name in ("train", "validation", "test")
    }
    return replace(concept, **splits)


def split(items: Iterable[Item], seed: int) -> tuple[list[Item], list[Item], list[Item]]:
    """Items in three splits by `SHARES`; a group is never divided and each split gets one while there are three."""
    items = list(items)
    groups = sorted({item.group for item in items})
    random.Random(seed).shuffle(groups)
    count = len(groups)
    held = [max(1, round(count * share)) if count >= 3 else 0 for share in SHARES[1:]]
    where = {group: 1 if i < held[0] else 2 if i < sum(held) else 0 for i, group in enumerate(groups)}
    return tuple([item for item in items if where[item.group] == index] for index in range(3))  # type: ignore[return-value]


def read_items(source: Path) -> list[Item]:
    """Every picture below a folder, or every text of a .txt / .jsonl file (or of those in a folder), sorted by path.

    Raises ConceptError naming the first file that cannot be read.
    """
    source = Path(source)
    if not source.exists():
        raise ConceptError(f"{source} does not exist. Give a folder of pictures, or a .txt or .jsonl file of texts.")
    files = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]
    files = [path for path in files if not path.name.startswith(("labels.", "."))]
    pictures = [path for path in files if path.suffix.lower() in PICTURES]
    texts = [path for path in files if path.suffix.lower() in TEXTS]
    if pictures:
        labels = read_labels(source) if source.is_dir() else {}
        return [_picture(path, source, labels) for path in pictures]
    items = [item for path in texts for item in _texts(path)]
    if not items:
        kinds = ", ".join(sorted(PICTURES | TEXTS))
        raise ConceptError(f"{source} has neither pictures nor texts. Files that can be read end in {kinds}.")
    return items


def read_labels(folder: Path) -> dict[str, dict[str, str]]:
    """labels.csv or labels.jsonl of a folder: by file name (or path below the folder) what is known about it."""
    table = folder / "labels.csv"
    if table.exists():
        with table.open(newline="", encoding="utf-8") as lines:
            rows: list[dict] = list(csv.DictReader(lines))
    else:
        table = folder / "labels.jsonl"
        rows = _json_lines(table) if table.exists() else []
    if any("file" not in row for row in rows):
        raise ConceptError(f"{table} needs a column `file` with the file name of each picture.")
    return {str(row["file"]): {key: str(value) for key, value in row.items() if value is not None} for row in rows}


def _picture(path: Path, source: Path, labels: dict[str, dict[str, str]]) -> Item:
    try:
        content = path.read_bytes()
        with Image.open(path) as opened:
            opened.load()
            image = opened.convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ConceptError(
            f"{path} is not a picture that can be read ({error or type(error).__name__}). "
            "Repair it or take it out of the folder."
        ) from None
    if max(image.size) > LONGEST:
        image.thumbnail((LONGEST, LONGEST))
    below = path.relative_to(source) if source.is_dir() else Path(path.name)
    known = dict(labels.get(path.name) or labels.get(below.as_posix()) or {})
    if len(below.parts) > 1:
        known.setdefault("folder", below.parts[-2])
    return Item(hashlib.sha256(content).hexdigest()[:16], str(path), image, labels=known)


def _texts(path: Path) -> list[Item]:
    if path.suffix.lower() == ".jsonl":
        rows = _json_lines(path)
    else:
        try:
            rows = [{"text": line.strip()} for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        except UnicodeDecodeError as error:
            raise ConceptError(f"{path} is not UTF-8 text ({error}).") from None
    items = []
    for number, row in enumerate(rows, 1):
        text = row.get("text") or row.get("question") or row.get("prompt")
        if not isinstance(text, str):
            raise ConceptError(f"{path}, line {number}: needs `text`, or `question` and `answer`; it has {list(row)}.")
        labels = {key: str(value) for key, value in row.items() if key != "text" and value is not None}
        if "prompt" in labels:
            labels.setdefault("question", labels["prompt"])
        group = str(row.get("group") or hashlib.sha256(text.encode()).hexdigest()[:16])
        items.append(Item(group, f"{path}:{number}", text=text, labels=labels))
    return items


def _json_lines(path: Path) -> list[dict]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ConceptError(f"{path}, line {number} is not JSON: {error}.") from None
        if not isinstance(row, dict):
            raise ConceptError(f"{path}, line {number} is not a JSON object: {line[:60]!r}.")
        rows.append(row)
    return rows


def _row_question(item: Item) -> Other:
    return Other((item.labels["question"],), item.labels.get("family", ""), item.labels.get("answer", ""))


def _default_others(item: Item, text: bool) -> tuple[Other, ...]:
    if text:
        return ()
    if item.labels.get("folder"):
        return (Other(("What is in the picture?",), label="folder"),)
    return (Other(("What is in the background of the picture?",), family="background"),)


def _expected(item: Item, other: Other) -> str | None:
    """The answer that is right; empty: what the model says; None: unknown for this item, so nothing is asked."""
    if not other.label:
        return other.answer
    return item.labels.get(other.label)


def _same_kind(parts: dict[str, list[Item]]) -> None:
    kinds = {name: "texts" if items[0].image is None else "pictures" for name, items in parts.items() if items}
    if len(set(kinds.values())) > 1:
        found = ", ".join(f"--{name} has {kind}" for name, kind in kinds.items())
        raise ConceptError(f"All folders must hold the same: {found}.")


def _disjoint(parts: dict[str, list[Item]]) -> None:
    counts = Counter(group for items in parts.values() for group in {item.group for item in items})
    for group, count in counts.items():
        if count > 1:
            paths = [
                next(i.path for i in items if i.group == group)
                for items in parts.values()
                if group in {i.group for i in items}
            ]
            raise ConceptError(f"{' and '.join(paths)} are the same: an example either has the concept or has not.")
