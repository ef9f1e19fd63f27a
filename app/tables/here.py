"""What there is to choose from, as tables: concepts and models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from app.tables.base import table_of


def concept_table(families: Mapping[str, Sequence[tuple[str, Sequence[str]]]]) -> Table:
    """Concepts by family, with aliases."""
    table = table_of("Concepts of the worlds")
    for column in ("family", "concept", "also"):
        table.add_column(column, style="dim" if column == "also" else "")
    for family, words in families.items():
        for index, (name, aliases) in enumerate(words):
            last = index == len(words) - 1
            table.add_row("" if index else family, name, ", ".join(aliases), end_section=last)
    return table


def model_table(models: Sequence[Mapping[str, Any]]) -> Table:
    """The zoo: what is here, its size, its dictionaries."""
    table = table_of("Models that come along")
    for column in ("name", "weights", "dictionaries"):
        table.add_column(column)
    for model in models:
        size = (
            f"{model['bytes'] / 2**20:.1f} MiB"
            if model["here"]
            else f"not here: concept-forget zoo train {model['name']}"
        )
        table.add_row(model["name"], size, ", ".join(model["dictionaries"]) or "trained when needed")
    return table
