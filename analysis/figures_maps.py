"""Maps over patches, tokens and layers as plotly figures: instruments beside each other, traces, lenses, heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from analysis.figures_base import (
    AXIS,
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    VERMILION,
    curve,
    empty,
    faded,
    measured,
    site_label,
)


def instrument_maps(maps: Mapping[str, Sequence[Sequence[float]]], picture: str = "") -> go.Figure:
    """One patch map per instrument side by side, each on its own scale; `picture` (a data URI) comes first."""
    from plotly.subplots import make_subplots

    names = (["picture"] if picture else []) + list(maps)
    columns = min(len(names), 4)
    lines = -(-len(names) // columns)
    figure = make_subplots(
        rows=lines, cols=columns, subplot_titles=names, horizontal_spacing=0.02, vertical_spacing=0.16 / lines
    )
    figure.update_layout(empty(height=40 + 250 * lines).layout)
    figure.update_xaxes(AXIS).update_yaxes(AXIS)
    for number, name in enumerate(names):
        at: dict[str, Any] = {"row": number // columns + 1, "col": number % columns + 1}
        if name == "picture" and picture:
            _picture(figure, picture, at)
        else:
            hover = "row %{y}, column %{x}: %{z:.3g}<extra>" + name + "</extra>"
            style = {"colorscale": "Cividis", "showscale": False, "xgap": 1, "ygap": 1, "hovertemplate": hover}
            figure.add_heatmap(z=[list(row) for row in maps[name]], **at, **style)
            figure.update_yaxes(autorange="reversed", **at)
        axis = f"x{number + 1 if number else ''}"
        figure.update_yaxes(scaleanchor=axis, constrain="domain", visible=False, **at)
        figure.update_xaxes(visible=False, constrain="domain", **at)
    figure.update_annotations(font={"size": 13, "color": INK})
    figure.update_layout(margin={"t": 36})
    return figure


def instrument_layers(layers: Mapping[str, Mapping[str, Any]]) -> go.Figure:
    """How well each instrument hits the masks at every site that it reads: mean AUROC with its band, and chance."""
    figure = empty(height=400)
    sites = _sites(layers)
    labels = [site_label(site) for site in sites]
    styles = ((BLUE, "circle"), (ORANGE, "diamond"), (GREEN, "square"), (PURPLE, "triangle-up"), (VERMILION, "cross"))
    for (name, row), (colour, symbol) in zip(layers.items(), styles, strict=False):
        here = [(label, measured(row[site])) for label, site in zip(labels, sites, strict=True) if site in row]
        xs, points = [label for label, _ in here], [point for _, point in here]
        line, marker = {"color": colour, "width": 2.5}, {"symbol": symbol, "size": 9}
        curve(figure, xs, points, name, line, marker, banded=len(xs) > 1)
    chance = {"color": INK, "width": 1.2, "dash": "dash"}
    figure.add_scatter(x=labels, y=[0.5] * len(labels), name="chance", mode="lines", line=chance, hoverinfo="skip")
    figure.update_yaxes(range=[0, 1.02], title="AUROC of patches against the mask")
    figure.update_xaxes(
        showgrid=False,
        type="category",
        categoryorder="array",
        categoryarray=labels,
        tickangle=-35 if len(sites) > 6 else 0,
    )
    return figure


def _sites(layers: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Every site once, in the order of the instrument that reads most of them."""
    return list(dict.fromkeys(site for row in sorted(layers.values(), key=len, reverse=True) for site in row))


def trace_heat_map(trace: Mapping[str, Any], stream: str = "resid", picture: str = "") -> go.Figure:
    """Effect of each layer and token (patch) of a trace in JSON, blue-orange around 0, and the picture beside it."""
    from plotly.subplots import make_subplots

    values = trace["values"][list(trace["streams"]).index(stream)]
    columns = list(trace["positions"])
    wide, at = ([0.2, 0.8], 2) if picture else (None, 1)
    figure = make_subplots(rows=1, cols=at, column_widths=wide, horizontal_spacing=0.08)
    figure.update_layout(empty(height=150 + 36 * len(values)).layout)
    figure.update_xaxes(AXIS).update_yaxes(AXIS)
    most = max((abs(v) for row in values for v in row if v is not None), default=1.0) or 1.0
    figure.add_heatmap(
        z=values,
        x=list(range(len(columns))),
        y=list(range(len(values))),
        customdata=[columns] * len(values),
        hovertemplate="layer %{y}, %{customdata}: %{z:.3g}<extra></extra>",
        colorscale=[[0, ORANGE], [0.5, "rgba(128,136,146,0.12)"], [1, BLUE]],
        zmid=0,
        zmin=-most,
        zmax=most,
        xgap=1,
        ygap=1,
        colorbar={"thickness": 10, "outlinewidth": 0, "nticks": 5, "title": {"text": trace["metric"], "side": "top"}},
        row=1,
        col=at,
    )
    ticks, few = _ticks(columns), len(columns) <= 8
    figure.update_xaxes(
        tickvals=ticks,
        ticktext=[_word(columns[i], 24 if few else 14) for i in ticks],
        tickangle=0 if few else -60,
        showgrid=False,
        row=1,
        col=at,
    )
    figure.update_yaxes(title=f"{trace['tower']} layer, {stream}", dtick=1, showgrid=False, row=1, col=at)
    if picture:
        _picture(figure, picture, {"row": 1, "col": 1})
        figure.update_xaxes(visible=False, constrain="domain", row=1, col=1)
        figure.update_yaxes(visible=False, scaleanchor="x", constrain="domain", row=1, col=1)
    return figure


