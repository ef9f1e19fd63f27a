"""`concept-forget localise`: where in pictures concepts are, by every instrument, against the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.commands.shared import Device, Dictionary, Json, Model, Seed, SiteName, emit, progress_bar, quiet_stdout, show


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
        from app.localising import localise as work
        from app.localising import markdown, summary
        from app.workbench import dictionary_for, find_site, open_model
        from app.world_concepts import find
        from concept_forget.provenance import write_atomic
        from concept_forget.worlds import VOCABULARY

        names = [find(name) for name in concepts or VOCABULARY]
        opened = open_model(model, device)
        found = dictionary_for(opened, find_site(opened, site), given=dictionary, progress=progress)
        located = work(opened, names, found, pictures=pictures, seed=seed, progress=progress)
        result = {
            "model": model,
            "site": str(found.site),
            "seed": seed,
            "pictures": pictures,
            "summary": summary(located),
            "concepts": [one.to_json() for one in located],
        }
        write_atomic(out / "localisation.json", plain.dumps(result, allow_nan=False))
        write_atomic(out / "localisation.md", markdown(located) + "\n")
        maps = {
            f"localise_{one.concept}": figures.instrument_maps(
                {name: grid.values[0].view(opened.grid).tolist() for name, grid in one.grids.items()}
            )
            for one in located[:12]
        }
        figures.write_figures(out / "figures", maps)
    if json:
        emit({**result, "out": str(out)})
        return
    from app.tables import localisation_table

    show(localisation_table(result), f"\nEvery concept: [bold]{out / 'localisation.md'}[/bold]")
