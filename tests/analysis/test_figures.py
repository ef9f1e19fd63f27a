"""Figures show the numbers they are given, and a page of them opens without the network."""

import math
import re

import pytest

from analysis import figures


def m(value, half=0.05):
    return {"value": value, "low": max(0.0, value - half), "high": min(1.0, value + half), "n": 40}


@pytest.fixture
def results():
    after = {"UAd": 0.95, "UAg": 0.97, "IRA": 0.96, "CRA": 0.99, "COA": 0.9}
    before = {"UAd": 0.02, "UAg": 0.01, "IRA": 0.98, "CRA": 0.99, "COA": 0.98}
    metrics = {name: {"before": m(before[name]), "after": m(after[name])} for name in after}
    control = {name: {"before": m(before[name]), "after": m(0.5)} for name in after}
    probes = [
        {
            "site": f"vision.{i}.resid",
            "before": m(0.9),
            "after_frozen": m(0.5),
            "after_retrained": m(0.6),
            "chance": 0.5,
        }
        for i in range(3)
    ]
    return {
        "metrics": metrics,
        "controls": {"prompt": control, "random_features": {"metrics": control}, "random_weights": control},
        "probes": probes,
    }


def trace(figure, name):
    return next(part for part in figure.data if part.name == name)


def test_dumbbell_shows_both_ends_and_their_intervals(results):
    figure = figures.metric_dumbbell(results)
    assert list(trace(figure, "after").x) == [0.95, 0.97, 0.96, 0.99, 0.9]
    assert list(trace(figure, "before").x) == [0.02, 0.01, 0.98, 0.99, 0.98]
    bars = trace(figure, "after").error_x
    assert bars.arrayminus[0] == pytest.approx(0.05)
    assert bars.array[3] == pytest.approx(0.01)  # cut at 1


def test_dumbbell_reads_controls_with_and_without_a_metrics_level(results):
    figure = figures.metric_dumbbell(results)
    for label, *_ in figures.CONTROLS.values():
        assert list(trace(figure, label).x) == [0.5] * 5


def test_what_was_not_measured_is_left_out_instead_of_drawn_at_zero(results):
    results["metrics"]["IRA"]["after"] = {"value": None, "low": None, "high": None, "n": 0}
    assert math.isnan(trace(figures.metric_dumbbell(results), "after").x[2])


def test_probe_curves_show_every_site_and_chance(results):
    figure = figures.probe_curves(results)
    assert list(trace(figure, "after, probe retrained").x) == ["vision 0", "vision 1", "vision 2"]
    assert list(trace(figure, "after, probe retrained").y) == [0.6] * 3
    assert list(trace(figure, "chance").y) == [0.5] * 3


def test_feature_bars_keep_the_ranking_and_stop_at_top():
    features = [{"index": i, "forget_mean": 9 - i, "near_mean": 1, "retain_mean": 0} for i in (7, 3, 5)]
    figure = figures.feature_bars(features, top=2)
    assert list(figure.data[0].x) == ["#7", "#3"]
    assert list(figure.data[0].y) == [2, 6]


def test_heat_map_has_a_cell_per_method_and_family():
    table = {"sauce": {"colour": {"HM": m(0.4)}, "all": {"HM": m(0.5)}}, "clamp": {"colour": {"HM": m(0.6)}}}
    figure = figures.method_heat_map(table)
    assert figure.data[0].text[0] == ["0.40", "0.50"]
    assert figure.data[0].text[1] == ["0.60", ""]


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([(0.1, 0.9), (0.5, 0.5), (0.4, 0.4), (0.9, 0.1)], [(0.1, 0.9), (0.5, 0.5), (0.9, 0.1)]),
        ([(0.5, 0.5), (0.5, 0.7), (float("nan"), 1.0)], [(0.5, 0.7)]),
        ([], []),
    ],
)
def test_pareto_front_holds_the_points_nothing_beats(points, front):
    assert figures.pareto_front(points) == front


def test_pareto_marks_the_chosen_point():
    figure = figures.pareto(
        [{"label": "a", "keep": 0.2, "forget": 0.9}, {"label": "b", "keep": 0.9, "forget": 0.9, "chosen": True}]
    )
    assert list(trace(figure, "chosen on validation").x) == [0.9]


def test_written_figures_load_nothing_from_the_network(results, tmp_path):
    paths = figures.write_figures(
        tmp_path, {"metrics": figures.metric_dumbbell(results), "probes": figures.probe_curves(results)}
    )
    assert [path.name for path in paths] == ["metrics.html", "probes.html"]
    assert (tmp_path / "plotly.min.js").stat().st_size > 500_000
    for path in paths:
        page = path.read_text()
        assert re.findall(r'(?:src|href)="([^"]+)"', page) == ["plotly.min.js"]
        assert "prefers-color-scheme: dark" in page


