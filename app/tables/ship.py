"""Recipes, batch jobs and exports, as tables and lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from app.tables.base import duration, short, table_of


def recipe_tables(about: Mapping[str, Any]) -> list[Any]:
    """What is in a recipe."""
    top = table_of(f"Recipe: {about['concept']} out of {about['model']}")
    top.add_column("")
    top.add_column("")
    pinned = f"{about['pinned']} sampled tensors" if about["pinned"] else "not pinned (made by an old version)"
    made = ", ".join(f"{name} {value}" for name, value in about["settings"].items())
    rows = {"revision": about["revision"] or "none", "weights": pinned}
    rows |= {"digest": about["digest"][:16], "made with": made}
    for name, value in (*rows.items(), *((name, f"{size:,} bytes") for name, size in about["bytes"].items())):
        top.add_row(name, str(value))
    table = table_of("Edits")
    for column in ("kind", "site", "settings", "gate"):
        table.add_column(column)
    for edit in about["edits"]:
        cells = (edit["kind"], edit["site"] or "everywhere", edit["settings"], edit["gate"] or "none")
        table.add_row(*(_listed(cell) if isinstance(cell, dict) else cell for cell in cells))
    told = [edit["gives_away"] for edit in about["edits"] if edit["gives_away"]]
    warning = f"This recipe holds {', '.join(told)}, in plain text: keep it as you would keep the forget set."
    return [top, table, *([Text(warning, style="yellow")] if told else [])]


def plan_table(about: Mapping[str, Any]) -> Table:
    """What a batch job will need."""
    table = table_of("Plan (nothing was asked)")
    table.add_column("")
    table.add_column("", justify="right")
    gib = 1 << 30
    memory = ("weights", "cache", "activations", "memory", "free")
    for name in ("items", "batches", "batch_size", "longest"):
        table.add_row(name.replace("_", " "), f"{about[name]:,}", end_section=name == "longest")
    for name in memory:
        table.add_row(f"{name} (GiB)", f"{about[name] / gib:.2f}", end_section=name == "free")
    table.add_row("fits", "yes" if about["fits"] else "NO: smaller --batch-size, --quantize, or --device auto")
    table.add_row("time, estimated", duration(about["seconds"]))
    return table


def applied_lines(about: Mapping[str, Any]) -> list[str]:
    """What a batch job did."""
    lines = [f"Asked {about['items']:,} items in {duration(about['seconds'])} ({about['rate']:.2f} a second)."]
    if about["resumed"]:
        lines.append(f"{about['resumed']} batches were taken over from before.")
    lines.append(f"The recipes changed {about['changed']:,} answers.")
    if about["failed"]:
        lines.append(f"[yellow]{about['failed']:,} items could not be asked; column error says why.[/yellow]")
    return [*lines, f"Answers: [bold]{about['folder']}/answers.parquet[/bold]"]


def export_lines(about: Mapping[str, Any]) -> list[str]:
    """What became of a recipe."""
    colour = {"exact": "green", "approximate": "yellow", "hook only": "red"}[about["badge"]]
    lines = [f"Badge: [bold {colour}]{about['badge']}[/bold {colour}]"]
    if about["error"] is not None:
        lines.append(f"Largest logit difference from the hooked model {about['error']:.3g}, KL {about['kl']:.3g} nats.")
    if about["reason"]:
        lines.append(about["reason"])
    for name, row in about["numbers"].get("metrics", {}).items():
        values = (f"{key} {short(row[key])}" for key in ("untouched", "hooked", "exported"))
        lines.append(f"  {name}: {', '.join(values)}")
    return [*lines, f"Folder: [bold]{about['folder']}[/bold] (README.md, export.json)"]


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_brief(value)}" for name, value in values.items())


def _brief(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
