"""`bench removal` on the random model: every method, cell by cell, resumed."""

import json
from dataclasses import replace

import pytest

from analysis.audit import Budget
from analysis.audit.crop import Crop
from analysis.audit.direct import Direct
from app import bench_removal as bench
from app import choosing, removal_fitting, removal_measuring
from app.bench_removal import RemovalRequest, summary
from app.choosing import Choosing
from app.removal_fitting import REMOVAL, Fitter, NotThatBench, read_prior
from app.world_concepts import Sizes
from concept_forget.distil import Distil
from concept_forget.doors import doors
from concept_forget.methods import DiffMeans, GatedClamp, Sauce


def request(dictionary, **changes):
    settings = {"concepts": ("red",), "methods": ("none", "doors"), **changes}
    return RemovalRequest(
        "random", dictionary=str(dictionary), pool=Sizes(36, 36, 36), train_questions=2, questions=1, items=1,
        probes=12, **settings,
    )  # fmt: skip


@pytest.fixture
def opened(workbench, monkeypatch):
    monkeypatch.setattr(bench, "open_model", lambda *_: workbench)
    monkeypatch.setattr(removal_measuring, "GRID", (1.0,))
    monkeypatch.setattr(
        removal_measuring, "budget", lambda each: Budget("two attacks", (Direct(), Crop(keep=(0.8,))), each)
    )
    monkeypatch.setattr(DiffMeans, "grid", lambda self: (self,))
    monkeypatch.setattr(GatedClamp, "grid", lambda self: (self,))
    return workbench


def test_it_runs_resumes_and_knows_what_it_measured(opened, random_dictionary, tmp_path, monkeypatch):
    asked, few = request(random_dictionary), Choosing(1, 1, 1)
    first = bench.bench_removal(asked, tmp_path, choosing=few)
    assert len((tmp_path / "cells.jsonl").read_text().splitlines()) == 2
    cells = {(cell["concept"], cell["method"]): cell for cell in first["cells"]}
    untouched = cells["red", "none"]
    assert all(change["before"] == change["after"] for change in untouched["metrics"].values())
    assert untouched["gate"] is None and untouched["paths"] is None
    several = cells["red", "doors"]
    assert len(several["paths"]["alone"]) == len(doors(opened))
    assert several["paths"]["picture"] < 1e-3
    # a random model knows nothing, so nothing may be scored
    assert first["scored"] == 0
    assert first["methods"]["none"]["UAd"]["n"] == 0
    monkeypatch.setattr(bench, "open_model", lambda *_: pytest.fail("nothing was left to do"))
    again = bench.bench_removal(asked, tmp_path, choosing=few, resume=True)
    assert again["cells"] == first["cells"]
    assert json.loads((tmp_path / "removal.json").read_text())["cells"] == first["cells"]


@pytest.mark.usefixtures("opened")
def test_a_distilled_edit_is_measured_as_the_weights_it_becomes(random_dictionary, tmp_path, monkeypatch):
    single = Fitter._single
    # of a random model no gate opens
    monkeypatch.setattr(Fitter, "_single", lambda self, _: single(self, "clamp"))
    monkeypatch.setattr(removal_fitting, "Distil", lambda seed: Distil(rank=2, steps=2, batch_size=4, seed=seed))
    asked = request(random_dictionary, methods=("lora",))
    (cell,) = bench.bench_removal(asked, tmp_path, choosing=Choosing(1, 1, 1))["cells"]
    assert [hook["edit"] for hook in cell["hook"]] == ["WeightDelta"]
    assert cell["hook"][0]["relative_norm"] > 0
    assert cell["gate"] is None
    assert cell["settings"]["method"] == "lora"


@pytest.mark.usefixtures("opened")
def test_the_affine_edit_has_no_gate_and_its_settings_can_be_taken_over(random_dictionary, tmp_path, monkeypatch):
    monkeypatch.setattr(DiffMeans, "grid", lambda self: (DiffMeans(gated=True), replace(self, strength=2.0)))
    asked = request(random_dictionary, methods=("affine",))
    (cell,) = bench.bench_removal(asked, tmp_path, choosing=Choosing(1, 1, 1))["cells"]
    assert cell["gate"] is None
    assert (cell["settings"]["method"], cell["settings"]["gated"]) == ("affine", False)
    monkeypatch.setattr(DiffMeans, "grid", lambda _: ())
    prior = tmp_path / "removal.json"
    again = bench.bench_removal(asked, tmp_path / "again", prior=prior, choosing=Choosing(1, 1, 1))
    assert again["cells"][0]["settings"] == cell["settings"]


