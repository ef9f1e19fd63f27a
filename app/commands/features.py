"""`concept-forget features`: which features of a dictionary stand for a concept."""

from __future__ import annotations

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


def features(
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
    """
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
    from app.tables import feature_table

    show(feature_table(rows, wanted.name, str(place), score, stable))
