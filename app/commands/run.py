"""`concept-forget run`: take one concept out of one model and report."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from app.commands.shared import (
    Concept,
    Device,
    Dictionary,
    Forget,
    GateFailed,
    Json,
    Model,
    Near,
    Resume,
    Retain,
    Seed,
    SiteName,
    SpecFile,
    emit,
    own_data,
    progress_bar,
    quiet_stdout,
    require,
    show,
)


def run(
    model: Model = "tiny-llava",
    concept: Concept = "",
    method: Annotated[str, typer.Option("--method", help="sauce+ chooses among several; or one method.")] = "sauce+",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Hold a setting of the method, as k=8; the others are chosen. Repeatable."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Run directory.")] = Path("runs/latest"),
    forget: Forget = None,
    retain: Retain = None,
    near: Near = None,
    spec: SpecFile = None,
    site: SiteName = "",
    door: Annotated[
        str, typer.Option("--door", help="vision, projector, language, several as vision+language, or all.")
    ] = "",
    dictionary: Dictionary = "",
    questions: Annotated[int, typer.Option(help="Test questions per metric.", min=1)] = 200,
    only_known: Annotated[bool, typer.Option(help="Report only on what the model knows before the edit.")] = False,
    ungated: Annotated[
        bool, typer.Option("--ungated", help="No gate: for an export that is exact where there is an exact form.")
    ] = False,
    seed: Seed = 0,
    device: Device = "",
    resume: Resume = False,
    gates: Annotated[
        list[str] | None, typer.Option("--require", help="Exit 3 unless reached: UAd>=0.9. Repeatable.")
    ] = None,
    json: Json = False,
) -> None:
    """Take a concept out of a model: find its features, choose an edit, measure before and after, write a report.

    [bold]Example[/bold]   concept-forget run --model tiny-llava --concept star --method sauce+ --out runs/star

    [bold]Own[/bold]       concept-forget run --model FOLDER --forget dogs/ --retain others/ --spec dog.yaml
    """
    own = own_data(forget, retain, near, spec)
    require(gates or [], dict.fromkeys(METRICS, 0.0))
    with quiet_stdout(json), progress_bar(quiet=json) as progress:
        from app.running import RunRequest
        from app.running import run as work

        request = RunRequest(
            model,
            concept,
            own,
            method,
            site,
            door,
            dictionary,
            seed,
            questions=questions,
            settings=tuple(settings or ()),
            only_known=only_known,
            ungated=ungated,
        )
        command = shlex.join(["concept-forget", *sys.argv[1:]])
        report = work(request, out, resume=resume, device=device, command=command, progress=progress)
    failed = require(gates or [], {name: report.metrics[name].after.value for name in METRICS})
    if json:
        emit(report.to_json() | {"out": str(out), "failed": failed})
    else:
        from app.tables.run import controls_note, metric_table

        show(
            metric_table(report.to_json()),
            controls_note(report.to_json()),
            f"\nReport: [bold]{out / 'report.html'}[/bold]",
        )
    if failed:
        raise GateFailed(f"Not reached: {'; '.join(failed)}.")


METRICS = ("UAd", "UAg", "IRA", "CRA", "COA", "HM")
