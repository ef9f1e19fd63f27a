"""`concept-forget apply`: many questions under recipes, in batches, resumable."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.commands.shared import Device, Json, Resume, emit, progress_bar, quiet_stdout, show


def apply(
    recipes: Annotated[list[Path], typer.Argument(help="Recipe folders (run directories); several compose.")],
    images: Annotated[str, typer.Option("--images", help="Folder, glob or parquet of pictures.")] = "",
    prompts: Annotated[
        Path | None,
        typer.Option("--prompts", help="A prompt a line; or jsonl, csv, parquet: prompt, image, id."),
    ] = None,
    prompt: Annotated[list[str] | None, typer.Option("--prompt", help="A prompt; repeatable.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for answers.parquet and summary.json.")] = Path(
        "runs/applied"
    ),
    model: Annotated[str, typer.Option("--model", "-m", help="Default: the model the recipes were made for.")] = "",
    revision: Annotated[str, typer.Option(help="Revision of a hub model.")] = "",
    device: Device = "",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16; default: as saved.")] = "",
    quantize: Annotated[str, typer.Option(help="int8 or int4 (needs bitsandbytes).")] = "",
    batch_size: Annotated[int, typer.Option(help="0: what fits.", min=0)] = 0,
    max_new_tokens: Annotated[int, typer.Option(help="Length of an answer at most.", min=1)] = 64,
    bare: Annotated[bool, typer.Option(help="Ask without the recipes too.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print batches, memory and time; ask nothing.")] = False,
    resume: Resume = False,
    json: Json = False,
) -> None:
    """Ask a model many things bare and under recipes; killed at any time, it goes on with --resume.

    [bold]Example[/bold]   concept-forget apply runs/star --images photos/ --prompts questions.txt --out runs/answers
    """
    with quiet_stdout(json), progress_bar(quiet=json) as progress:
        from app.applying import Settings
        from app.applying import apply as work
        from app.items import read_items
        from app.recipes import model_of
        from concept_forget.recipe import Recipe

        loaded = [Recipe.load(recipe) for recipe in recipes]
        items = read_items(images, prompts or "", prompt or [])
        name = model_of(loaded, model)
        progress(f"loading {name}", 0, 1)
        if dry_run:
            from app.planning import plan
            from app.recipes import on_meta
            from concept_forget.loading import number_type

            empty = on_meta(name, revision)
            place = device or ("cuda" if cuda() else "cpu")
            kind = number_type(dtype, empty.dtype)
            about = plan(empty, items, max_new_tokens, batch_size, 1 + bare, place, kind).to_json()
        else:
            from app.workbench import open_model

            opened = open_model(name, device, dtype, revision, quantize)
            settings = Settings(max_new_tokens, batch_size, bare)
            about = work(opened, loaded, items, out, settings, resume=resume, progress=progress).to_json()
    if json:
        emit(about)
        return
    from app.tables.ship import applied_lines, plan_table

    show(*([plan_table(about)] if dry_run else applied_lines(about)))


def cuda() -> bool:
    """Whether there is a GPU to plan for."""
    import torch

    return torch.cuda.is_available()
