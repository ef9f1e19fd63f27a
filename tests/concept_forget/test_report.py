import json
import resource
import signal

import pytest
import torch

from concept_forget.evaluation.metrics import Change, Measured
from concept_forget.provenance import CannotWriteError, atomic_path, hash_json, hash_tensors, versions, write_atomic
from concept_forget.report import SCHEMA, Report

CHANGE = Change(Measured(0.1, 0.0, 0.2, 30), Measured(0.9, 0.8, 1.0, 30), Measured(0.8, 0.7, 0.9, 30))
UNKNOWN = Change(*[Measured(*[float("nan")] * 3, 0)] * 3)


@pytest.fixture
def report():
    return Report(
        model="tiny-llava",
        concept="cup",
        method="clamp",
        seed=3,
        metrics={"UAd": CHANGE, "CRA": UNKNOWN},
        unanswered={"UAd": {"refusals_after": 1}},
        controls={"prompt": {"UAd": CHANGE}},
        probes=({"site": "vision.1.resid", "chance": 0.5},),
        hook=({"site": "vision.1.resid", "calls": 4, "tokens": 256, "mean_abs_delta": 0.25},),
        gate={"recall": 0.98, "false_fire": 0.01},
        settings={"k": 8, "gamma": -1.0},
        timing={"evaluate": 1.5},
    )


@pytest.fixture
def small_files():
    """A limit on the size of files: the nearest a test comes to a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, old)


def test_a_report_comes_back_from_its_file_as_it_was(report, tmp_path):
    path = report.save(tmp_path / "run" / "results.json")
    assert repr(Report.load(path)) == repr(report)
    assert list(tmp_path.rglob("*")) == [tmp_path / "run", path], "nothing else is left there"


def test_the_file_begins_with_the_schema_and_is_strict_json(report, tmp_path):
    text = report.save(tmp_path / "results.json").read_text()
    assert text.lstrip("{\n ").startswith(f'"schema": "{SCHEMA}"')
    data = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert data["metrics"]["UAd"]["after"] == {"value": 0.9, "low": 0.8, "high": 1.0, "n": 30}
    assert data["metrics"]["CRA"]["after"]["value"] is None
    assert data["versions"]["torch"] == torch.__version__


def test_another_schema_is_refused_with_both_names(report, tmp_path):
    data = {**report.to_json(), "schema": "concept-forget/results/9"}
    (tmp_path / "results.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match="results/9.*results/1"):
        Report.load(tmp_path / "results.json")


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"schema": "concept-forget/results/1"}'])
def test_a_damaged_file_is_a_clear_error(content, tmp_path):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(ValueError, match="JSON|schema|incomplete"):
        Report.load(tmp_path / "results.json")
    with pytest.raises(ValueError, match="no results file"):
        Report.load(tmp_path / "nowhere.json")


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_leaves_the_old_file_and_nothing_half_written(report, tmp_path):
    path = tmp_path / "results.json"
    path.write_text("old")
    with pytest.raises(CannotWriteError, match="Nothing was changed"):
        report.save(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_that_fails_halfway_leaves_nothing(tmp_path):
    with pytest.raises(KeyError), atomic_path(tmp_path / "weights.safetensors") as path:
        assert path.suffix == ".safetensors"
        path.write_bytes(b"half")
        raise KeyError("the writer broke")
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_folder_should_be_is_a_clear_error(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(CannotWriteError, match="taken"):
        write_atomic(tmp_path / "taken" / "results.json", "x")


def test_hashes_see_every_change_and_no_order():
    assert hash_json({"a": 1, "b": [2]}) == hash_json({"b": [2], "a": 1}) != hash_json({"a": 1, "b": [3]})
    one = {"x": torch.arange(4.0), "y": torch.tensor(2)}
    assert hash_tensors(one) == hash_tensors(dict(reversed(one.items())))
    for other in (
        {**one, "y": torch.tensor(3)},
        {**one, "x": torch.arange(4.0).view(2, 2)},
        {**one, "x": one["x"].half()},
    ):
        assert hash_tensors(other) != hash_tensors(one)
    assert hash_tensors({"h": torch.ones(2, dtype=torch.bfloat16)})


def test_versions_name_what_is_installed_only():
    assert "torch" in versions()
    assert "no-such-package" not in versions("no-such-package")
