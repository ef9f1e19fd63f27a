"""An audit as rich tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from app.tables.base import ends, short, table_of


def audit_tables(audit: Mapping[str, Any]) -> list[Table | Text]:
    """Every attack, the worst case by access class, what probes read, and the notes."""
    items = audit["items"]
    found: list[Table | Text] = [_attacks(audit)]
    if any(entry["figures"].get("edited", {}).get("auroc") for entry in audit["attacks"].values()):
        found.append(_probes(audit))
    scored = f"{items['scorable']} of {items['n']} items are known to the untouched model and scored."
    found.append(Text("\n".join([scored, *audit["notes"]]), style="dim"))
    return found


def _attacks(audit: Mapping[str, Any]) -> Table:
    table = table_of(f"What comes back of {audit['concept']} in {audit['model']} ({audit['budget']['name']} budget)")
    table.add_column("attack")
    table.add_column("tries", justify="right", style="dim")
    table.add_column("edited", justify="right", style="bold")
    table.add_column("95%", justify="right", style="dim")
    table.add_column("untouched", justify="right")
    table.add_column("never knew", justify="right")
    table.add_column("advantage", justify="right", style="bold")
    table.add_column("unknown, refused, unreadable", justify="right", style="dim")
    names = list(audit["attacks"])
    for name, entry in audit["attacks"].items():
        if entry["figures"].get("edited", {}).get("auroc"):
            continue
        last = name == names[-1]
        if entry["skipped"]:
            table.add_row(name, "-", "-", end_section=last)
            continue
        said = entry["statuses"]["edited"]
        lost = ", ".join(str(said.get(name, 0)) for name in ("unknown", "refusal", "invalid"))
        table.add_row(name, str(entry["tries"]), *_leaks(entry), lost, end_section=last)
    for access, entry in audit["worst"].items():
        table.add_row(Text(f"any: {access}", style="bold"), "", *_leaks(entry), "")
    return table


def _leaks(entry: Mapping[str, Any]) -> list[str]:
    cells = [short(entry["edited"]), ends(entry["edited"])]
    return [*cells, *(short(entry[key]) for key in ("untouched", "control", "advantage"))]


def _probes(audit: Mapping[str, Any]) -> Table:
    table = table_of("What probes trained after the edit read (AUROC)")
    table.add_column("site")
    table.add_column("of")
    table.add_column("probe", style="dim")
    for target in ("edited", "untouched", "never knew"):
        table.add_column(target, justify="right", style="bold" if target == "edited" else "")
    for entry in audit["attacks"].values():
        read = {target: figures.get("auroc") for target, figures in entry["figures"].items()}
        for site, parts in (read.get("edited") or {}).items():
            for part, probes in parts.items():
                for probe in probes:
                    values = [
                        ((read.get(target) or {}).get(site, {}).get(part) or {}).get(probe)
                        for target in ("edited", "untouched", "control")
                    ]
                    table.add_row(site, part, probe, *(short(value) for value in values))
    return table
