"""`concept-forget sae train` and `sae eval`: dictionaries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.commands.shared import (
    Device,
    Dictionary,
    Forget,
    Json,
    Model,
    Retain,
    Seed,
    SiteName,
    emit,
    progress_bar,
    quiet_stdout,
    show,
)

app = typer.Typer(no_args_is_help=True, help="Sparse dictionaries: train one, or judge one.")


@app.callback()
def sae() -> None:
    """Sparse dictionaries: train one, or judge one."""


@app.command("train")
def train(
    model: Model = "tiny-llava",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the dictionary (SAELens files).")] = Path(
        "runs/sae"
    ),
    site: SiteName = "",
    forget: Forget = None,
    retain: Retain = None,
    pictures: Annotated[int, typer.Option(help="Pictures (twice as many texts) of the world to read.", min=1)] = 1500,
    architecture: Annotated[str, typer.Option(help="batchtopk, matryoshka or relu (SAUCE's).")] = "batchtopk",
    expansion: Annotated[int, typer.Option(help="Features per input dimension; SAUCE: 64.", min=1)] = 8,
    k: Annotated[int, typer.Option(help="Mean features per token (not for relu).", min=1)] = 16,
    steps: Annotated[int, typer.Option(min=1)] = 1000,
    batch: Annotated[int, typer.Option(min=1)] = 512,
    lr: Annotated[float | None, typer.Option(help="Default: by the width of the dictionary.")] = None,
    seed: Seed = 0,
    device: Device = "",
    json: Json = False,
) -> None:
    """Train a dictionary on the activations of a site. Harvesting resumes where it was interrupted.

    [bold]Example[/bold]   concept-forget sae train --model tiny-llava --site vision.3.resid --out runs/sae
    """
    with quiet_stdout(json), progress_bar(quiet=json) as progress:
        from app.dictionaries import examples_for, stage
        from app.workbench import find_site, open_model
        from saes import TrainSettings
        from saes.harvest import harvest
        from saes.train import train as work

        settings = TrainSettings(architecture, expansion, k, steps=steps, batch=batch, lr=lr, seed=seed)  # type: ignore[arg-type]
        opened = open_model(model, device)
        place = find_site(opened, site)
        examples = examples_for(opened, pictures, [path for path in (forget, retain) if path])
        store = harvest(opened, examples, place, out / "activations", progress=stage(progress, f"reading {place}"))
        found = work(store, settings, progress=stage(progress, "training the dictionary"))
        found.save(out)
    result = {"model": model, "site": str(place), "features": found.d_sae, "rows": len(store), "out": str(out)}
    if json:
        emit(result)
        return
    show(
        f"{found.d_sae} features of {place} from {len(store)} activations: [bold]{out}[/bold]. "
        f"Use it with --dictionary {out}."
    )


@app.command("eval")
def evaluate(
    model: Model = "tiny-llava",
    dictionary: Dictionary = "",
    site: SiteName = "",
    concept: Annotated[list[str] | None, typer.Option("--concept", "-c", help="Concepts to score; repeatable.")] = None,
    pictures: Annotated[int, typer.Option(help="Test pictures (texts) of the world.", min=10)] = 400,
    seed: Seed = 0,
    device: Device = "",
    json: Json = False,
) -> None:
    """Judge a dictionary: L0, explained variance, loss recovered, dead and dense features, AUROC for concepts.

    [bold]Example[/bold]   concept-forget sae eval --model tiny-llava --concept star --concept red
    """
    with quiet_stdout(json), progress_bar(quiet=json) as progress:
        from app.dictionaries import stage
        from app.workbench import dictionary_for, find_site, open_model
        from app.world_concepts import held_out_examples
        from saes.harvest import harvest
        from saes.quality import quality

        opened = open_model(model, device)
        place = find_site(opened, site)
        found = dictionary_for(opened, place, given=dictionary, progress=progress)
        examples, names = held_out_examples(opened.has_vision, pictures, concept or [], seed)
        store = harvest(opened, examples, found.site, progress=stage(progress, f"reading {found.site}"))
        labels = store.labels(names) if names else None
        short = [example for example in examples if example.kind == "short"][:200]
        judged = quality(found, store, labels, opened, examples=short, seed=seed)
    if json:
        emit({"model": model, "site": str(found.site), "features": found.d_sae, **judged.to_json()})
        return
    from app.tables.dictionary import quality_tables

    show(*quality_tables(judged.to_json(), str(found.site), found.d_sae))
