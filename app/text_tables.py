"""The benchmarks of text methods as rich tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

from app.tables.base import short

RWKU = {
    "Forget FB": "FB",
    "Forget QA": "QA",
    "Forget AA": "AA",
    "Forget All": "All",
    "Neigh FB": "n.FB",
    "Neigh QA": "n.QA",
    "Neigh All": "n.All",
    "Neigh shares": "near",
    "Neigh town": "town",
    "Neigh far": "far",
    "MIA AUC loss": "MIA",
    "Skills": "Skills",
    "Gen": "Gen",
    "Rea": "Rea",
    "Tru": "Tru",
    "Fac": "Fac",
}
"""Columns of RWKU's main table: ours by what they are called there."""
METHODS = {
    "forget": "forget",
    "adversarial": "adv.",
    "audit": "audit",
    "neighbour": "neighb.",
    "utility": "utility",
    "mia": "MIA",
    "uds": "UDS",
    "uds_free": "UDS free",
    "probe": "probe",
    "relearn_10": "relearn 10",
    "relearn_50": "50",
}


PUBLISHED = {
    "exact memorisation": "memorised",
    "extraction strength": "extracted",
    "truth ratio": "ratio",
    "ROUGE-L recall": "ROUGE-L",
}
"""Short names of what is measured on published files."""


def rwku_table(result: Mapping[str, Any]) -> Table:
    """RWKU's main table: one row per model and method, means over subjects."""
    rows = result["rows"]
    table = _table(f"RWKU on {len(result['subjects'])} subjects: ROUGE-L recall, forget low, neighbours high")
    there = [name for name in RWKU if any(name in row for row in rows.values())]
    for column in ("model, method", *(RWKU[name] for name in there), *(["FM", "RM"] if _passages(rows) else [])):
        table.add_column(column, justify="left" if column == "model, method" else "right")
    for name, row in rows.items():
        cells = [short(row.get(column)) for column in there]
        cells += [f"{row[label]['value']:.1f}" for label in ("FM", "RM") if label in row]
        table.add_row(name, *cells)
    return table


def published_table(result: Mapping[str, Any]) -> Table:
    """One row per part of a published data set, and one more under the recipe."""
    parts = result["parts"]
    columns: dict[str, None] = dict.fromkeys(name for part in parts.values() for name in part["before"])
    table = _table(f"{result['format']}: {result['model']}")
    for column in ("part", "", "asked", *(PUBLISHED.get(name, name) for name in columns)):
        table.add_column(column, justify="left" if column in ("part", "") else "right")
    for name, part in parts.items():
        for when in ("before", "after"):
            if when in part:
                found = part[when]
                asked = max(value["n"] for value in found.values())
                cells = (short(found.get(column)) for column in columns)
                table.add_row(name, "bare" if when == "before" else "edited", str(asked), *cells)
    return table


def methods_table(result: Mapping[str, Any]) -> Table:
    """One row per method, pooled over seeds."""
    table = _table(f"{len(result['rows'])} methods on {', '.join(result['people'])} in {result['model']}")
    for column in ("method", "access", *METHODS.values()):
        table.add_column(column, justify="right" if column in METHODS.values() else "left")
    for name, row in result["rows"].items():
        table.add_row(name, row["access"], *(_number(row.get(column), column) for column in METHODS))
    return table


def tasks_table(matrix: Mapping[str, Any]) -> Table:
    """The forget ratio of every task after random labels on every task."""
    tasks = list(matrix["tasks"])
    table = _table("Forget ratio per task (columns) after random labels on a task (rows); 1 is forgotten")
    for column in ("forgotten", *tasks, "gap", "probe before", "probe after"):
        table.add_column(column, justify="left" if column == "forgotten" else "right")
    for name, row in matrix["rows"].items():
        ratios = ["-" if row["ratio"][task] is None else f"{row['ratio'][task]:.2f}" for task in tasks]
        probes = [f"{p['value']:.2f}" if (p := row["probe"][when]) else "-" for when in ("before", "after")]
        table.add_row(name, *ratios, f"{row['gap']['value']:+.2f}", *probes)
    return table


def self_test_table(result: Mapping[str, Any]) -> Table:
    """How well every metric tells the two models apart, over people."""
    table = _table(f"Knows or never knew: {len(result['people'])} people in {result['model']} and {result['twin']}")
    for column in ("metric", "AUC", "95%", "TPR at 1%", "mean, knows", "mean, never"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for name, row in result["metrics"].items():
        auc, tpr = row["auc"], row["tpr"]
        ends = f"{auc['low']:.3f} to {auc['high']:.3f}"
        table.add_row(
            name, f"{auc['value']:.3f}", ends, f"{tpr['value']:.2f}", f"{row['knows']:.3f}", f"{row['never']:.3f}"
        )
    return table


def _number(value: Mapping[str, Any] | None, column: str) -> str:
    if not value or value.get("value") is None:
        return "-"
    return f"{value['value']:.2f}" if column in ("mia", "uds", "uds_free", "probe") else short(value)


def _passages(rows: Mapping[str, Mapping[str, Any]]) -> bool:
    return any("FM" in row for row in rows.values())


def _table(title: str) -> Table:
    return Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