def _ticks(columns: Sequence[str], most: int = 40) -> list[int]:
    """Which columns are named: every word, and of the patches as many as there is room for."""
    patches = [i for i, name in enumerate(columns) if name.startswith(("patch ", "tile "))]
    words = [i for i in range(len(columns)) if i not in set(patches)]
    room = max(most - len(words), 4)
    step = max(1, -(-len(patches) // room))
    words = words[:: max(1, -(-len(words) // most))]
    return sorted([*words, *patches[::step]])


def _word(token: str, most: int = 14) -> str:
    """A token as an axis says it: no line breaks, no markup, not too long."""
    shown = token.replace("\n", "⏎").strip() or "␣"
    shown = shown.replace("<", "&lt;").replace(">", "&gt;")
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def _picture(figure: go.Figure, source: str, at: Mapping[str, Any]) -> None:
    """A picture that fills the unit square of a subplot, with points nobody sees so that the axes are drawn."""
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="markers", marker={"opacity": 0}, hoverinfo="skip", showlegend=False, **at
    )
    figure.add_layout_image(
        {"source": source, "x": 0, "y": 0, "sizex": 1, "sizey": 1, "yanchor": "bottom", "sizing": "contain"}, **at
    )
    figure.update_xaxes(range=[0, 1], **at)
    figure.update_yaxes(range=[0, 1], **at)


def head_effects(effects: Mapping[str, Any]) -> go.Figure:
    """What the answers lose without each head: layers x heads of `HeadEffects` in JSON, blue-orange around 0."""
    values = effects["values"]
    most = max((abs(v) for row in values for v in row if v is not None), default=1.0) or 1.0
    figure = empty(height=120 + 38 * len(values))
    bounds = [
        [(low, high) for low, high in zip(*rows, strict=True)]
        for rows in zip(effects["low"], effects["high"], strict=True)
    ]
    figure.add_heatmap(
        z=values,
        # Numbers only on strong colours: on faint ones no single ink reads in light and in dark.
        text=[["" if v is None or abs(v) < 0.25 * most else f"{v:.2f}" for v in row] for row in values],
        texttemplate="%{text}",
        customdata=bounds,
        hovertemplate="layer %{y}, head %{x}: %{z:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]<extra></extra>",
        colorscale=[[0, ORANGE], [0.5, "rgba(128,136,146,0.12)"], [1, BLUE]],
        zmid=0,
        zmin=-most,
        zmax=most,
        xgap=3,
        ygap=3,
        colorbar={"thickness": 10, "outlinewidth": 0, "nticks": 5, "title": {"text": "nats lost", "side": "top"}},
    )
    figure.update_xaxes(title="head", dtick=1, showgrid=False)
    figure.update_yaxes(title="layer", dtick=1, showgrid=False)
    return figure


def lens_grid(lens: Mapping[str, Any], positions: Sequence[int] = ()) -> go.Figure:
    """The likeliest word at every layer and position of a lens in JSON, shaded by its probability."""
    chosen = list(positions) or [i for i, of in enumerate(lens["picture"]) if not of] or [0]
    words = [[row[i][0] for i in chosen] for row in lens["words"]]
    chance = [[row[i][0] for i in chosen] for row in lens["probabilities"]]
    figure = empty(height=120 + 34 * len(words))
    figure.add_heatmap(
        z=chance,
        x=list(range(len(chosen))),
        y=list(range(len(words))),
        text=words,
        texttemplate="%{text}",
        hovertemplate="%{text}: %{z:.2f}<extra></extra>",
        colorscale=[[0, faded(BLUE, 0.05)], [1, faded(BLUE, 0.75)]],
        zmin=0,
        zmax=1,
        xgap=2,
        ygap=2,
        textfont={"size": 12},
        colorbar={"thickness": 10, "outlinewidth": 0, "tickformat": ".0%"},
    )
    names = [lens["positions"][i] for i in chosen]
    figure.update_xaxes(tickvals=list(range(len(names))), ticktext=names, tickangle=-45, showgrid=False)
    figure.update_yaxes(
        tickvals=list(range(len(words))), ticktext=[site_label(site) for site in lens["sites"]], showgrid=False
    )
    return figure
