"""`run` writes a whole run directory, is resumable, and leaves nothing behind when the input is bad."""

import json
from dataclasses import replace

import pytest

from app import choosing, running
from app.choosing import Choosing
from app.running import RunRequest, run
from app.world_concepts import NoSuchConcept, Sizes
from concept_forget.doors import doors
from concept_forget.recipe import Recipe
from concept_forget.report import Report

FEW = Choosing(first=1, second=1, keep=1)


@pytest.fixture
def request_(random_dictionary):
    sizes = Sizes(4, 4, 2)
    return RunRequest("random", "red", method="clamp", dictionary=str(random_dictionary), sizes=sizes, questions=4)


def test_a_run_writes_everything_and_resumes_without_asking_again(workbench, request_, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(running, "write_report", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        run(request_, tmp_path / "run", choosing=FEW, progress=lambda stage, *_: seen.append(stage))
    assert {"training probes", "choosing settings on validation"} <= set(seen)
    assert not (tmp_path / "run" / "results.json").exists()
    assert (tmp_path / "run" / ".steps" / "probes.json").is_file()

    monkeypatch.undo()
    monkeypatch.setattr(running, "open_model", lambda *_: workbench)
    for name in ("evaluate", "probe", "rank_features", "choose_method"):
        monkeypatch.setattr(running, name, lambda *_, **__: pytest.fail("a finished step was done again"))
    report = run(request_, tmp_path / "run", choosing=FEW, resume=True)
    folder = tmp_path / "run"
    assert Report.load(folder / "results.json").to_json() == json.loads(json.dumps(report.to_json()))
    expected = {
        "recipe.yaml",
        "recipe.safetensors",
        "results.json",
        "samples.parquet",
        "figures",
        "report.html",
        "log.txt",
    }
    assert {path.name for path in folder.iterdir()} == expected
    assert {path.name for path in (folder / "figures").glob("*.html")} >= {
        "metrics.html",
        "probes.html",
        "features.html",
    }
    assert set(report.metrics) >= {"UAd", "UAg", "IRA", "CRA", "COA", "HM"}
    assert set(report.controls) == {"prompt", "random_features"}
    assert report.hook[0]["calls"] > 0
    assert report.hook[0]["mean_abs_delta"] > 0
    assert Recipe.load(folder, workbench).concept == "red"
    log = (folder / "log.txt").read_text()
    assert "KeyboardInterrupt" in log
    assert "taken over" in log


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"concept": "rde"}, NoSuchConcept),
        ({"method": "souce"}, LookupError),
        ({"site": "vision.99.resid"}, LookupError),
        ({"site": "nonsense"}, ValueError),
    ],
)
def test_bad_input_leaves_no_folder(workbench, request_, tmp_path, change, error):  # noqa: ARG001
    with pytest.raises(error):
        run(replace(request_, **change), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_dictionary_of_another_width_is_refused(workbench, request_, tmp_path, random_dictionary):  # noqa: ARG001
    with pytest.raises(ValueError, match="belongs to another model or site"):
        run(replace(request_, site="text.1.resid"), tmp_path / "run")


def test_equal_requests_have_equal_keys_and_different_ones_do_not(request_):
    assert request_.to_json() == replace(request_).to_json()
    assert request_.to_json() != replace(request_, seed=1).to_json()
    json.dumps(request_.to_json())


def test_settings_that_are_given_are_held_and_the_others_chosen(workbench, request_, tmp_path):  # noqa: ARG001
    run(replace(request_, method="clamp", settings=("k=4",)), tmp_path / "run", choosing=FEW)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["settings"]["k"] == 4 and results["provenance"]["candidates"] > 1


def test_ungated_settings_alone_are_chosen_from_and_a_method_that_has_none_is_refused(workbench, request_, tmp_path):
    asked = replace(request_, method="leace", ungated=True)
    run(asked, tmp_path / "run", choosing=FEW)
    (edit,) = Recipe.load(tmp_path / "run", workbench).edits
    assert edit.gate is None
    # leace chooses between gates and none: without the wish both are tried
    tried = json.loads((tmp_path / "run" / "results.json").read_text())["provenance"]["candidates"]
    assert tried == 2
    with pytest.raises(ValueError, match="has a gate"):
        run(replace(asked, method="gated_clamp"), tmp_path / "gated", choosing=FEW)


def test_without_gates_there_is_none_at_any_door(workbench, request_, tmp_path, monkeypatch):
    # gates are what does best here
    monkeypatch.setattr(choosing, "on_validation", lambda _model, _concept, edit, *_: (len(choosing._gates(edit)), {}))
    asked = replace(request_, method="diff_means", door="all")
    run(asked, tmp_path / "gated", choosing=FEW)
    assert any(choosing._gates(edit) for edit in Recipe.load(tmp_path / "gated", workbench).edits)
    run(replace(asked, ungated=True), tmp_path / "run", choosing=FEW)
    edits = Recipe.load(tmp_path / "run", workbench).edits
    assert len(edits) == len(doors(workbench)) > 1
    assert not any(choosing._gates(edit) for edit in edits)
