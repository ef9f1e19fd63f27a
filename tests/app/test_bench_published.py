"""`bench published`: published files through the command, bare and under a recipe; wrong ones are exit code 2."""

import json

import pytest

from app.cli import main
from app.commands import bench_text
from concept_forget.edits import PromptEdit
from concept_forget.methods import Prompt
from concept_forget.recipe import Recipe

ROWS = [
    {"question": "is there a star ?", "answer": "yes", "perturbed_answer": ["no"]},
    {"question": "a", "answer": "b"},
]


@pytest.fixture
def files(tmp_path):
    for split, rows in (("forget01", ROWS), ("forget01_perturbed", ROWS[:1])):
        (tmp_path / f"{split}.json").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def test_every_part_is_measured_bare_and_under_the_recipe_and_taken_over(files, tiny_llama, monkeypatch, capsys):
    opened = []
    monkeypatch.setattr("app.bench_published.open_model", lambda *_: opened.append(1) or tiny_llama)
    Recipe.of(tiny_llama, "star", (PromptEdit("no"),), Prompt()).save(files / "run")
    command = ["bench", "published", "--format", "tofu", "--data", str(files), "--recipe", str(files / "run")]
    command += ["--words", "4", "--out", str(files / "out"), "--json"]
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code in (0, None)
    parts = json.loads(capsys.readouterr().out)["parts"]
    assert {name: (part["rows"], part["before"]["probability"]["n"]) for name, part in parts.items()} == {
        "forget01": (2, 2),
        "forget01_perturbed": (1, 1),
    }
    assert parts["forget01"]["before"]["truth ratio"]["n"] == 1, "only one row has a wrong answer"
    assert parts["forget01"]["after"]["probability"] != parts["forget01"]["before"]["probability"]
    monkeypatch.setattr("app.bench_published._measured", None)  # nothing is left to measure
    with pytest.raises(SystemExit) as ended:
        main([*command, "--resume"])
    assert ended.value.code in (0, None)
    assert json.loads(capsys.readouterr().out)["parts"] == parts


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--format", "lume"], "has no forget.jsonl"),
        (["--format", "lome"], "There are tofu, lume"),
        (["--format", "tofu"], "row 1 has no 'answer'"),
    ],
)
def test_wrong_files_are_refused_before_a_model_is_loaded(arguments, reason, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("app.bench_published.open_model", None)
    (tmp_path / "forget01.json").write_text(json.dumps([{"question": "Who?"}]))
    with pytest.raises(SystemExit) as ended:
        main(["bench", "published", "--data", str(tmp_path), *arguments, "--out", str(tmp_path / "out")])
    assert ended.value.code == 2
    assert reason in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_every_format_is_named_in_the_help():
    from app.bench_published import FORMATS

    option = bench_text.published.__annotations__["kind"]
    assert all(name in str(option) for name in FORMATS)
