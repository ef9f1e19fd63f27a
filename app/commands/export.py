"""`concept-forget export`: a recipe as a checkpoint that stock code loads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.commands.shared import (
    Device,
    Forget,
    Json,
    Near,
    Retain,
    Seed,
    SpecFile,
    emit,
    own_data,
    progress_bar,
    quiet_stdout,
    show,
)


def export(
    recipe: Annotated[Path, typer.Argument(help="Folder of a recipe (a run directory).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the checkpoint.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Default: the model the recipe was made for.")] = "",
    exact_only: Annotated[bool, typer.Option("--exact-only", help="No distillation.")] = False,
    steps: Annotated[int, typer.Option(help="Steps of the distillation at most.", min=1)] = 300,
    rank: Annotated[int, typer.Option(help="Rank of the distilled LoRA.", min=1)] = 16,
    forget: Forget = None,
    retain: Retain = None,
    near: Near = None,
    spec: SpecFile = None,
    seed: Seed = 0,
    device: Device = "",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16; default: as saved.")] = "",
    json: Json = False,
) -> None:
    """Write a recipe into weights, exactly where there is an exact form, else distilled; reload, compare and badge it.

    [bold]Example[/bold]   concept-forget export runs/star --out exported/star
    """
    own = own_data(forget, retain, near, spec)
    with quiet_stdout(json), progress_bar(quiet=json) as progress:
        from app.exporting import export as work
        from app.recipes import concept_of, model_of
        from app.workbench import open_model
        from concept_forget.distil import Distil
        from concept_forget.recipe import Recipe

        loaded = Recipe.load(recipe)
        name = model_of([loaded], model)
        progress(f"loading {name}", 0, 1)
        opened = open_model(name, device, dtype)
        loaded.check(opened)
        concept = concept_of(loaded, opened, own, seed)
        settings = Distil(rank=rank, steps=steps, seed=seed)
        made = work(opened, loaded, out, progress, concept=concept, exact_only=exact_only, distilling=settings)
    if json:
        emit(made.to_json())
        return
    from app.tables.ship import export_lines

    show(*export_lines(made.to_json()))
