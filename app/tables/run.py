"""What a removal did to the five metrics, as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from app.tables.base import ends, short, table_of

METRICS = {
    "UAd": "says no when asked about it",
    "UAg": "leaves it out of captions",
    "IRA": "keeps the rest of its family",
    "CRA": "keeps other families",
    "COA": "keeps the rest of its pictures",
    "HM": "harmonic mean of the five",
}
OF_TEXTS = METRICS | {"UAg": "leaves the name out", "COA": "keeps others beside it"}
CONTROLS = {"prompt": "asked not to", "random_features": "random", "random_weights": "random weights"}


def metric_table(results: Mapping[str, Any]) -> Table:
    """The five metrics before and after with intervals, and the controls. Higher is better everywhere."""
    table = table_of(f"{results['concept']} taken out of {results['model']} with {results['method']}")
    table.add_column("")
    table.add_column("higher is better", style="dim")
    table.add_column("before", justify="right")
    table.add_column("after", justify="right", style="bold")
    table.add_column("95%", justify="right", style="dim")
    controls = [name for name in CONTROLS if name in results["controls"]]
    for name in controls:
        table.add_column(CONTROLS[name], justify="right", style="dim")
    meanings = OF_TEXTS if results.get("provenance", {}).get("of") == "texts" else METRICS
    for name, meaning in meanings.items():
        change = results["metrics"].get(name)
        if change:
            others = [short((results["controls"][control].get(name) or {}).get("after")) for control in controls]
            cells = short(change["before"]), short(change["after"]), ends(change["after"]), *others
            table.add_row(name, meaning, *cells, end_section=name == "COA")
    return table


def controls_note(results: Mapping[str, Any]) -> Text:
    """One line on what the probes found, and what that means."""
    probes = [probe for probe in results["probes"] if probe.get("after_retrained")]
    if not probes:
        return Text("")
    last = probes[-1]
    values = [f"{100 * last[key]['value']:.0f}%" for key in ("before", "after_frozen", "after_retrained")]
    return Text(
        f"Probe at {last['site']}: {values[0]} before, {values[1]} frozen, {values[2]} retrained after the edit "
        f'(chance {100 * last["chance"]:.0f}%). "After" means no longer accessible under these questions and probes.',
        style="dim",
    )


def dose_table(result: Mapping[str, Any]) -> Table:
    """The metrics at every strength on validation, and the chosen strength on test."""
    table = table_of(f"{result['concept']} in {result['model']}: strength of {result['method']['method']}, validation")
    for column in ("strength", *METRICS):
        table.add_column(column, justify="right")
    for row in result["validation"]:
        chosen = row["strength"] == result["strength"]
        last = row is result["validation"][-1]
        cells = [short(row[name]) for name in METRICS]
        table.add_row(f"{row['strength']:g}", *cells, style="bold" if chosen else "", end_section=last)
    table.add_row("test", *(short(result["test"][name]["after"]) for name in METRICS), style="bold")
    return table
