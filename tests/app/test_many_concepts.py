"""`bench many` on the random model: the same concepts in ever larger sets, resumed step by step."""

from __future__ import annotations

import json

import pytest
import torch

from app import bench_removal, many_concepts
from app.bench_removal import RemovalRequest
from app.choosing import Choosing
from app.many_concepts import Reading, bench_many
from app.tables.compare import many_table
from app.world_concepts import Sizes
from concept_forget.edits import NoEdit
from concept_forget.methods import Clamp, GatedClamp
from concept_forget.recipe import Recipe

FEW = Choosing(1, 1, 1)


@pytest.fixture
def opened(workbench, monkeypatch):
    monkeypatch.setattr(bench_removal, "open_model", lambda *_: workbench)
    monkeypatch.setattr(many_concepts, "MEASURED", 2)
    monkeypatch.setattr(GatedClamp, "grid", lambda self: (self,))
    monkeypatch.setattr(Clamp, "grid", lambda self: (self,))
    return workbench


def request(dictionary, **changes):
    return RemovalRequest(
        "random", dictionary=str(dictionary), pool=Sizes(36, 36, 36), train_questions=2, questions=1,
        **{"concepts": ("red", "blue", "green"), "methods": ("clamp", "gated_clamp"), **changes},
    )  # fmt: skip


def test_larger_sets_hold_the_smaller_ones_and_the_same_concepts_are_measured(
    opened, random_dictionary, tmp_path, monkeypatch
):
    asked = request(random_dictionary)
    fit, fitted = bench_removal.Shared.fitted, []

    def noting(self, name, method):
        fitted.append((name, method))
        return fit(self, name, method)

    def stop(stage: str, *_: int) -> None:
        if stage.startswith("3 at once, gated"):
            raise KeyboardInterrupt

    monkeypatch.setattr(bench_removal.Shared, "fitted", noting)

    with pytest.raises(KeyboardInterrupt):
        bench_many(asked, tmp_path, counts=(1, 3), choosing=FEW, progress=stop)
    found = bench_many(asked, tmp_path, counts=(1, 3, 60), choosing=FEW, resume=True)
    assert len(fitted) == len(set(fitted)) == 6  # none was fitted again
    assert set(found["many"]) == {"1", "3"}
    removed = [found["many"][count]["removed"] for count in ("1", "3")]
    assert removed[0] == removed[1][:1]
    assert sorted(removed[1]) == ["blue", "green", "red"]
    assert found["measured"] == removed[1][:2]
    for entry in found["many"].values():
        for row in entry["methods"].values():
            assert max(metric["n"] for metric in row["metrics"].values()) == 2
            assert row["ms"]["bare"] > 0
    # gates look at features too, so both methods have some to read
    assert set(found["many"]["3"]["methods"]["gated_clamp"]["ms"]) == {
        "bare", "together", "one by one", "features read once",
    }  # fmt: skip
    assert json.loads((tmp_path / "many.json").read_text())["many"] == found["many"]
    assert Recipe.load(tmp_path / "edits" / "clamp" / "red", opened).concept == "red"
    assert many_table(found).row_count == 4


def test_reading_takes_every_feature_of_clamps_and_gates_once_and_changes_nothing(
    opened, random_dictionary, tmp_path, monkeypatch
):
    read = []
    monkeypatch.setattr(many_concepts.Reading, "of", staticmethod(read.append))
    bench_many(request(random_dictionary, methods=("gated_clamp",)), tmp_path, counts=(3,), choosing=FEW)
    monkeypatch.undo()
    reading = Reading.of(read[0])
    branches = [branch for edit in read[0].each() for branch in edit.branches()]
    assert len(branches) == 3
    keys = {row.numpy().tobytes() for branch in branches for rows in (branch.rows, branch.gate.rows) for row in rows[0]}
    assert len(reading.rows.bias) == len(keys)
    x = torch.randn(1, 4, opened.width(reading.site))
    assert torch.equal(reading.transform(x), x)
    assert Reading.of(NoEdit()) is None
