"""Benchmarks over many concepts, as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from app.tables.base import full, short, signed, table_of


def bench_table(summary: Mapping[str, Any]) -> Table:
    """Means over concepts per method, with intervals for the harmonic mean and the difference to SAUCE mode."""
    table = table_of(f"{summary['concepts']} concepts on {summary['model']}: mean over concepts, 95% intervals")
    for column in ("method", "UAd", "UAg", "IRA", "CRA", "COA", "HM", "HM - sauce"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for method, row in summary["methods"].items():
        overall = row["all"]
        cells = [short(overall[name]) for name in ("UAd", "UAg", "IRA", "CRA", "COA")]
        table.add_row(method, *cells, full(overall["HM"]), signed(overall.get("to_sauce")))
    return table


def removal_table(result: Mapping[str, Any]) -> Table:
    """Means over concepts per method: the five metrics, leakage, what probes still read, false fires, speed."""
    table = table_of(f"{result['scored']} of {result['concepts']} concepts on {result['model']}: mean over concepts")
    columns = ("UAd", "UAg", "IRA", "CRA", "COA", "leak", "AUROC activation", "AUROC residual", "false fires")
    for column in ("method", *columns, "ms/token"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for method, row in result["methods"].items():
        speed = "-" if not row.get("ms") or row["ms"]["value"] is None else f"{row['ms']['value']:.1f}"
        table.add_row(method, *(short(row.get(name)) for name in columns), speed)
    return table


def many_table(result: Mapping[str, Any]) -> Table:
    """Means over the measured concepts per method and number removed at once, and milliseconds per token."""
    among = f"{len(result['measured'])} concepts on {result['model']}, removed among others"
    table = table_of(f"{among}: mean over concepts")
    columns = ("UAd", "UAg", "IRA", "CRA", "COA")
    for column in ("method", "at once", *columns, "pairs in conflict", "ms/token", "one by one", "bare"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for method in result["methods"]:
        for count, entry in result["many"].items():
            row = entry["methods"][method]
            ms = [f"{row['ms'][name]:.1f}" for name in ("together", "one by one", "bare")]
            cells = [short(row["metrics"][name]) for name in columns]
            table.add_row(method, count, *cells, str(row["pairs in conflict"]), *ms)
    return table
