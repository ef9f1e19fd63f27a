"""`probe` as a user calls it."""

from __future__ import annotations

import json

import pytest

from app import probing


@pytest.fixture
def call(caller):
    return caller("probe", "--pictures", "200")


def test_every_floor_and_bound_stands_beside_the_probe(call):
    code, out, _, folder = call(
        "-c", "happy", "-c", "grass", "--site", "vision.1.resid", "--random", "--mlp", "--named", "--json"
    )
    assert code == 0
    found = json.loads(out)
    assert len(found["cells"]) == 2 and found["best"] == "vision.1.resid"
    (row,) = found["summary"]
    for name in ("auroc", "balanced", "selectivity", "shuffled", "random", "mass_mean"):
        assert row[name]["value"] is not None, name
    assert set(found["mlp"]["concepts"]) == set(found["named"]) == {"happy", "grass"}
    assert all(part["n"] > 0 for part in found["named"].values())
    assert found["seconds"]["processor"] > 0
    kept = json.loads((folder / "probes.json").read_text())
    assert kept["summary"] == found["summary"]
    assert (folder / "figures" / "probe_layers.html").is_file()


def test_the_table_says_which_concepts_fall_short(call):
    code, out, _, _ = call("-c", "grass", "--site", "vision.0.resid")
    assert code == 0 and "of 1 above 0.95 at vision.0.resid" in " ".join(out.split())
    assert "select." in out and "processor time" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tokens", "first token"), "choose from patch mean, object patches, last token"),
        (("-c", "gras"), "grass"),
        (("--site", "vision.77.resid"), "vision.77.resid"),
        (("--pictures", "10"), "200"),
        (("--out", "/proc/nowhere", "-c", "grass", "--site", "vision.0.resid"), "/proc/nowhere"),
    ],
)
def test_bad_input_ends_with_code_2(call, arguments, message):
    code, _, err, _ = call(*arguments)
    assert code == 2 and message in " ".join(err.replace("│", " ").split())


def test_the_best_layer_is_chosen_on_validation():
    rows = [
        {"site": site, "kind": "patch mean", "validation": {"value": v}, "auroc": {"value": t}}
        for site, v, t in (("a", 0.9, 0.7), ("b", 0.8, 1.0))
    ]

    class Cell:
        def __init__(self, site):
            self.site, self.kind = site, "patch mean"

    assert [cell.site for cell in probing.best_cells([Cell("a"), Cell("b")], rows)] == ["a"]
