"""`concept-forget bench removal`: every concept by every kind of edit, with an attacker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.commands.shared import (
    Concepts,
    Device,
    Dictionary,
    GateFailed,
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
    require,
    show,
)


def removal(
    model: Model = "tiny-llava",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for cells.jsonl and removal.json.")] = Path(
        "runs/removal"
    ),
    concepts: Concepts = None,
    methods: Methods = None,
    settings: Prior = None,
    site: SiteName = "",
    dictionary: Dictionary = "",
    questions: Questions = 24,
    items: Annotated[int, typer.Option(help="Items of each kind that every attack tries.", min=1)] = 3,
    seed: Seed = 0,
    device: Device = "",
    resume: Resume = False,
    gates: Annotated[
        list[str] | None, typer.Option("--require", help="Exit 3 unless patch_clamp reaches it: HM>=0.9.")
    ] = None,
    json: Json = False,
) -> None:
    """All concepts by every kind of edit: the five metrics, leakage under attack, probes, gates, speed, damage.

    [bold]Example[/bold]   concept-forget bench removal --model tiny-llava --settings docs/results/sauce60.json --resume
    """
    names = ("UAd", "UAg", "IRA", "CRA", "COA", "HM")
    require(gates or [], dict.fromkeys(names, 0.0))
    with quiet_stdout(json), progress_bar(quiet=json) as progress:
        from dataclasses import replace

        from app.bench_removal import RemovalRequest
        from app.bench_removal import bench_removal as work

        request = RemovalRequest(
            model=model, site=site, dictionary=dictionary, seed=seed, questions=questions, items=items
        )
        if concepts:
            request = replace(request, concepts=tuple(concepts))
        if methods:
            request = replace(request, methods=tuple(methods))
        result = work(
            request,
            out,
            prior=settings,
            resume=resume,
            device=device,
            progress=progress,
        )
        from analysis import figures, figures_removal

        made = {"leaks": figures_removal.leaks(result["methods"])}
        made["damage"] = figures_removal.damage_by_distance(result["methods"])
        figures.write_figures(out / "figures", made)
    judged = "patch_clamp" if "patch_clamp" in result["methods"] else list(result["methods"])[-1]
    overall = result["methods"][judged]
    failed = require(gates or [], {name: (overall.get(name) or {}).get("value") or 0.0 for name in names})
    if json:
        emit({**result, "out": str(out), "failed": failed})
    else:
        from app.tables.compare import removal_table

        show(removal_table(result), f"\nEvery cell: [bold]{out / 'removal.json'}[/bold]")
    if failed:
        raise GateFailed(f"Not reached by {judged}: {'; '.join(failed)}.")
