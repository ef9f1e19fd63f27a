"""`concept-forget bench rwku` and `bench methods`: what text models still say, by method."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.commands.shared import (
    Device,
    GateFailed,
    Json,
    Methods,
    Resume,
    Seed,
    emit,
    progress_bar,
    quiet_stdout,
    require,
    show,
)

Gates = Annotated[list[str] | None, typer.Option("--require", help="Exit 3 unless it is reached: forgotten>=0.9.")]


def rwku(
    models: Annotated[list[str] | None, typer.Option("--model", "-m", help="Model; repeatable.")] = None,
    subjects: Annotated[
        list[str] | None, typer.Option("--concept", "-c", help="Whom to forget; repeatable. Default: three targets.")
    ] = None,
    methods: Methods = None,
    data: Annotated[
        str,
        typer.Option("--data", help="RWKU's own folder (with Target/) or OWNER/NAME; default: the text world."),
    ] = "",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for cells.jsonl and bench.json.")] = Path(
        "runs/rwku"
    ),
    limit: Annotated[int, typer.Option(help="Queries per file, type and distance; 0 for all.", min=0)] = 14,
    seed: Seed = 0,
    device: Device = "",
    resume: Resume = False,
    json: Json = False,
) -> None:
    """RWKU's protocol: models by subjects by methods, in RWKU's tables, with intervals over subjects.

    [bold]Example[/bold]   concept-forget bench rwku --model tiny-llama -c "Ada Torwood" --method none --method icu
    """
    with quiet_stdout(json), progress_bar(quiet=json) as progress:
        from app.bench_rwku import RwkuRequest, bench

        request = RwkuRequest(
            models=tuple(models or ("tiny-llama",)),
            subjects=tuple(subjects or ()),
            methods=tuple(methods or (("none", "icu") if data else ("none", "icu", "prompt", "guard"))),
            data=data,
            limit=limit,
            seed=seed,
        )
        result = bench(request, out, resume=resume, device=device, progress=progress)
    if json:
        emit({**result, "out": str(out)})
    else:
        from app.text_tables import rwku_table

        show(rwku_table(result), f"\nEvery cell: [bold]{out / 'bench.json'}[/bold]")


def methods(
    model: Annotated[str, typer.Option("--model", "-m", help="A model of the text world.")] = "tiny-llama",
    twin: Annotated[
        str, typer.Option("--twin", help="The model that never knew the people: control and retain model; '' for none.")
    ] = "tiny-llama-never-knew",
    chosen: Methods = None,
    seeds: Annotated[int, typer.Option("--seeds", help="How many seeds, each with its own person.", min=1)] = 3,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for cells.jsonl and methods.json.")] = Path(
        "runs/methods"
    ),
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Methods side by side, one core each.", min=1)] = 2,
    tasks: Annotated[bool, typer.Option("--tasks/--no-tasks", help="Also random labels task by task.")] = True,
    device: Device = "",
    resume: Resume = False,
    gates: Gates = None,
    json: Json = False,
) -> None:
    """Every text method on people of the text world: forget, neighbour, utility, MIA, depth, probe, relearning.

    The rows none, prompt and never-knew frame the others. Settings are chosen on validation.

    [bold]Example[/bold]   concept-forget bench methods --out runs/methods --resume
    """
    names = ("forgotten", "neighbour", "utility")
    require(gates or [], dict.fromkeys(names, 0.0))
    with quiet_stdout(json), progress_bar(quiet=json) as progress:
        from app.bench_methods import MethodsRequest, bench, text_methods

        request = MethodsRequest(
            model=model,
            twin=twin,
            methods=tuple(chosen or [m for m in text_methods() if twin or m != "never-knew"]),
            seeds=tuple(range(seeds)),
        )
        result = bench(request, out, resume=resume, device=device, jobs=jobs, tasks=tasks, progress=progress)
        from analysis import figures_base, figures_methods

        figures_base.write_figures(out / "figures", {"methods_pareto": figures_methods.methods_pareto(result["rows"])})
    judged = "sauce+" if "sauce+" in result["rows"] else list(result["rows"])[-1]
    row = result["rows"][judged]
    values = {name: row[name]["value"] or 0.0 for name in names[1:]} | {
        "forgotten": 1 - (row["forget"]["value"] or 0.0)
    }
    failed = require(gates or [], values)
    if json:
        emit({**result, "out": str(out), "failed": failed})
    else:
        from app.text_tables import methods_table, tasks_table

        tables = [methods_table(result)] + ([tasks_table(result["tasks"])] if result.get("tasks") else [])
        show(*tables, f"\nEverything: [bold]{out / 'methods.json'}[/bold], figure in {out / 'figures'}")
    if failed:
        raise GateFailed(f"Not reached by {judged}: {'; '.join(failed)}.")


def published(
    data: Annotated[str, typer.Option("--data", help="Folder of the files, or OWNER/NAME of the hub.")],
    kind: Annotated[str, typer.Option("--format", help="tofu, lume, muse, known, counterfact or mmlu.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Zoo name, local folder or hub id.")] = "tiny-llama",
    recipe: Annotated[str, typer.Option("--recipe", help="Run directory: measured under its edit as well.")] = "",
    limit: Annotated[int, typer.Option(help="Rows of each part, drawn by seed; 0 for all.", min=0)] = 100,
    words: Annotated[int, typer.Option(help="New tokens of an answer.", min=1)] = 64,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for bench.json.")] = Path("runs/published"),
    seed: Seed = 0,
    device: Device = "",
    resume: Resume = False,
    json: Json = False,
) -> None:
    """A published data set in its own files: TOFU, LUME, MUSE, known_1000, CounterFact, MMLU.

    [bold]Example[/bold]   concept-forget bench published --format tofu --data tofu/ --model FOLDER --limit 200
    """
    with quiet_stdout(json), progress_bar(quiet=json) as progress:
        from app.bench_published import PublishedRequest, bench

        request = PublishedRequest(data, kind, model, recipe, limit, words, seed)
        result = bench(request, out, resume=resume, device=device, progress=progress)
    if json:
        emit({**result, "out": str(out)})
    else:
        from app.text_tables import published_table

        show(published_table(result), f"\nEverything: [bold]{out / 'bench.json'}[/bold]")


def self_test(
    model: Annotated[str, typer.Option("--model", "-m", help="A model that knows the people.")] = "tiny-llama",
    twin: Annotated[str, typer.Option("--twin", help="Its like that never knew them.")] = "tiny-llama-never-knew",
    people: Annotated[int, typer.Option(help="How many of the targets; 0 for all.", min=0)] = 0,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for self_test.json.")] = Path("runs/self-test"),
    seed: Seed = 0,
    device: Device = "",
    gates: Annotated[
        list[str] | None, typer.Option("--require", help="Exit 3 unless every metric reaches it: auc>=0.9.")
    ] = None,
    json: Json = False,
) -> None:
    """Does every metric of text models tell a model that knows somebody from one that never did?

    [bold]Example[/bold]   concept-forget bench self-test --require auc>=0.8
    """
    require(gates or [], {"auc": 0.0})
    with quiet_stdout(json), progress_bar(quiet=json) as progress:
        import json as plain

        from analysis.self_test import self_test as work
        from app.opening import open_model
        from concept_forget.provenance import write_atomic
        from concept_forget.worlds import text as world

        some = world.targets()[: people or None]
        told = work(
            open_model(model, device),
            open_model(twin, device),
            some,
            seed=seed,
            progress=lambda done, total: progress("asking both models", done, total),
        )
        result = {"model": model, "twin": twin, "people": list(some), "seed": seed, "metrics": told.to_json()}
        write_atomic(out / "self_test.json", plain.dumps(result, indent=1) + "\n")
    failed = [
        f"{name}: {text}"
        for name, found in result["metrics"].items()
        for text in require(gates or [], {"auc": found["auc"]["value"]})
    ]
    if json:
        emit({**result, "out": str(out), "failed": failed})
    else:
        from app.text_tables import self_test_table

        show(self_test_table(result))
    if failed:
        raise GateFailed(f"Does not separate: {'; '.join(failed)}.")