def test_colours_are_okabe_ito():
    palette = {figures.BLUE, figures.ORANGE, figures.GREEN, figures.VERMILION, figures.PURPLE, figures.SKY}
    assert palette == {"#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"}


def test_probe_curves_have_a_line_per_kind_and_leave_out_what_was_not_measured():
    nothing = {"value": None, "low": None, "high": None, "n": 0}
    rows = [
        {"site": f"vision.{i}.resid", "kind": kind, "auroc": m(0.6 + 0.1 * i), "shuffled": m(0.5), "random": nothing}
        for kind in ("patch mean", "object patches")
        for i in range(3)
    ]
    figure = figures.probe_layers(rows)
    assert list(trace(figure, "patch mean").y) == [0.6, 0.7, 0.8]
    names = {one.name for one in figure.data}
    assert "object patches, shuffled labels" in names and not any("random" in str(name) for name in names)


def test_maps_stand_beside_the_picture_with_row_0_on_top():
    figure = figures.instrument_maps(
        {"probe": [[0, 1], [2, 3]], "trace": [[1, 0], [0, 0]]}, "data:image/png;base64,AA=="
    )
    assert [one.type for one in figure.data] == ["scatter", "heatmap", "heatmap"]
    (shown,) = figure.layout.images
    assert shown.source.startswith("data:image/png") and (shown.xref, shown.yref) == ("x", "y")
    assert [note.text for note in figure.layout.annotations] == ["picture", "probe", "trace"]
    assert figure.layout.yaxis2.autorange == "reversed"


def test_a_trace_has_its_tokens_and_layers_and_the_same_scale_on_both_sides_of_0():
    plain = {
        "streams": ["attn", "resid"],
        "values": [[[9, 9], [9, 9]], [[0.5, -2.0], [1.0, None]]],
        "positions": ["what", "?"],
        "metric": "logprob",
        "tower": "text",
    }
    figure = figures.trace_heat_map(plain)
    assert figure.data[0].zmin == -2 and figure.data[0].zmax == 2
    assert list(figure.layout.xaxis.ticktext) == ["what", "?"] and "text layer, resid" in figure.layout.yaxis.title.text
    beside = figures.trace_heat_map(plain, picture="data:image/png;base64,AA==")
    assert [one.type for one in beside.data] == ["heatmap", "scatter"]
    (shown,) = beside.layout.images
    assert (shown.xref, beside.data[0].xaxis) == ("x", "x2"), "the picture stands left of the map"


def test_words_of_a_trace_are_named_before_patches_and_read_as_text():
    names = ["<s>", *(f"patch {i},{j}" for i in range(8) for j in range(8)), "which", "\n", "a" * 30]
    plain = {"streams": ["mlp"], "values": [[[0.0] * 68]], "positions": names, "metric": "logprob", "tower": "text"}
    shown = list(figures.trace_heat_map(plain, "mlp").layout.xaxis.ticktext)
    assert len(shown) <= 40 and shown[0] == "&lt;s&gt;" and shown[-3:] == ["which", "⏎", "a" * 13 + "…"]


def test_layers_of_instruments_have_a_line_each_in_the_order_of_the_sites():
    rows = {
        "features": {"vision.1.resid": m(0.9)},
        "trace": {"vision.0.resid": m(0.8), "vision.1.resid": m(0.7), "text.0.resid": m(0.6)},
    }
    figure = figures.instrument_layers(rows)
    assert list(trace(figure, "trace").y) == [0.8, 0.7, 0.6] and list(trace(figure, "features").x) == ["vision 1"]
    assert list(figure.layout.xaxis.categoryarray) == ["vision 0", "vision 1", "text 0"]


def test_head_effects_leave_layers_without_heads_empty():
    effects = {"values": [[0.5, -1.0], [None, None]], "low": [[0, -2], [None, None]], "high": [[1, 0], [None, None]]}
    figure = figures.head_effects(effects)
    assert figure.data[0].zmax == 1.0 and list(figure.data[0].text[1]) == ["", ""]


def test_a_lens_grid_shows_the_likeliest_word_of_each_place():
    plain = {
        "sites": ["text.0.resid", "text.1.resid"],
        "positions": ["patch 0,0", "what", "?"],
        "picture": [True, False, False],
        "words": [[["a", "b"], ["c", "d"], ["e", "f"]], [["g", "h"], ["i", "j"], ["star", "l"]]],
        "probabilities": [[[0.1, 0], [0.2, 0], [0.3, 0]], [[0.4, 0], [0.5, 0], [0.9, 0]]],
    }
    figure = figures.lens_grid(plain)
    assert [list(row) for row in figure.data[0].text] == [["c", "e"], ["i", "star"]]
    assert figure.data[0].z[1][1] == 0.9 and list(figure.layout.xaxis.ticktext) == ["what", "?"]
    assert list(figures.lens_grid(plain, [0]).layout.xaxis.ticktext) == ["patch 0,0"]
