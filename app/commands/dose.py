"""`concept-forget dose`: how strong an edit has to be."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.commands.shared import (
    Concept,
    Device,
    Dictionary,
    Forget,
    Json,
    Model,
    Near,
    Retain,
    Seed,
    SiteName,
    SpecFile,
    emit,
    own_data,
    progress_bar,
    quiet_stdout,
    show,
)


def dose(
    model: Model = "tiny-llava",
    concept: Concept = "",
    method: Annotated[str, typer.Option("--method", help="The edit whose strength is varied.")] = "gated_clamp",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for dose.json and dose.html.")] = Path("runs/dose"),
    forget: Forget = None,
    retain: Retain = None,
    near: Near = None,
    spec: SpecFile = None,
    strengths: Annotated[
        list[float] | None, typer.Option("--strength", help="0 does nothing, 1 is the edit itself; repeatable.")
    ] = None,
    site: SiteName = "",
    dictionary: Dictionary = "",
    questions: Annotated[int, typer.Option(help="Questions per metric.", min=1)] = 60,
    seed: Seed = 0,
    device: Device = "",
    json: Json = False,
) -> None:
    """Strength of an edit against the five metrics on validation; the knee of the curve, scored on test.

    [bold]Example[/bold]   concept-forget dose --concept red --method gated_clamp --out runs/dose
    """
    own = own_data(forget, retain, near, spec)
    with quiet_stdout(json), progress_bar(quiet=json) as progress:
        from json import dumps

        from analysis import figures, figures_removal
        from app.dosing import STRENGTHS, dose_response
        from app.workbench import dictionary_for, find_concept, find_method, find_site, open_model, rank_features
        from concept_forget.concepts import ForgetRequest
        from concept_forget.provenance import write_atomic

        base = find_method(method)[0]
        opened = open_model(model, device)
        found = find_concept(opened, concept, own, None, seed)
        place = find_site(opened, site)
        examples = [] if own is None else [e for part in found.train for e in part]
        features = dictionary_for(opened, place, examples, dictionary, progress=progress)
        by = "sauce" if method == "sauce" else "contrast"
        ranked, _ = rank_features(opened, found, features, (by,), progress)
        edit = base.fit(opened, ForgetRequest(found, seed), ranked[by])
        result = dose_response(
            opened, found, edit, strengths or STRENGTHS, questions=questions, seed=seed, progress=progress
        )
        result["method"] = base.settings()
        write_atomic(out / "dose.json", dumps(result, indent=1) + "\n")
        figures.write_figures(out, {"dose": figures_removal.dose_curves(result)})
    if json:
        emit({**result, "out": str(out)})
    else:
        from app.tables.run import dose_table

        show(dose_table(result), f"\nEvery number: [bold]{out / 'dose.json'}[/bold]")
