"""`concept-forget bench sauce60`: all concepts by all methods."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.commands import bench_text
from app.commands.bench_many import many
from app.commands.bench_removal import removal
from app.commands.shared import (
    Concepts,
    Device,
    Dictionary,
    GateFailed,
    Json,
    Methods,
    Model,
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

app = typer.Typer(no_args_is_help=True, help="Benchmarks over many concepts and methods.")


@app.callback()
def bench() -> None:
    """Benchmarks over many concepts and methods."""


app.command("removal", rich_help_panel="Pictures")(removal)
app.command("many", rich_help_panel="Pictures")(many)
app.command("methods", rich_help_panel="Texts")(bench_text.methods)
app.command("rwku", rich_help_panel="Texts")(bench_text.rwku)
app.command("published", rich_help_panel="Texts")(bench_text.published)
app.command("self-test", rich_help_panel="Texts")(bench_text.self_test)


@app.command("sauce60", rich_help_panel="Pictures")
def sauce60(
    model: Model = "tiny-llava",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for cells.jsonl and bench.json.")] = Path(
        "runs/sauce60"
    ),
    concepts: Concepts = None,
    methods: Methods = None,
    site: SiteName = "",
    dictionary: Dictionary = "",
    questions: Questions = 90,
    seed: Seed = 0,
    device: Device = "",
    resume: Resume = False,
    gates: Annotated[
        list[str] | None, typer.Option("--require", help="Exit 3 unless sauce+ reaches it: HM>=0.9.")
    ] = None,
    json: Json = False,
) -> None:
    """All sixty concepts by every method: means with intervals per family and overall, paired with SAUCE mode.

    [bold]Example[/bold]   concept-forget bench sauce60 --model tiny-llava --out runs/sauce60 --resume
    """
    names = ("UAd", "UAg", "IRA", "CRA", "COA", "HM", "to_sauce")
    require(gates or [], dict.fromkeys(names, 0.0))
    with quiet_stdout(json), progress_bar(quiet=json) as progress:
        from dataclasses import replace

        from app.bench import BenchRequest
        from app.bench import bench as work

        request = BenchRequest(model=model, site=site, dictionary=dictionary, seed=seed, questions=questions)
        if concepts:
            request = replace(request, concepts=tuple(concepts))
        if methods:
            request = replace(request, methods=tuple(methods))
        result = work(request, out, resume=resume, device=device, progress=progress)
        from analysis import figures

        figures.write_figures(out / "figures", {"methods": figures.method_heat_map(result["methods"])})
    judged = "sauce+" if "sauce+" in result["methods"] else list(result["methods"])[-1]
    overall = result["methods"][judged]["all"]
    failed = require(gates or [], {name: (overall.get(name) or {}).get("value") or 0.0 for name in names})
    if json:
        emit({**result, "out": str(out), "failed": failed})
    else:
        from app.tables.compare import bench_table

        show(bench_table(result), f"\nEvery cell: [bold]{out / 'bench.json'}[/bold]")
    if failed:
        raise GateFailed(f"Not reached by {judged}: {'; '.join(failed)}.")
