"""`concept-forget bench many`: many concepts removed at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.commands.shared import (
    Concepts,
    Device,
    Dictionary,
    Json,
    Methods,
    Model,
    Prior,
    Questions,
    Resume,
    Seed,
    SiteName,
    emit,
    progress_bar,
    quiet_stdout,
    show,
)


def many(
    model: Model = "tiny-llava",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for many.json and every edit as a recipe.")] = Path(
        "runs/many"
    ),
    concepts: Concepts = None,
    methods: Methods = None,
    settings: Prior = None,
    counts: Annotated[list[int] | None, typer.Option("--count", help="Concepts removed at once; repeatable.")] = None,
    site: SiteName = "",
    dictionary: Dictionary = "",
    questions: Questions = 24,
    seed: Seed = 0,
    device: Device = "",
    resume: Resume = False,
    json: Json = False,
) -> None:
    """Ever more concepts at once: the metrics of the same ten, speed, and which removals pull at the same thing.

    [bold]Example[/bold]   concept-forget bench many --model tiny-llava --settings docs/results/sauce60.json --resume
    """
    with quiet_stdout(json), progress_bar(quiet=json) as progress:
        from dataclasses import replace

        from app.bench_removal import RemovalRequest
        from app.many_concepts import COUNTS, METHODS, bench_many

        request = RemovalRequest(
            model=model,
            site=site,
            dictionary=dictionary,
            seed=seed,
            questions=questions,
            methods=tuple(methods or METHODS),
        )
        if concepts:
            request = replace(request, concepts=tuple(concepts))
        result = bench_many(
            request, out, prior=settings, counts=counts or COUNTS, resume=resume, device=device, progress=progress
        )
        from analysis import figures, figures_removal

        # where everything is gone nothing is left to keep: one mean over both would hide it
        shown = {name: figures_removal.many_at_once(result["many"], name) for name in ("UAd", "IRA", "COA")}
        figures.write_figures(out / "figures", shown)
    if json:
        emit({**result, "out": str(out)})
        return
    from app.tables.compare import many_table

    show(many_table(result), f"\nEvery number: [bold]{out / 'many.json'}[/bold]")