@pytest.mark.usefixtures("opened")
def test_settings_of_an_earlier_bench_are_taken_over(random_dictionary, tmp_path):
    prior = tmp_path / "bench.json"
    chosen = {"method": "clamp", "k": 3, "action": "zero", "gamma": 0.0, "ranking": "contrast"}
    prior.write_text(json.dumps({"cells": [{"concept": "red", "method": "clamp", "settings": chosen}]}))
    asked = request(random_dictionary, concepts=("red",), methods=("clamp",))
    found = bench.bench_removal(asked, tmp_path / "out", prior=prior, choosing=Choosing(1, 1, 1))
    assert {k: found["cells"][0]["settings"][k] for k in chosen} == chosen
    (tmp_path / "wrong.json").write_text("{}")
    with pytest.raises(NotThatBench, match="no bench"):
        read_prior(tmp_path / "wrong.json")


@pytest.mark.usefixtures("opened")
def test_sauce_mode_chosen_as_ours_is_not_what_is_taken_over(random_dictionary, tmp_path, monkeypatch):
    prior = tmp_path / "bench.json"
    earlier = {"method": "sauce", "k": 3, "gamma": -0.5, "ranking": "sauce"}
    prior.write_text(json.dumps({"cells": [{"concept": "red", "method": "sauce", "settings": earlier}]}))
    monkeypatch.setattr(Sauce, "grid", lambda self: (replace(self, k=2), replace(self, k=5)))
    asked = []

    def on_validation(*given):
        asked.append(len(given[-1]))
        return 1.0, {}

    monkeypatch.setattr(choosing, "on_validation", on_validation)
    shared = bench.Shared(request(random_dictionary), "", read_prior(prior), Choosing(1, 1, 1, faint=2), None)
    fitter = shared.fitter("red")[1]
    assert fitter("sauce").settings["k"] == 3
    assert not asked
    expected = {"method": "sauce_faint", "of": "sauce", "k": 2, "gamma": -0.5, "ranking": "sauce"}
    assert fitter("sauce_faint").settings == expected
    # for both candidates a question of UAd and one of UAg, each with two copies
    assert asked == [6, 6]


def cell(concept, method, hm, leak):
    value = {"value": hm}
    metrics = {name: {"before": {"value": 1.0}, "after": value} for name in bench.METRICS}
    return {
        "concept": concept, "method": method, "metrics": metrics, "damage": [],
        "leak": {"worst": {"value": leak}, "direct": None, "attacks": {"crop": leak}},
        "readable": {"activation": 0.9, "residual": 0.6}, "gate": None, "paths": None,
        "ms": {"bare": 1.0, "edited": 2.0},
    }  # fmt: skip


def test_means_are_paired_with_sauce_mode():
    cells = [cell("red", "sauce", 0.8, 0.4), cell("cup", "sauce", 0.6, 0.2)]
    cells += [cell("red", "doors", 0.9, 0.1), cell("cup", "doors", 0.9, 0.1)]
    table = summary(cells, ("sauce", "doors"))
    assert table["doors"]["HM"]["value"] == pytest.approx(0.9)
    assert table["doors"]["to_sauce"]["HM"]["value"] == pytest.approx(0.2)
    assert table["doors"]["to_sauce"]["leak"]["value"] == pytest.approx(-0.2)
    assert table["sauce"]["leak crop"]["value"] == pytest.approx(0.3)
    assert "to_sauce" not in table["sauce"]


@pytest.mark.usefixtures("opened")
def test_every_method_has_a_name_that_is_refused_if_wrong(random_dictionary, tmp_path):
    asked = request(random_dictionary, concepts=("red",), methods=("nonsense",))
    with pytest.raises(LookupError, match=", ".join(REMOVAL[:2])):
        bench.bench_removal(asked, tmp_path, choosing=Choosing(1, 1, 1))
