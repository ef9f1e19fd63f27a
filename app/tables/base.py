"""What all tables share: their look, and how a measured number is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table


def table_of(title: str) -> Table:
    """An empty table in the look of all."""
    return Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)


def short(value: Mapping[str, Any] | None) -> str:
    """98.2%"""
    return "-" if not value or value.get("value") is None else f"{100 * value['value']:.1f}%"


def ends(value: Mapping[str, Any] | None) -> str:
    """97 to 99"""
    return "" if not value or value.get("low") is None else f"{100 * value['low']:.0f} to {100 * value['high']:.0f}"


def full(value: Mapping[str, Any] | None) -> str:
    """98.2% (97.0 to 99.1)"""
    if not value or value.get("value") is None:
        return "-"
    return f"{short(value)} ({100 * value['low']:.1f} to {100 * value['high']:.1f})"


def signed(value: Mapping[str, Any] | None) -> str:
    """+12.1 (+9.8 to +14.0), in points."""
    if not value or value.get("value") is None:
        return ""
    return "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * value[key] for key in ("value", "low", "high")))


def duration(seconds: float) -> str:
    """1 h 5 min, 3 min 12 s, 4.2 s"""
    minutes, left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {left} s" if minutes else f"{seconds:.1f} s"
