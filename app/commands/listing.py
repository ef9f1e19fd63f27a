"""`concept-forget concepts` and `models`: what there is."""

from __future__ import annotations

from typing import Annotated

import typer

from app.commands.shared import Json, emit, show


def concepts(
    family: Annotated[
        str, typer.Option(help="Only this family: object, sport, emotion, colour, material; of texts person, place.")
    ] = "",
    json: Json = False,
) -> None:
    """List the concepts of the picture world, by family, with their aliases; of the text world with --family.

    [bold]Example[/bold]   concept-forget concepts --family colour
    """
    from concept_forget.worlds import FAMILIES, VOCABULARY, text

    subjects = [subject for subject in text.subjects().values() if subject.family == family]
    there = (*FAMILIES, "person", "place")
    if family and family not in there:
        raise LookupError(f"There is no family {family!r}. The families are {', '.join(there)}.")
    words = [word for word in VOCABULARY.values() if family in ("", word.family)]
    chosen = [(w.name, w.family, w.aliases) for w in words] + [(s.name, s.family, ()) for s in subjects]
    if json:
        emit({"concepts": [{"name": name, "family": of, "aliases": list(also)} for name, of, also in chosen]})
        return
    from app.tables.here import concept_table

    families = {name: [(n, also) for n, of, also in chosen if of == name] for name in there}
    show(concept_table({name: rows for name, rows in families.items() if rows}))
    if not family:
        show("Of the text world, for models that read only: --family person and --family place.")


def models(json: Json = False) -> None:
    """List the models that come along, and how to use others.

    [bold]Example[/bold]   concept-forget models
    """
    from concept_forget import zoo

    found = []
    for name in zoo.NAMES:
        folder = zoo.WEIGHTS / name
        weights = folder / "model.safetensors"
        size = weights.stat().st_size if weights.is_file() else 0
        dictionaries = sorted(path.name for path in (folder / "sae").glob("*") if path.is_dir())
        found.append({"name": name, "here": bool(size), "bytes": size, "dictionaries": dictionaries})
    if json:
        emit({"models": found})
        return
    from app.tables.here import model_table

    show(model_table(found))
    show("Any Hugging Face causal language model or image-text model works too: --model FOLDER or --model OWNER/NAME.")
