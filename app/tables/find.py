"""What the instruments that find a concept say, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from app.tables.base import table_of


def probe_table(rows: Sequence[Mapping[str, Any]], concepts: int) -> Table:
    """Probes per site: mean over concepts, with the floors beside it."""
    table = table_of(f"AUROC of linear probes on test pictures, mean over {concepts} concepts (95% interval)")
    several = len({row["kind"] for row in rows}) > 1
    parts = {"mass_mean": "means", "selectivity": "select.", "shuffled": "shuffled", "random": "random", "ece": "ECE"}
    shown = {key: name for key, name in parts.items() if any((row[key] or {}).get("value") is not None for row in rows)}
    for column in ("site", *(["tokens"] if several else []), "AUROC", *shown.values()):
        table.add_column(column, justify="left" if column in ("site", "tokens") else "right", no_wrap=True)
    for row in rows:
        auroc = row["auroc"]
        cells = ["-" if row[key].get("value") is None else f"{row[key]['value']:.3f}" for key in shown]
        interval = f"{auroc['value']:.3f} ({auroc['low']:.3f}-{auroc['high']:.3f})"
        table.add_row(row["site"], *([row["kind"]] if several else []), interval, *cells)
    return table


def probe_notes(result: Mapping[str, Any], best: Sequence[Any], enough: float = 0.95) -> list[str]:
    """Which concepts fall short at the best site, what a non-linear probe reaches there, what the model says, time."""
    weak = sorted((cell for cell in best if cell.auroc.value < enough), key=lambda cell: cell.auroc.value)
    named = result["named"]
    notes = [f"{len(best) - len(weak)} of {len(best)} above {enough:g} at {result['best']}."]
    if weak:
        said = {name: f", named {found['right']:.0%} of {found['n']}" for name, found in named.items()}
        notes.append("Below: " + "; ".join(f"{c.concept} {c.auroc}{said.get(c.concept, '')}" for c in weak) + ".")
    if named:
        least = min(named, key=lambda name: named[name]["right"])
        notes.append(
            f"The model names {sum(found['right'] for found in named.values()) / len(named):.1%} of what is shown, "
            f"{least} least ({named[least]['right']:.0%})."
        )
    if result["mlp"]:
        notes.append(f"An MLP there reaches {result['mlp']['auroc']['value']:.3f} on average.")
    time = result["seconds"]
    notes.append(
        f"{result['pictures']} pictures read in {time['reading']:.0f} s, {len(result['cells'])} cells probed in "
        f"{time['probing']:.0f} s ({time['processor']:.0f} s of processor time in all)."
    )
    return notes


def head_table(result: Mapping[str, Any]) -> Table:
    """The heads the answers lose most without, and what the strongest of them look at."""
    table = table_of(
        f"Heads of {result['model']}: log p(answer) lost without each, mean over {result['prompts']} prompts"
    )
    for column in ("head", "nats lost", "95% interval", "looks at picture", "strongest keys"):
        table.add_column(column, justify="left" if column in ("head", "strongest keys") else "right")
    for head in result["top"]:
        seen = result["looks"].get(f"{head['layer']}.{head['head']}")
        share = f"{seen['shares']['image']:.0%}" if seen else ""
        keys = ", ".join(key.strip() or "␣" for key in seen["keys"]) if seen else ""
        bounds = "" if head["low"] is None else f"{head['low']:.2f} to {head['high']:.2f}"
        table.add_row(f"{head['layer']}.{head['head']}", f"{head['effect']:.3f}", bounds, share, Text(keys))
    return table


def localisation_table(result: Mapping[str, Any]) -> Table:
    """How well each instrument hits the true masks, and what an edit at its place does, mean over concepts."""
    count = len(result["concepts"])
    table = table_of(f"Where {count} concept{'s are' if count > 1 else ' is'} at {result['site']}: maps against masks")
    for column in ("instrument", "AUROC", "IoU", "there", "random", "mask", "gap"):
        table.add_column(column, justify="left" if column == "instrument" else "right", no_wrap=True)
    for name, row in result["summary"].items():
        cells = []
        for key in ("auroc", "iou", "located", "random", "truth", "gap"):
            value = row.get(key)
            wide = key in ("auroc", "gap") and value and value["low"] is not None
            cells.append(
                "-" if not value or value["value"] is None
                else f"{value['value']:.2f} ({value['low']:.2f}-{value['high']:.2f})" if wide
                else f"{value['value']:.2f}"
            )  # fmt: skip
        table.add_row(name, *cells)
    return table
