"""Still pictures of results for notebooks: kilobytes, no scripts, so a converted or committed notebook shows them.

The interactive ones are in `analysis.figures`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from saes.overlay import png, shade

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
"""Okabe and Ito (2008)."""
INK, LINE = "#7b8490", "rgba(128,136,146,.3)"
Point = tuple[float, float, float]
"""A value with its interval."""


@dataclass(frozen=True)
class Svg:
    """A drawing that a notebook shows."""

    text: str

    def _repr_svg_(self) -> str:
        return self.text


def heat_map(
    values: Float[Tensor, "rows columns"], rows: Sequence[str], columns: Sequence[str], title: str = ""
) -> Svg:
    """Blue above zero, orange below, in steps of opacity; the number of each cell is its tooltip. NaN stays empty."""
    most = float(values.nan_to_num(0).abs().max()) or 1.0
    wide = min(96.0, max(7.0, 640 / len(columns)))
    left, top, high = 8 + 6.6 * max(map(len, rows)), 26.0, 20.0
    step = max(1, math.ceil(13 / wide))
    longest = max(map(len, columns))
    flat = 6.0 * longest < wide
    parts = []
    for i, row in enumerate(rows):
        parts.append(_words(left - 6, top + high * (i + 0.68), row, "end"))
        for j, column in enumerate(columns):
            value = float(values[i, j])
            if math.isnan(value):
                continue
            colour, strength = BLUE if value > 0 else ORANGE, 0.06 + 0.94 * abs(value) / most
            box = f'x="{left + wide * j:.1f}" y="{top + high * i:.1f}" width="{wide - 1:.1f}" height="{high - 1:.1f}"'
            hover = f"<title>{escape(f'{row}, {column}: {value:.3g}')}</title>"
            parts.append(f'<rect {box} fill="{colour}" fill-opacity="{strength:.3f}">{hover}</rect>')
    bottom = top + high * len(rows)
    for j in range(0, len(columns), step):
        x = left + wide * (j + 0.5)
        name = columns[j].strip() or "␣"
        if flat:
            parts.append(_words(x, bottom + 14, name, "middle"))
        else:
            parts.append(_words(x, bottom + 10, name, "end", f"rotate(-55 {x:.1f} {bottom + 10:.1f})"))
    height = bottom + (22 if flat else 16 + 5.6 * longest)
    return _drawing(left + wide * len(columns) + 8, height, title, parts)


def curves(
    series: Mapping[str, Sequence[Point]], x: Sequence[str], title: str = "", chance: float | None = None
) -> Svg:
    """Lines with bands of their intervals over a shared axis of names, 0 to 1."""
    left, top, width, height = 44.0, 30.0, 86.0 * max(len(x) - 1, 1), 210.0
    across = [left + 20 + width * i / max(len(x) - 1, 1) for i in range(len(x))]

    def up(value: float) -> float:
        return top + height * (1 - min(max(value, 0.0), 1.0))

    parts = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<path d="M{left} {up(tick):.1f}H{left + width + 40}" stroke="{LINE}"/>')
        parts.append(_words(left - 6, up(tick) + 4, f"{tick:g}", "end"))
    if chance is not None:
        parts.append(f'<path d="M{left} {up(chance):.1f}H{left + width + 40}" stroke="{INK}" stroke-dasharray="4 4"/>')
    key = top + height + 52
    at = left
    for (name, points), colour in zip(series.items(), (BLUE, GREEN, PURPLE, ORANGE), strict=False):
        band = [(a, up(high)) for a, (_, _, high) in zip(across, points, strict=True)]
        band += [(a, up(low)) for a, (_, low, _) in reversed(list(zip(across, points, strict=True)))]
        line = [(a, up(value)) for a, (value, _, _) in zip(across, points, strict=True)]
        parts.append(f'<polygon points="{_points(band)}" fill="{colour}" fill-opacity=".15"/>')
        parts.append(f'<polyline points="{_points(line)}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5" fill="{colour}"/>' for a, b in line]
        parts.append(f'<rect x="{at}" y="{key - 8}" width="14" height="4" fill="{colour}"/>')
        parts.append(_words(at + 20, key - 2, name))
        at += 44 + 6.6 * len(name)
    parts += [_words(a, top + height + 22, name, "middle") for a, name in zip(across, x, strict=True)]
    return _drawing(max(left + width + 60, at), key + 8, title, parts)


def pictures(
    shown: Sequence[tuple[Image.Image, Float[Tensor, "rows columns"] | None, str]], title: str = "", across: int = 5
) -> Svg:
    """Pictures side by side with a caption each; a map leaves bright what has large values and darkens the rest."""
    side, gap, top = 132, 12, 26
    parts = []
    for i, (image, heat, caption) in enumerate(shown):
        x, y = 4 + (side + gap) * (i % across), top + (side + 30) * (i // across)
        box = f'x="{x}" y="{y}" width="{side}" height="{side}" preserveAspectRatio="none"'
        parts.append(f'<image {box} href="{png(image, 160)}"/>')
        if heat is not None:
            lifted = heat - heat.min()
            over = shade(lifted, float(lifted.max()))
            parts.append(f'<image {box} style="image-rendering:pixelated" href="{over}"/>')
        parts.append(_words(x + side / 2, y + side + 16, caption, "middle"))
    rows = math.ceil(len(shown) / across)
    return _drawing(8 + (side + gap) * min(across, len(shown)), top + (side + 30) * rows, title, parts)


def _drawing(width: float, height: float, title: str, parts: Sequence[str]) -> Svg:
    width = max(width, 8 + 7.6 * len(title))
    head = f'<text x="4" y="15" font-size="13" font-weight="600" fill="{INK}">{escape(title)}</text>' if title else ""
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    style = 'font-family="system-ui, Segoe UI, Roboto, Helvetica, Arial, sans-serif" font-size="11"'
    return Svg(f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>{head}{"".join(parts)}</svg>')


def _words(x: float, y: float, text: str, anchor: str = "start", turn: str = "") -> str:
    turned = f' transform="{turn}"' if turn else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{INK}" text-anchor="{anchor}"{turned}>{escape(text)}</text>'


def _points(line: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in line)
