"""`concept-forget features`: which features of a dictionary stand for a concept; `features show N`: one of them."""

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

app = typer.Typer()


@app.callback(invoke_without_command=True)
def features(
    context: typer.Context,
    model: Model = "tiny-llava",
    concept: Concept = "",
    forget: Forget = None,
    retain: Retain = None,
    near: Near = None,
    spec: SpecFile = None,
    site: SiteName = "",
    dictionary: Dictionary = "",
    score: Annotated[str, typer.Option(help="contrast, sauce, frequency or causal.")] = "contrast",
    top: Annotated[int, typer.Option(help="How many.", min=1)] = 16,
    feature: Annotated[int | None, typer.Option("--feature", help="Only this feature of the dictionary.")] = None,
    seed: Seed = 0,
    device: Device = "",
    json: Json = False,
) -> None:
    """Rank the features of a dictionary for a concept.

    [bold]Example[/bold]   concept-forget features --model tiny-llava --concept star --score causal --top 10

    [bold]One[/bold]       concept-forget features show 17
    """
    if context.invoked_subcommand:
        return
    scores = ("contrast", "sauce", "frequency", "causal")
    if score not in scores:
        raise typer.BadParameter(f"{score!r} is not a score; there are {', '.join(scores)}.", param_hint="--score")
    own = own_data(forget, retain, near, spec)
    with quiet_stdout(json), progress_bar(quiet=json) as progress:
        from app.dictionaries import feature_row, ranking_to_json
        from app.workbench import dictionary_for, find_concept, find_site, open_model, rank_features

        opened = open_model(model, device)
        wanted = find_concept(opened, concept, own, None, seed)
        place = find_site(opened, site)
        examples = [] if own is None else [example for part in wanted.train for example in part]
        found = dictionary_for(opened, place, examples, dictionary, progress=progress)
        if feature is not None:
            found.rows([feature])  # type: ignore[arg-type]
        ranked, stable = rank_features(opened, wanted, found, (score,), progress)
    rows = ranking_to_json(ranked[score])
    rows = rows[:top] if feature is None else [feature_row(rows, feature)]
    if json:
        emit(
            {
                "model": model,
                "concept": wanted.name,
                "site": str(place),
                "score": score,
                "stability": stable,
                "features": rows,
            }
        )
        return
    from app.tables.dictionary import feature_table

    show(feature_table(rows, wanted.name, str(place), score, stable))


@app.command("show")
def card(
    feature: Annotated[int, typer.Argument(help="Number of the feature.", min=0)],
    model: Model = "tiny-llava",
    site: SiteName = "",
    dictionary: Dictionary = "",
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder of pictures, or .txt / .jsonl; default: the picture world.")
    ] = None,
    pictures: Annotated[int, typer.Option(help="Pictures of the world to look at.", min=1)] = 400,
    top: Annotated[int, typer.Option(help="Pictures and texts shown.", min=1)] = 8,
    out: Annotated[Path, typer.Option("--out", "-o", help="Run directory for figures/feature_N.html.")] = Path(
        "runs/latest"
    ),
    seed: Seed = 0,
    device: Device = "",
    json: Json = False,
) -> None:
    """Show one feature: what it fires on, tells apart and makes the model say, and its neighbours.

    [bold]Example[/bold]   concept-forget features show 17 --model tiny-llava --out runs/star
    """
    with quiet_stdout(json), progress_bar(quiet=json) as progress:
        from app.dictionaries import examples_for, stage
        from app.workbench import dictionary_for, find_site, open_model
        from app.world_concepts import ask
        from concept_forget.provenance import write_atomic
        from concept_forget.worlds import sample
        from saes.card_page import page
        from saes.cards import read_cards

        opened = open_model(model, device)
        place = find_site(opened, site)
        found = dictionary_for(opened, place, given=dictionary, progress=progress)
        if feature >= found.d_sae:
            raise LookupError(f"There is no feature {feature}: {found.site} has features 0..{found.d_sae - 1}.")
        if data is None and opened.has_vision:
            examples = list(ask(sample("test", pictures, 10_000 * seed + 55), seed))
        else:
            examples = examples_for(opened, pictures, [data] if data else [])
        cards = read_cards(opened, found, examples, progress=stage(progress, f"reading {found.site}"))
        shown = cards.card(feature, top)
        path = write_atomic(out / "figures" / f"feature_{feature}.html", page([shown]))
    if json:
        emit({**shown.to_json(), "page": str(path)})
        return
    from app.tables.dictionary import card_table

    show(card_table(shown.to_json()), f"\nCard: [bold]{path}[/bold]")
