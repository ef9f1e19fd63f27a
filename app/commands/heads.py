"""`concept-forget heads`: which attention heads an answer needs, and where they look."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from app.commands.shared import Concept, Device, Json, Model, Seed, emit, progress_bar, quiet_stdout, show


def heads(
    model: Model = "tiny-llava",
    concept: Concept = "",
    cases: Annotated[Path | None, typer.Option("--cases", help="File of prompts, .json or .jsonl.")] = None,
    prompts: Annotated[
        int | None,
        typer.Option(help="Pictures of the concept (default 8), or the first of --cases (default all).", min=1),
    ] = None,
    ablation: Annotated[str, typer.Option(help="What takes a head's place: zero or mean.")] = "zero",
    top: Annotated[int, typer.Option(help="How many heads to show.", min=1)] = 8,
    out: Annotated[Path, typer.Option("--out", "-o", help="Run directory for heads.json and figures.")] = Path(
        "runs/latest"
    ),
    seed: Seed = 0,
    device: Device = "",
    json: Json = False,
) -> None:
    """Take out one attention head at a time: what the answer loses, and what the strongest heads look at.

    [bold]Example[/bold]   concept-forget heads --model tiny-llava --concept red --prompts 8
    """
    if bool(concept) == bool(cases):
        raise ValueError("Say what to ask: one of --concept NAME or --cases FILE.")
    with quiet_stdout(json), progress_bar(quiet=json) as progress:
        import json as plain

        from analysis import figures
        from analysis.heads import Heads
        from app.dictionaries import stage
        from app.tracing_cases import concept_cases, picture_uri, read_cases, text_cases
        from app.workbench import open_model
        from concept_forget.provenance import write_atomic

        asked = open_model(model, device)
        if cases:
            given = read_cases(cases)[:prompts]
        elif asked.has_vision:
            given = concept_cases(concept, prompts or 8, seed, "minimal-pair")
        else:
            given = text_cases(asked, concept, prompts or 8, seed, "noise")
        opened = Heads(asked)
        steps = stage(progress, "taking heads out")
        found = opened.effects(given, ablation, progress=steps)  # type: ignore[arg-type]
        best = found.top(top)
        looks = {f"{head.layer}.{head.head}": look(opened, given[0], head) for head in best[:4]}
        result = {
            "model": model,
            "concept": concept,
            "prompts": len(given),
            **found.to_json(),
            "top": [{k: None if v != v else v for k, v in head._asdict().items()} for head in best],
            "looks": {name: {part: seen[part] for part in ("shares", "keys")} for name, seen in looks.items()},
        }
        write_atomic(out / "heads.json", plain.dumps(result, allow_nan=False))
        drawn = {"head_effects": figures.head_effects(result)}
        if maps := {f"head {name}": seen["map"] for name, seen in looks.items() if seen["map"]}:
            drawn["head_maps"] = figures.instrument_maps(maps, picture_uri(given[0].image))
        figures.write_figures(out / "figures", drawn)
    if json:
        emit(result | {"out": str(out)})
        return
    from app.tables.find import head_table

    show(head_table(result), f"\nEvery head: [bold]{out / 'heads.json'}[/bold]")


def look(opened: Any, case: Any, head: Any) -> dict[str, Any]:
    """Where one head looks from the last position of a case: shares, its three strongest keys, and the map if any."""
    kind = opened.attention[head.layer]
    seen = opened.patterns(case.prompt, case.image, attention=kind, layers=[head.layer], queries="last")
    picture = None if seen.picture is None else seen.on_picture()[0, head.head, 0]
    weights = seen.values[0, head.head, -1]
    return {
        "shares": {name: round(float(share[0, head.head]), 4) for name, share in seen.shares().items()},
        "keys": [seen.keys[i] for i in weights.topk(min(3, len(weights))).indices.tolist()],
        "map": None if picture is None else [[round(v, 5) for v in row] for row in picture.tolist()],
    }
