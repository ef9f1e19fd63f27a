"""`concept-forget localise`: where in pictures concepts are, by every instrument, against the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.commands.shared import (
    Device,
    Dictionary,
    Json,
    Model,
    Resume,
    Seed,
    SiteName,
    emit,
    progress_bar,
    quiet_stdout,
    show,
)


def localise(
    model: Model = "tiny-llava",
    concepts: Annotated[
        list[str] | None, typer.Option("--concept", "-c", help="Concepts of the picture world; default: all sixty.")
    ] = None,
    site: SiteName = "",
    dictionary: Dictionary = "",
    pictures: Annotated[int, typer.Option(help="Test pictures of each concept.", min=2)] = 16,
    out: Annotated[Path, typer.Option("--out", "-o", help="Run directory for localisation.json, .md, figures.")] = Path(
        "runs/latest"
    ),
    resume: Resume = False,
    seed: Seed = 0,
    device: Device = "",
    json: Json = False,
) -> None:
    """Locate concepts by features, probe, trace and lens; compare them with each other and with the true masks.

    [bold]Example[/bold]   concept-forget localise --model tiny-llava --concept star --concept red
    """
    with quiet_stdout(json), progress_bar(quiet=json) as progress:
        import json as plain

        from analysis import figures
        from app.localising import by_layer, layer_table, markdown, summary
        from app.localising import localise as work
        from app.run_folder import RunFolder
        from app.workbench import dictionary_for, find_site, open_model
        from app.world_concepts import find
        from concept_forget.worlds import VOCABULARY

        names = [find(name) for name in concepts or VOCABULARY]
        opened = open_model(model, device)
        if not opened.has_vision:
            raise ValueError(f"{model} reads no pictures, so there is no place in them to find; see `trace` for words.")
        found = dictionary_for(opened, find_site(opened, site), given=dictionary, progress=progress)
        request = {"model": model, "site": str(found.site), "seed": seed, "pictures": pictures}
        folder = RunFolder(out, {**request, "dictionary": dictionary}, resume)
        folder.log(f"localise {len(names)} concepts: {request}")
        options = {"pictures": pictures, "seed": seed, "step": folder.step, "progress": progress}
        located = work(opened, names, found, **options)
        examples = {one["concept"]: one.pop("example") for one in located}
        layers = by_layer(located)
        result = {**request, "summary": summary(located), "layers": layers, "concepts": located}
        folder.write("localisation.json", plain.dumps(result, allow_nan=False))
        folder.write("localisation.md", f"{markdown(located)}\n\n{layer_table(layers)}\n")
        maps = {
            f"localise_{name}": figures.instrument_maps(shown["maps"], shown["picture"])
            for name, shown in list(examples.items())[:12]
        }
        figures.write_figures(out / "figures", {"localise_layers": figures.instrument_layers(layers), **maps})
        folder.finish()
    if json:
        emit({**result, "out": str(out)})
        return
    from app.tables.find import localisation_table

    show(localisation_table(result), f"\nEvery concept: [bold]{out / 'localisation.md'}[/bold]")
