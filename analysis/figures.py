"""Every result as a plotly figure, from plain JSON values: readable in light and dark, colour-blind safe."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from analysis.figures_base import (
    BLUE,
    FAINT,
    FONT,
    GREEN,
    INK,
    LINE,
    ORANGE,
    PURPLE,
    SCHEME_CSS,
    SKY,
    VERMILION,
    curve,
    empty,
    fragment,
    measured,
    script,
    site_label,
    write_figures,
)
from analysis.figures_maps import head_effects, instrument_layers, instrument_maps, lens_grid, trace_heat_map

__all__ = [
    "BLUE", "CONTROLS", "FAINT", "FONT", "GREEN", "INK", "LINE", "METRICS", "ORANGE", "PURPLE", "SCHEME_CSS", "SKY",
    "VERMILION", "feature_bars", "fragment", "head_effects", "instrument_layers", "instrument_maps", "lens_grid",
    "measured", "method_heat_map", "metric_dumbbell", "pareto", "pareto_front", "probe_curves", "probe_layers",
    "reads_texts", "script", "site_label", "trace_heat_map", "write_figures",
]  # fmt: skip

Results = Mapping[str, Any]
"""What results.json holds (schema concept-forget/results/1)."""

METRICS = {
    "UAd": "no longer says yes",
    "UAg": "captions without it",
    "IRA": "rest of its family",
    "CRA": "other families",
    "COA": "rest of its pictures",
}
OF_TEXTS = METRICS | {"UAg": "answers without the name", "COA": "others beside it"}
CONTROLS = {
    "prompt": ("asked not to mention it", ORANGE, "diamond-open"),
    "random_features": ("random features clamped", PURPLE, "x-thin-open"),
    "random_weights": ("random weights, equal norm", PURPLE, "x-thin-open"),
}


def reads_texts(results: Results) -> bool:
    """Whether a run was about texts; pictures otherwise."""
    return results.get("provenance", {}).get("of") == "texts"


def metric_dumbbell(results: Results) -> go.Figure:
    """The five metrics before and after with 95% intervals, and the controls beside them."""
    metrics = {name: results["metrics"][name] for name in METRICS if name in results["metrics"]}
    names = list(metrics)
    rows = [len(names) - 1 - index for index in range(len(names))]
    before = [measured(metrics[name]["before"]) for name in names]
    after = [measured(metrics[name]["after"]) for name in names]
    labels = OF_TEXTS if reads_texts(results) else METRICS
    figure = empty(height=96 + 62 * len(names))
    for row, (start, *_), (end, *_) in zip(rows, before, after, strict=True):
        ends = {"x": [start, end], "y": [row, row], "mode": "lines", "hoverinfo": "skip", "showlegend": False}
        figure.add_scatter(**ends, line={"color": LINE, "width": 3})
    figure.add_scatter(
        **_dots(before, rows, "before"),
        marker={"symbol": "circle-open", "size": 11, "color": FAINT, "line": {"width": 2}},
    )
    for name, (label, colour, symbol) in CONTROLS.items():
        control = (results.get("controls") or {}).get(name)
        if control:
            inner = control.get("metrics", control)
            points = [measured((inner.get(metric) or {}).get("after")) for metric in names]
            marker = {"symbol": symbol, "size": 9, "color": colour, "line": {"width": 2, "color": colour}}
            figure.add_scatter(**_dots(points, [row - 0.24 for row in rows], label, bars=False), marker=marker)
    figure.add_scatter(**_dots(after, rows, "after"), marker={"symbol": "circle", "size": 13, "color": BLUE})
    ticks = [f"<b>{name}</b><br><span style='font-size:11px'>{labels[name]}</span>" for name in names]
    figure.update_yaxes(tickvals=rows, ticktext=ticks, range=[-0.6, len(names) - 0.5], showgrid=False, zeroline=False)
    figure.update_xaxes(range=[-0.03, 1.03], tickformat=".0%", tickvals=[0, 0.25, 0.5, 0.75, 1])
    return figure


def probe_curves(results: Results) -> go.Figure:
    """Probe accuracy per site: before, frozen after, retrained after, with bands, and the chance line."""
    probes = results.get("probes") or []
    sites = [site_label(probe["site"]) for probe in probes]
    figure = empty(height=340)
    for key, label, colour, dash, symbol in (
        ("before", "before", FAINT, "solid", "circle-open"),
        ("after_frozen", "after, probe from before", ORANGE, "dot", "diamond"),
        ("after_retrained", "after, probe retrained", BLUE, "solid", "circle"),
    ):
        values = [measured(probe.get(key)) for probe in probes]
        if all(math.isnan(low) for _, low, _ in values):
            values = [(value, value, value) for value, *_ in values]
        line, marker = {"color": colour, "width": 2.5, "dash": dash}, {"symbol": symbol, "size": 8}
        curve(figure, sites, values, label, line, marker, ".0%")
    chance = [measured(probe.get("chance"))[0] for probe in probes]
    if chance:
        line = {"color": INK, "width": 1.2, "dash": "dash"}
        figure.add_scatter(x=sites, y=chance, name="chance", mode="lines", line=line, hoverinfo="skip")
    figure.update_yaxes(range=[0, 1.04], tickformat=".0%")
    figure.update_xaxes(showgrid=False, type="category")
    return figure


def feature_bars(features: Sequence[Mapping[str, Any]], top: int = 16) -> go.Figure:
    """The best-ranked features: mean activation with the concept, with others of its family, and without."""
    chosen = list(features)[:top]
    labels = [f"#{feature['index']}" for feature in chosen]
    figure = empty(height=320)
    for key, label, colour, pattern in (
        ("forget_mean", "shows the concept", BLUE, ""),
        ("near_mean", "others of its family", ORANGE, "/"),
        ("retain_mean", "everything without it", FAINT, "x"),
    ):
        values = [feature.get(key) for feature in chosen]
        hatch = {"shape": pattern, "fillmode": "overlay", "fgcolor": "rgba(255,255,255,.7)", "size": 5}
        marker = {"color": colour, "pattern": hatch}
        hover = "feature %{x}: %{y:.3g}<extra>" + label + "</extra>"
        figure.add_bar(x=labels, y=values, name=label, marker=marker, hovertemplate=hover)
    figure.update_layout(barmode="group", bargap=0.28, bargroupgap=0.04)
    figure.update_xaxes(type="category", showgrid=False, title="feature, best first", tickangle=-45)
    figure.update_yaxes(title="mean activation", rangemode="tozero")
    return figure


def method_heat_map(table: Mapping[str, Mapping[str, Any]], metric: str = "HM") -> go.Figure:
    """One number per method and family (and overall): `table[method][family][metric]` is a Measured in JSON."""
    methods = list(table)
    families = list(dict.fromkeys(family for row in table.values() for family in row))
    values = [[measured((table[m].get(f) or {}).get(metric)) for f in families] for m in methods]
    figure = empty(height=110 + 38 * len(methods))
    figure.add_heatmap(
        z=[[value for value, *_ in row] for row in values],
        x=families,
        y=methods,
        text=[["" if math.isnan(v) else f"{v:.2f}" for v, *_ in row] for row in values],
        texttemplate="%{text}",
        customdata=[[(low, high) for _, low, high in row] for row in values],
        hovertemplate="%{y}, %{x}: %{z:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]<extra></extra>",
        colorscale="Cividis",
        zmin=0,
        zmax=1,
        xgap=3,
        ygap=3,
        colorbar={"thickness": 10, "outlinewidth": 0, "tickformat": ".1f"},
    )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(side="top", showgrid=False)
    figure.update_layout(margin={"t": 44, "b": 16})
    return figure


def probe_layers(rows: Sequence[Mapping[str, Any]]) -> go.Figure:
    """AUROC over the layers, mean over concepts with its interval, for each kind of tokens, and the floors.

    A row has `site`, `kind`, `auroc`, `shuffled` (Measured in JSON) and maybe `random`: the untrained model.
    """
    figure = empty(height=380)
    sites = list(dict.fromkeys(str(row["site"]) for row in rows))
    labels = [site_label(site) for site in sites]
    colours = dict(zip(dict.fromkeys(row["kind"] for row in rows), (BLUE, GREEN, PURPLE), strict=False))
    for kind, colour in colours.items():
        mine = {row["site"]: row for row in rows if row["kind"] == kind}
        for key, name, dash, symbol in (
            ("auroc", kind, "solid", "circle"),
            ("random", f"{kind}, random weights", "dot", "diamond-open"),
            ("shuffled", f"{kind}, shuffled labels", "dash", "x-thin-open"),
        ):
            points = [measured((mine.get(site) or {}).get(key)) for site in sites]
            if all(math.isnan(value) for value, *_ in points):
                continue
            line = {"color": colour, "width": 2.5 if key == "auroc" else 1.4, "dash": dash}
            marker = {"symbol": symbol, "size": 7, "line": {"width": 1.5, "color": colour}}
            curve(figure, labels, points, name, line, marker, banded=key == "auroc")
    figure.update_yaxes(range=[0.4, 1.02], title="AUROC, mean over concepts")
    figure.update_xaxes(showgrid=False, type="category", tickangle=-35 if len(sites) > 6 else 0)
    return figure


def pareto(points: Iterable[Mapping[str, Any]]) -> go.Figure:
    """Forgetting against what is kept. A point has `label`, `forget`, `keep` (numbers or Measured), maybe `chosen`."""
    points = list(points)
    figure = empty(height=400)
    for chosen, label, colour, symbol, size in (
        (False, "settings tried", FAINT, "circle-open", 9),
        (True, "chosen on validation", BLUE, "circle", 13),
    ):
        some = [point for point in points if bool(point.get("chosen")) == chosen]
        if some:
            keep, forget = ([measured(point[key]) for point in some] for key in ("keep", "forget"))
            figure.add_scatter(
                x=[value for value, *_ in keep],
                y=[value for value, *_ in forget],
                name=label,
                mode="markers",
                text=[str(point.get("label", "")) for point in some],
                hovertemplate="%{text}<br>forgets %{y:.0%}, keeps %{x:.0%}<extra></extra>",
                marker={"symbol": symbol, "size": size, "color": colour, "line": {"width": 2, "color": colour}},
                error_x=_bars(keep, chosen),
                error_y=_bars(forget, chosen),
            )
    front = pareto_front([(measured(p["keep"])[0], measured(p["forget"])[0]) for p in points])
    line = {"color": LINE, "width": 2, "shape": "hv"}
    figure.add_scatter(
        x=[x for x, _ in front], y=[y for _, y in front], mode="lines", line=line, hoverinfo="skip", showlegend=False
    )
    figure.update_xaxes(title="kept (least of IRA, CRA, COA)", range=[-0.03, 1.03], tickformat=".0%")
    figure.update_yaxes(title="forgotten (mean of UAd, UAg)", range=[-0.03, 1.03], tickformat=".0%")
    return figure


def pareto_front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other beats in both coordinates, by rising first coordinate."""
    front: list[tuple[float, float]] = []
    for x, y in sorted({p for p in points if not any(map(math.isnan, p))}, key=lambda p: (-p[0], -p[1])):
        if not front or y > front[-1][1]:
            front.append((x, y))
    return front[::-1]


def _dots(points: Sequence[tuple[float, float, float]], rows: Sequence[float], label: str, bars: bool = True) -> dict:
    hover = "%{x:.1%} [%{customdata[0]:.1%}, %{customdata[1]:.1%}]<extra>" + label + "</extra>"
    return {
        "x": [value for value, *_ in points],
        "y": list(rows),
        "name": label,
        "mode": "markers",
        "customdata": [(low, high) for _, low, high in points],
        "hovertemplate": hover,
        "error_x": _bars(points, bars),
        "cliponaxis": False,
    }


def _bars(points: Sequence[tuple[float, float, float]], show: bool = True) -> dict:
    if not show or any(math.isnan(low) for _, low, _ in points):
        return {"visible": False}
    up, down = [high - value for value, _, high in points], [value - low for value, low, _ in points]
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 1.6, "width": 0}
