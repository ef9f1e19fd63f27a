"""`concept-forget concepts` and `models`: what there is."""

from __future__ import annotations

from typing import Annotated

import typer

from app.commands.shared import Json, emit, show


def concepts(
    family: Annotated[str, typer.Option(help="Only this family: object, sport, emotion, colour, material.")] = "",
    json: Json = False,
) -> None:
    """List the concepts of the picture world, by family, with their aliases.

    [bold]Example[/bold]   concept-forget concepts --family colour
    """
    from concept_forget.worlds import FAMILIES, VOCABULARY, members

    if family:
        members(family)
    chosen = [word for word in VOCABULARY.values() if family in ("", word.family)]
    if json:
        emit({"concepts": [{"name": w.name, "family": w.family, "aliases": list(w.aliases)} for w in chosen]})
        return
    from app.tables import concept_table

    show(concept_table({name: [w for w in chosen if w.family == name] for name in FAMILIES if family in ("", name)}))


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
    from app.tables import model_table

    show(model_table(found))
    show("Any Hugging Face causal language model or image-text model works too: --model FOLDER or --model OWNER/NAME.")
