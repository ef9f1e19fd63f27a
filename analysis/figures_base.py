"""What all figures share: colours, an empty figure, pages that open offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
"""Okabe and Ito (2008): told apart by people with any kind of colour vision, on white and on near-black."""
INK, FAINT, LINE = "#7b8490", "#9aa3ad", "rgba(128,136,146,0.28)"
"""Text and rules that read on both grounds; our own pages override them per scheme in CSS."""
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


AXIS = {"gridcolor": LINE, "zeroline": False, "linecolor": LINE, "automargin": True, "fixedrange": True}
"""What every axis has; those that `make_subplots` adds need to be told."""


def empty(height: int) -> go.Figure:
    """A figure without data, of this height in pixels and as wide as its page."""
    legend = {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom", "font": {"size": 12}}
    figure = go.Figure(layout={"template": "none", "height": height, "legend": legend, "xaxis": AXIS, "yaxis": AXIS})
    figure.update_layout(
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": FONT, "size": 13, "color": INK},
        hoverlabel={"font": {"family": FONT}},
        margin={"l": 8, "r": 16, "t": 8, "b": 8},
    )
    return figure


def site_label(site: str) -> str:
    """A site as an axis says it: `vision 3` for vision.3.resid, `projector` for projector.out, the rest in full."""
    return site.removesuffix(".resid").removesuffix(".out").replace(".", " ")


def measured(value: Any) -> tuple[float, float, float]:
    """(value, low, high) of a Measured in JSON or of a bare number; NaN for what was not measured."""
    nan = float("nan")
    if value is None:
        return nan, nan, nan
    if isinstance(value, Mapping):
        return tuple(nan if value.get(key) is None else float(value[key]) for key in ("value", "low", "high"))  # type: ignore[return-value]
    return float(value), nan, nan


def faded(colour: str, alpha: float) -> str:
    """A colour such as #0072B2 with this opacity."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def curve(
    figure: go.Figure,
    x: Sequence[str],
    points: Sequence[tuple[float, float, float]],
    name: str,
    line: Mapping[str, Any],
    marker: Mapping[str, Any],
    digits: str = ".3f",
    banded: bool = True,
) -> None:
    """Points (value, low, high) as a line with markers; their intervals as a faint band, and under the pointer."""
    if banded:
        edge = [high for *_, high in points] + [low for _, low, _ in points][::-1]
        around = {"x": [*x, *reversed(x)], "y": edge, "fill": "toself", "fillcolor": faded(line["color"], 0.13)}
        figure.add_scatter(**around, line={"width": 0}, mode="lines", hoverinfo="skip", showlegend=False)
    bounds = f"[%{{customdata[0]:{digits}}}, %{{customdata[1]:{digits}}}]"
    figure.add_scatter(
        x=list(x),
        y=[value for value, *_ in points],
        name=name,
        mode="lines+markers",
        line=dict(line),
        marker=dict(marker),
        customdata=[(low, high) for _, low, high in points],
        hovertemplate=f"%{{x}}: %{{y:{digits}}} {bounds}<extra>{name}</extra>",
    )


def fragment(figure: go.Figure, name: str) -> str:
    """The figure as a piece of HTML with element id `name`, for a page that brings `script()` once."""
    return figure.to_html(full_html=False, include_plotlyjs=False, div_id=name, config=_CONFIG)


def script() -> str:
    """plotly.js itself, to be inlined once in a page."""
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def write_figures(folder: Path, figures: Mapping[str, go.Figure]) -> list[Path]:
    """One page per figure, and plotly.min.js once beside them: they open offline."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plotly.min.js").write_text(script(), encoding="utf-8")
    paths = []
    for name, figure in figures.items():
        page = _PAGE.replace("TITLE", name.replace("_", " ")).replace("BODY", fragment(figure, name))
        paths.append(folder / f"{name}.html")
        paths[-1].write_text(page, encoding="utf-8")
    return paths


SCHEME_CSS = """\
:root { color-scheme: light dark; --plot-ink: #4a5361; --plot-line: #e3e7ec; }
@media (prefers-color-scheme: dark) { :root { --plot-ink: #aeb7c2; --plot-line: #2c333d; } }
.js-plotly-plot [class$="tick"] text, .js-plotly-plot [class$="title"], .js-plotly-plot .legendtext,
.js-plotly-plot .cbaxis text, .js-plotly-plot .annotation-text { fill: var(--plot-ink) !important; }
.js-plotly-plot .gridlayer path { stroke: var(--plot-line) !important; }
"""
"""plotly draws SVG and does not follow the colour scheme; these rules do it for text and grid."""

_PAGE = f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>TITLE</title>
<script src="plotly.min.js"></script>
<style>{SCHEME_CSS}
body {{ margin: 24px; background: Canvas; font-family: {FONT}; }}</style></head><body>BODY</body></html>
"""
_CONFIG = {"displayModeBar": False, "responsive": True, "displaylogo": False}
