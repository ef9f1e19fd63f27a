"""`concept-forget recipe show|check`: what is in a recipe, and whether it fits a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.commands.shared import Device, Json, emit, progress_bar, quiet_stdout, show

app = typer.Typer(no_args_is_help=True, help="Recipes: what is in one, and whether it fits a model.")
Folder = Annotated[Path, typer.Argument(help="Folder with recipe.yaml and recipe.safetensors (a run directory).")]


@app.callback()
def recipe() -> None:
    """Recipes: what is in one, and whether it fits a model."""


@app.command("show")
def show_recipe(
    recipe: Folder,
    model: Annotated[str, typer.Option("--model", "-m", help="Also check it against this model.")] = "",
    device: Device = "",
    json: Json = False,
) -> None:
    """What a recipe does, for which model, and with what it was made.

    [bold]Example[/bold]   concept-forget recipe show runs/star
    """
    with quiet_stdout(json), progress_bar(quiet=json) as progress:
        from app.recipes import described
        from concept_forget.recipe import Recipe

        loaded = Recipe.load(recipe)
        if model:
            from app.workbench import open_model

            progress(f"loading {model}", 0, 1)
            loaded.check(open_model(model, device))
        about = described(loaded, recipe)
    if json:
        emit(about)
        return
    from app.tables.ship import recipe_tables

    show(*recipe_tables(about))


@app.command("check")
def check(
    recipe: Folder,
    model: Annotated[str, typer.Option("--model", "-m", help="The model; default: the one it was made for.")] = "",
    device: Device = "",
    json: Json = False,
) -> None:
    """Whether a recipe is whole and fits the model, by config, revision, weights and effect; exit 2 with the reason.

    [bold]Example[/bold]   concept-forget recipe check runs/star --model tiny-llava
    """
    with quiet_stdout(json), progress_bar(quiet=json) as progress:
        from app.recipes import checked
        from app.workbench import open_model
        from concept_forget.recipe import Recipe

        loaded = Recipe.load(recipe)
        name = model or loaded.model
        progress(f"loading {name}", 0, 1)
        found = checked(loaded, open_model(name, device))
    if json:
        emit({"recipe": str(recipe), "model": name, "fits": True, "hooks": found})
        return
    for stat in found:
        show(f"{stat['edit']} at {stat['site']}: let in at {stat['tokens']} positions of a noise picture")
    show(f"The recipe for [bold]{loaded.concept}[/bold] is whole and fits {name}.")
