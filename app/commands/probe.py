"""`concept-forget probe`: how well concepts of the world can be read at every layer."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from app.commands.shared import Device, Json, Model, Seed, emit, progress_bar, quiet_stdout, show

if TYPE_CHECKING:
    from analysis.sweep import Kind


def probe(
    model: Model = "tiny-llava",
    concepts: Annotated[
        list[str] | None, typer.Option("--concept", "-c", help="Concepts of the picture world; default: all sixty.")
    ] = None,
    sites: Annotated[list[str] | None, typer.Option("--site", help="Repeatable; default: every layer.")] = None,
    kinds: Annotated[
        list[str] | None, typer.Option("--tokens", help="patch mean, object patches, last token; repeatable.")
    ] = None,
    pictures: Annotated[int, typer.Option(help="Training pictures, shared by all concepts.", min=200)] = 1200,
    random: Annotated[bool, typer.Option("--random", help="Also probe the same model with random weights.")] = False,
    mlp: Annotated[
        bool, typer.Option("--mlp", help="Also a 2 x 256 MLP at the best layer: the non-linear bound.")
    ] = False,
    named: Annotated[
        bool, typer.Option("--named", help="Also ask the model what it sees, beside what is read.")
    ] = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Run directory for probes.json and figures.")] = Path(
        "runs/latest"
    ),
    seed: Seed = 0,
    device: Device = "",
    json: Json = False,
) -> None:
    """Probe concepts at every layer, with their floors (shuffled labels, control task, random weights) and intervals.

    [bold]Example[/bold]   concept-forget probe --model tiny-llava --concept star --concept red
    """
    with quiet_stdout(json), progress_bar(quiet=json) as progress:
        import json as plain

        from analysis import figures
        from analysis.sweep import KINDS, read, sweep
        from app.probing import asked, best_cells, bound, probe_summary, untrained
        from app.workbench import open_model
        from app.world_concepts import find
        from concept_forget.provenance import write_atomic
        from concept_forget.sites import Site

        wanted = list(kinds or KINDS[:1])
        if unknown := set(wanted) - set(KINDS):
            raise ValueError(f"--tokens {', '.join(sorted(unknown))}: choose from {', '.join(KINDS)}.")
        chosen = cast("list[Kind]", wanted)
        names = [find(name) for name in concepts or []]
        opened = open_model(model, device)
        places = [Site.parse(text) for text in sites or []]
        for place in places:
            opened.module(place)
        places = places or [site for site in opened.sites() if site.stream in ("resid", "out")]
        sizes = (pictures, pictures // 3, pictures // 2)
        started, before = time.perf_counter(), time.process_time()
        reading = read(opened, places, sizes, seed=seed, progress=progress)
        middle = time.perf_counter()
        cells = sweep(reading, names, chosen, seed=seed, progress=progress)
        seconds = {"reading": middle - started, "probing": time.perf_counter() - middle}
        processor = round(time.process_time() - before, 1)
        floor = []
        if random:
            bare = read(untrained(opened, seed), places, sizes, seed=seed, progress=progress)
            floor = sweep(bare, names, chosen, seed=seed, progress=progress)
        summary = probe_summary(cells, floor)
        best = best_cells(cells, summary)
        result = {
            "model": model,
            "seed": seed,
            "pictures": sum(sizes),
            "seconds": {name: round(value, 1) for name, value in seconds.items()} | {"processor": processor},
            "summary": summary,
            "best": str(best[0].site),
            "mlp": bound(reading, best, seed, progress) if mlp else {},
            "named": asked(opened, reading, names, seed, progress) if named else {},
            "cells": [cell.to_json() for cell in cells],
        }
        write_atomic(out / "probes.json", plain.dumps(result, allow_nan=False))
        figures.write_figures(out / "figures", {"probe_layers": figures.probe_layers(result["summary"])})
    if json:
        emit({**result, "out": str(out)})
        return
    from app.tables.find import probe_notes, probe_table

    show(
        probe_table(result["summary"], len(best)),
        *probe_notes(result, best),
        f"\nEvery cell: [bold]{out / 'probes.json'}[/bold]",
    )
