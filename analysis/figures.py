"""Every result as a plotly figure, from plain JSON values: readable in light and dark, colour-blind safe."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

Results = Mapping[str, Any]
"""What results.json holds (schema concept-forget/results/1)."""

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
"""Okabe and Ito (2008): told apart by people with any kind of colour vision, on white and on near-black."""
INK, FAINT, LINE = "#7b8490", "#9aa3ad", "rgba(128,136,146,0.28)"
"""Text and rules that read on both grounds; our own pages override them per scheme in CSS."""

METRICS = {
    "UAd": "no longer says yes",
    "UAg": "captions without it",
    "IRA": "rest of its family",
    "CRA": "other families",
    "COA": "rest of its pictures",
}
CONTROLS = {
    "prompt": ("asked not to mention it", ORANGE, "diamond-open"),
    "random_features": ("same edit, random features", PURPLE, "x-thin-open"),
}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def metric_dumbbell(results: Results) -> go.Figure:
    """The five metrics before and after with 95% intervals, and the controls beside them."""
    metrics = {name: results["metrics"][name] for name in METRICS if name in results["metrics"]}
    names = list(metrics)
    rows = [len(names) - 1 - index for index in range(len(names))]
    before = [measured(metrics[name]["before"]) for name in names]
    after = [measured(metrics[name]["after"]) for name in names]
    figure = _figure(height=96 + 62 * len(names))
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
    ticks = [f"<b>{name}</b><br><span style='font-size:11px'>{METRICS[name]}</span>" for name in names]
    figure.update_yaxes(tickvals=rows, ticktext=ticks, range=[-0.6, len(names) - 0.5], showgrid=False, zeroline=False)
    figure.update_xaxes(range=[-0.03, 1.03], tickformat=".0%", tickvals=[0, 0.25, 0.5, 0.75, 1])
    return figure


def probe_curves(results: Results) -> go.Figure:
    """Probe accuracy per site: before, frozen after, retrained after, with bands, and the chance line."""
    probes = results.get("probes") or []
    sites = [site_label(probe["site"]) for probe in probes]
    figure = _figure(height=340)
    for key, label, colour, dash, symbol in (
        ("before", "before", FAINT, "solid", "circle-open"),
        ("after_frozen", "after, probe from before", ORANGE, "dot", "diamond"),
        ("after_retrained", "after, probe retrained", BLUE, "solid", "circle"),
    ):
        values = [measured(probe.get(key)) for probe in probes]
        if all(math.isnan(low) for _, low, _ in values):
            values = [(value, value, value) for value, *_ in values]
        band = [high for *_, high in values] + [low for _, low, _ in values][::-1]
        around = {"x": sites + sites[::-1], "y": band, "fill": "toself", "fillcolor": _alpha(colour, 0.13)}
        figure.add_scatter(**around, line={"width": 0}, mode="lines", hoverinfo="skip", showlegend=False)
        line, marker = {"color": colour, "width": 2.5, "dash": dash}, {"symbol": symbol, "size": 8}
        figure.add_scatter(
            x=sites,
            y=[value for value, *_ in values],
            name=label,
            mode="lines+markers",
            line=line,
            marker=marker,
            customdata=[(low, high) for _, low, high in values],
            hovertemplate="%{x}: %{y:.0%} [%{customdata[0]:.0%}, %{customdata[1]:.0%}]<extra>" + label + "</extra>",
        )
    chance = [measured(probe.get("chance"))[0] for probe in probes]
    if chance:
        line = {"color": INK, "width": 1.2, "dash": "dash"}
        figure.add_scatter(x=sites, y=chance, name="chance", mode="lines", line=line, hoverinfo="skip")
    figure.update_yaxes(range=[0, 1.04], tickformat=".0%")
    figure.update_xaxes(showgrid=False, type="category")
    return figure


def site_label(site: str) -> str:
    """A site as an axis says it: `vision 3` for vision.3.resid, `projector` for projector.out, the rest in full."""
    return site.removesuffix(".resid").removesuffix(".out").replace(".", " ")


def feature_bars(features: Sequence[Mapping[str, Any]], top: int = 16) -> go.Figure:
    """The best-ranked features: mean activation with the concept, with others of its family, and without."""
    chosen = list(features)[:top]
    labels = [f"#{feature['index']}" for feature in chosen]
    figure = _figure(height=320)
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
    figure = _figure(height=110 + 38 * len(methods))
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
    figure = _figure(height=380)
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
            if key == "auroc":
                band = [high for *_, high in points] + [low for _, low, _ in points][::-1]
                around = {"x": labels + labels[::-1], "y": band, "fill": "toself", "fillcolor": _alpha(colour, 0.13)}
                figure.add_scatter(**around, line={"width": 0}, mode="lines", hoverinfo="skip", showlegend=False)
            figure.add_scatter(
                x=labels,
                y=[value for value, *_ in points],
                name=name,
                mode="lines+markers",
                line={"color": colour, "width": 2.5 if key == "auroc" else 1.4, "dash": dash},
                marker={"symbol": symbol, "size": 7, "line": {"width": 1.5, "color": colour}},
                customdata=[(low, high) for _, low, high in points],
                hovertemplate="%{x}: %{y:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}]<extra>" + name + "</extra>",
            )
    figure.update_yaxes(range=[0.4, 1.02], title="AUROC, mean over concepts")
    figure.update_xaxes(showgrid=False, type="category", tickangle=-35 if len(sites) > 6 else 0)
    return figure


def instrument_maps(maps: Mapping[str, Sequence[Sequence[float]]], picture: str = "") -> go.Figure:
    """One patch map per instrument side by side, each on its own scale; `picture` (a data URI) comes first."""
    from plotly.subplots import make_subplots

    names = (["picture"] if picture else []) + list(maps)
    base = _figure(height=300)
    figure = make_subplots(rows=1, cols=len(names), subplot_titles=names, horizontal_spacing=0.03)
    figure.update_layout(base.layout)
    for place, name in enumerate(names, 1):
        if name == "picture" and picture:
            figure.add_image(source=picture, row=1, col=place)
        else:
            hover = "row %{y}, column %{x}: %{z:.3g}<extra>" + name + "</extra>"
            style = {"colorscale": "Cividis", "showscale": False, "xgap": 1, "ygap": 1, "hovertemplate": hover}
            figure.add_heatmap(z=[list(row) for row in maps[name]], row=1, col=place, **style)
        figure.update_yaxes(
            autorange="reversed", scaleanchor=f"x{place if place > 1 else ''}", visible=False, row=1, col=place
        )
        figure.update_xaxes(visible=False, constrain="domain", row=1, col=place)
    figure.update_annotations(font={"size": 13, "color": INK})
    figure.update_layout(margin={"t": 36})
    return figure


def trace_heat_map(trace: Mapping[str, Any], stream: str = "resid", picture: str = "") -> go.Figure:
    """Effect of each layer and token (patch) of a trace in JSON, blue-orange around 0, and the picture beside it."""
    from plotly.subplots import make_subplots

    values = trace["values"][list(trace["streams"]).index(stream)]
    columns = list(trace["positions"])
    figure = make_subplots(rows=1, cols=2 if picture else 1, column_widths=[0.25, 0.75] if picture else None)
    figure.update_layout(_figure(height=130 + 34 * len(values)).layout)
    most = max((abs(v) for row in values for v in row if v is not None), default=1.0) or 1.0
    heat = 2 if picture else 1
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
        colorbar={"thickness": 10, "outlinewidth": 0, "title": {"text": trace["metric"], "side": "right"}},
        row=1,
        col=heat,
    )
    step = max(1, len(columns) // 48)
    ticks = list(range(0, len(columns), step))
    figure.update_xaxes(
        tickvals=ticks, ticktext=[columns[i] for i in ticks], tickangle=-60, showgrid=False, row=1, col=heat
    )
    figure.update_yaxes(title=f"{trace['tower']} layer, {stream}", dtick=1, showgrid=False, row=1, col=heat)
    if picture:
        figure.add_image(source=picture, row=1, col=1)
        figure.update_xaxes(visible=False, row=1, col=1)
        figure.update_yaxes(visible=False, scaleanchor="x", row=1, col=1)
    return figure


def lens_grid(lens: Mapping[str, Any], positions: Sequence[int] = ()) -> go.Figure:
    """The likeliest word at every layer and position of a lens in JSON, shaded by its probability."""
    chosen = list(positions) or [i for i, of in enumerate(lens["picture"]) if not of] or [0]
    words = [[row[i][0] for i in chosen] for row in lens["words"]]
    chance = [[row[i][0] for i in chosen] for row in lens["probabilities"]]
    figure = _figure(height=120 + 34 * len(words))
    figure.add_heatmap(
        z=chance,
        x=list(range(len(chosen))),
        y=list(range(len(words))),
        text=words,
        texttemplate="%{text}",
        hovertemplate="%{text}: %{z:.2f}<extra></extra>",
        colorscale=[[0, _alpha(BLUE, 0.05)], [1, _alpha(BLUE, 0.75)]],
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


def pareto(points: Iterable[Mapping[str, Any]]) -> go.Figure:
    """Forgetting against what is kept. A point has `label`, `forget`, `keep` (numbers or Measured), maybe `chosen`."""
    points = list(points)
    figure = _figure(height=400)
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


def measured(value: Any) -> tuple[float, float, float]:
    """(value, low, high) of a Measured in JSON or of a bare number; NaN for what was not measured."""
    nan = float("nan")
    if value is None:
        return nan, nan, nan
    if isinstance(value, Mapping):
        return tuple(nan if value.get(key) is None else float(value[key]) for key in ("value", "low", "high"))  # type: ignore[return-value]
    return float(value), nan, nan


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
.js-plotly-plot .xtick text, .js-plotly-plot .ytick text, .js-plotly-plot .legendtext, .js-plotly-plot .xtitle,
.js-plotly-plot .ytitle, .js-plotly-plot .cbaxis text { fill: var(--plot-ink) !important; }
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


def _figure(height: int) -> go.Figure:
    axis = {"gridcolor": LINE, "zeroline": False, "linecolor": LINE, "automargin": True, "fixedrange": True}
    legend = {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom", "font": {"size": 12}}
    figure = go.Figure(layout={"template": "none", "height": height, "legend": legend, "xaxis": axis, "yaxis": axis})
    figure.update_layout(
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": FONT, "size": 13, "color": INK},
        hoverlabel={"font": {"family": FONT}},
        margin={"l": 8, "r": 16, "t": 8, "b": 8},
    )
    return figure


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
    }


def _bars(points: Sequence[tuple[float, float, float]], show: bool = True) -> dict:
    if not show or any(math.isnan(low) for _, low, _ in points):
        return {"visible": False}
    up, down = [high - value for value, _, high in points], [value - low for value, low, _ in points]
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 1.6, "width": 0}


def _alpha(colour: str, alpha: float) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"
