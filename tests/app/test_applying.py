"""A batch job answers everything once, whatever happens in between, and says what it cannot ask."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, MllamaConfig
from transformers.models.mllama.configuration_mllama import MllamaTextConfig, MllamaVisionConfig

from app import applying
from app.applying import Settings, apply
from app.cli import main
from app.items import Item, Picture, UnreadablePictureError, read_items
from app.planning import plan
from concept_forget.directions import FeatureRows
from concept_forget.edits import FeatureClamp, GuardRule, ImageGate, PromptEdit, Shift
from concept_forget.edits.guard import PromptGate
from concept_forget.methods import Guard
from concept_forget.provenance import hash_tensors
from concept_forget.recipe import Recipe, RecipeError
from concept_forget.sites import Site

ROOT = Path(__file__).parents[2]
SHORT = Settings(max_new_tokens=5, batch_size=4)


@pytest.fixture
def folder(tmp_path, picture):
    place = tmp_path / "pictures"
    place.mkdir()
    for number in range(6):
        picture(number, 32 + 8 * number, 40).save(place / f"{number}.png")
    return place


def recipe(model, gate=None, site=None) -> Recipe:
    site = site or model.reading_site
    vector = torch.linspace(-1, 1, model.width(site))
    return Recipe.of(model, "red", [Shift(site, vector, gate)])


def rows(out: Path) -> list[dict]:
    return pq.read_table(out / "answers.parquet").to_pylist()


WORDS = ["what is shown here ?", "a red cup", "is there a star ? yes no yes no yes no"]


@pytest.mark.parametrize("name", ["tiny_llava", "tiny_mllama", "tiny_llama"])
def test_a_batch_says_what_each_item_alone_is_told(name, request, folder, tmp_path):
    model = request.getfixturevalue(name)
    before = hash_tensors(model.model.state_dict())
    items = read_items("" if name == "tiny_llama" else str(folder), texts=WORDS)
    site = Site("text", 1, "resid") if name == "tiny_llama" else None
    made = recipe(model, site=site)
    applied = apply(model, [made], items, tmp_path / "out", SHORT)
    found = rows(tmp_path / "out")
    assert [row["id"] for row in found] == [item.id for item in items]
    assert (applied.items, applied.failed) == (len(items), 0)
    assert applied.changed > 0
    for row, item in list(zip(found, items, strict=True))[:: max(1, len(items) // 4)]:
        batch = model.prepare([item.prompt], [item.picture.open()] if item.picture else None)
        assert row["bare"] == model.generate(batch, max_new_tokens=5).texts[0]
        assert row["edited"] == model.generate(batch, made.edits, max_new_tokens=5).texts[0]
    assert hash_tensors(model.model.state_dict()) == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["answers.parquet", "summary.json"]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["hooks"][0]["tokens"] > 0


def test_recipes_compose_and_prompts_with_and_without_pictures_mix(tiny_llava, folder, tmp_path):
    one, two = recipe(tiny_llava), Recipe.of(tiny_llava, "no", [PromptEdit("no , no")])
    items = [*read_items(str(folder), texts=WORDS[:1]), Item("words", WORDS[1])]
    apply(tiny_llava, [one, two], items, tmp_path / "out", SHORT)
    edits = [*one.edits, *two.edits]
    batch = tiny_llava.prepare([WORDS[0]], [items[2].picture.open()], edits=edits)
    assert rows(tmp_path / "out")[2]["edited"] == tiny_llava.generate(batch, edits, max_new_tokens=5).texts[0]
    assert rows(tmp_path / "out")[-1]["image"] is None


def test_shut_gates_are_asked_once_and_bare_answers_are_optional(tiny_llava, folder, tmp_path, monkeypatch):
    d, calls = tiny_llava.width(tiny_llava.reading_site), []
    gate = ImageGate(ImageGate.directions(torch.ones(1, d)), torch.ones(2), 1e9, 1.0, 0.0)
    items = read_items(str(folder), texts=WORDS[:1])
    generate = tiny_llava.generate
    monkeypatch.setattr(tiny_llava, "generate", lambda *a, **k: (calls.append(1), generate(*a, **k))[1])
    apply(tiny_llava, [recipe(tiny_llava, gate)], items, tmp_path / "a", SHORT)
    assert len(calls) == 2
    assert all(row["bare"] == row["edited"] for row in rows(tmp_path / "a"))
    calls.clear()
    apply(tiny_llava, [recipe(tiny_llava)], items, tmp_path / "b", Settings(5, 4, bare=False))
    assert len(calls) == 2
    assert all(row["bare"] is None and row["edited"] for row in rows(tmp_path / "b"))


def test_what_cannot_be_asked_gets_a_reason_and_the_rest_its_answer(tiny_llava, folder, tmp_path):
    good = apply_texts(tiny_llava, folder, tmp_path / "good")
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:100])
    (folder / "words.jpg").write_text("no picture")
    items = read_items(str(folder), texts=WORDS[:1])
    items += [Item("token", "a <image> b", items[0].picture), Item("long", "cup " * 500, items[0].picture)]
    items += [Item("empty", "", items[0].picture)]
    applied = apply(tiny_llava, [recipe(tiny_llava)], items, tmp_path / "out", SHORT)
    found = {row["id"]: row for row in rows(tmp_path / "out")}
    assert applied.failed == 4
    assert "cannot be read" in found["broken.png#0"]["error"]
    assert "not a picture" in found["words.jpg#0"]["error"]
    assert "picture token" in found["token"]["error"]
    assert "takes 256" in found["long"]["error"]
    assert found["empty"]["error"] is None
    assert {name: found[name]["edited"] for name in good} == good


def apply_texts(model, folder, out):
    apply(model, [recipe(model)], read_items(str(folder), texts=WORDS[:1]), out, SHORT)
    return {row["id"]: row["edited"] for row in rows(out)}


def test_a_job_goes_on_where_it_stopped_and_refuses_to_mix_jobs(tiny_llava, folder, tmp_path, monkeypatch):
    items, out = read_items(str(folder), texts=WORDS), tmp_path / "out"
    whole = tmp_path / "whole"
    apply(tiny_llava, [recipe(tiny_llava)], items, whole, SHORT)
    asked, call = [], applying.Asker.__call__

    def stopping(self, some, images):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append([item.id for item in some])
        return call(self, some, images)

    monkeypatch.setattr(applying.Asker, "__call__", stopping)
    with pytest.raises(KeyboardInterrupt):
        apply(tiny_llava, [recipe(tiny_llava)], items, out, SHORT)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"unfinished job .* --resume"):
        apply(tiny_llava, [recipe(tiny_llava)], items, out, SHORT)
    with pytest.raises(ValueError, match="another job: it differs in items"):
        apply(tiny_llava, [recipe(tiny_llava)], items[:-1], out, SHORT, resume=True)
    with pytest.raises(ValueError, match="differs in recipes"):
        apply(tiny_llava, [recipe(tiny_llava, site=Site.parse("projector.in"))], items, out, SHORT, resume=True)
    # a kill in the middle of a line
    with (out / applying.JOURNAL).open("a") as file:
        file.write('{"batch": 3, "rows": [[1, "ha')
    applied = apply(tiny_llava, [recipe(tiny_llava)], items, out, SHORT, resume=True)
    assert applied.resumed == 2
    assert (out / "answers.parquet").read_bytes() == (whole / "answers.parquet").read_bytes()


def test_another_models_recipe_is_refused_before_anything_is_written(tiny_llava, tiny_llama, tmp_path):
    with pytest.raises(RecipeError, match="another config"):
        apply(tiny_llama, [recipe(tiny_llava)], [Item("1", "hi")], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_killed_twice_and_resumed_the_answers_are_the_same(tmp_path):
    from concept_forget.model import HookedModel
    from concept_forget.worlds import sample

    model, place = HookedModel.load("tiny-llava"), tmp_path / "pictures"
    place.mkdir()
    for number, scene in enumerate(sample("test", 48, 5)):
        scene.image.save(place / f"{number}.png")
    site = model.reading_site
    rows_ = FeatureRows(
        torch.eye(model.width(site))[:4], torch.zeros(4), torch.zeros(4), torch.eye(model.width(site))[:4]
    )
    Recipe.of(model, "red", [FeatureClamp(site, rows_, strength=3.0)]).save(tmp_path / "recipe")
    (tmp_path / "words.txt").write_text("what colour is it?\n")
    command = [sys.executable, "-m", "app", "apply", str(tmp_path / "recipe"), "--images", str(place)]
    command += [
        "--prompts",
        str(tmp_path / "words.txt"),
        "--batch-size",
        "4",
        "--max-new-tokens",
        "6",
        "--resume",
        "--json",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def run(out: str) -> subprocess.Popen:
        return subprocess.Popen(
            [*command, "--out", str(tmp_path / out)], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
        )

    assert run("whole").wait() == 0
    journal = tmp_path / "killed" / applying.JOURNAL
    for lines in (4, 8):
        process = run("killed")
        while process.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") >= lines):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert run("killed").wait() == 0
    assert (tmp_path / "killed" / "answers.parquet").read_bytes() == (
        tmp_path / "whole" / "answers.parquet"
    ).read_bytes()
    assert json.loads((tmp_path / "killed" / "summary.json").read_text())["resumed"] >= 6


def test_pictures_come_from_folders_globs_and_parquet(folder, tmp_path):
    names = [f"{number}.png" for number in range(6)]
    assert [item.id for item in read_items(str(folder), texts=["hi"])] == [f"{name}#0" for name in names]
    assert len(read_items(str(folder / "[0-2].png"), texts=["hi"])) == 3
    data = [(folder / name).read_bytes() for name in names]
    table = pa.table({"image": [{"bytes": one, "path": None} for one in data], "question": ["hi"] * 6})
    pq.write_table(table, tmp_path / "set.parquet", row_group_size=2)
    found = read_items(str(tmp_path / "set.parquet"))
    assert [item.prompt for item in found] == ["hi"] * 6
    for item, name in zip(found, names, strict=True):
        assert item.picture is not None
        assert item.picture.open().tobytes() == Image.open(folder / name).convert("RGB").tobytes()
    lines = [{"prompt": "a", "image": "1.png", "id": "x"}, {"prompt": "b"}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert [item.id for item in read_items(str(folder), tmp_path / "rows.jsonl")][:2] == ["x", "0.png#1"]
    (tmp_path / "rows.csv").write_text("prompt,id\nhello,7\n")
    assert read_items("", tmp_path / "rows.csv") == [Item("7", "hello")]


@pytest.mark.parametrize(
    ("images", "text", "name", "reason"),
    [
        ("nowhere", "hi", "p.txt", "no such folder"),
        ("*.nothing", "hi", "p.txt", "no pictures there"),
        ("", "", "p.txt", "nothing to ask"),
        ("", "{", "p.jsonl", "cannot be read"),
        ("", "[1]", "p.jsonl", "expected an object"),
        ("", '{"prompt": 3}', "p.jsonl", "no text under prompt"),
        ("", '{"prompt": "a", "image": 3}', "p.jsonl", "path of a picture"),
        ("", '{"prompt": "a", "image": ["b", "c"]}', "p.jsonl", "takes one or none"),
        ("", '{"prompt": "a", "id": 1}\n{"prompt": "b", "id": 1}', "p.jsonl", "occurs twice"),
        ("", '{"prompt": "\\ud800"}', "p.jsonl", "half a character"),
        ("", "x", "p.parquet", "not a parquet file"),
    ],
)
def test_unreadable_lists_are_refused_with_the_reason(images, text, name, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=reason):
        read_items(images, name)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I", "I;16", "F"])
def test_every_mode_becomes_rgb(mode, tmp_path):
    suffix = "tif" if mode in ("CMYK", "YCbCr", "F", "I") else "png"
    if mode == "I;16":
        image = Image.fromarray(np.full((5, 7), 40000, np.uint16))
    elif mode == "YCbCr":
        image, suffix = Image.new(mode, (7, 5)), "jpg"
    else:
        image = Image.new(mode, (7, 5))
    image.save(tmp_path / f"a.{suffix}")
    made = Picture("a", tmp_path / f"a.{suffix}").open()
    assert (made.mode, made.size) == ("RGB", (7, 5))
    if mode == "I;16":
        assert abs(made.getpixel((0, 0))[0] - 40000 / 257) < 2
    with pytest.raises(UnreadablePictureError):
        Picture("gone", tmp_path / "gone.png").open()


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """Configs of the two models this is for, without weights."""
    place = tmp_path_factory.mktemp("configs")
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    vision |= {"image_size": 336, "patch_size": 14, "projection_dim": 768}
    text = LlamaConfig(
        vocab_size=32064,
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=32,
        num_attention_heads=32,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
    )
    llava = LlavaConfig(
        vision_config=CLIPVisionConfig(**vision),
        text_config=text,
        image_token_id=32000,
        image_seq_length=576,
        tie_word_embeddings=False,
        dtype="bfloat16",
    )
    llava.save_pretrained(place / "7b")
    sight = {"image_size": 560, "max_num_tiles": 4, "intermediate_layers_indices": [3, 7, 15, 23, 30]}
    mllama = MllamaConfig(
        vision_config=MllamaVisionConfig(**sight, vision_output_dim=7680),
        text_config=MllamaTextConfig(cross_attention_layers=[3, 8, 13, 18, 23, 28, 33, 38], tie_word_embeddings=False),
        image_token_index=128256,
        dtype="bfloat16",
    )
    mllama.save_pretrained(place / "11b")
    return place


@pytest.mark.parametrize(
    ("name", "weights", "picture_tokens"), [("7b", 14_126_854_144, 576), ("11b", 21_340_441_670, 1)]
)
def test_the_plan_of_the_large_models_needs_no_weights(name, weights, picture_tokens, big, folder, tmp_path, capsys):
    Recipe("owner/model", None, "x", "red", ()).save(tmp_path / "r")
    arguments = ["apply", str(tmp_path / "r"), "--model", str(big / name), "--images", str(folder), "--prompt", "hi"]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--dry-run", "--json", "--batch-size", "2", "--out", str(tmp_path / "out")])
    out, err = capsys.readouterr()
    assert ended.value.code == 0, err
    about = json.loads(out)
    assert (about["items"], about["batches"], about["weights"]) == (6, 3, weights)
    assert about["longest"] == picture_tokens + 64 + 1
    if name == "7b":
        assert about["cache"] == 2 * 2 * (2 * 4096) * 32 * about["longest"]
    assert about["seconds"] > 0
    assert not (tmp_path / "out").exists()


def test_batches_are_of_one_kind_and_of_similar_length(tiny_llava, folder):
    items = read_items(str(folder), texts=WORDS) + [Item(f"w{n}", word) for n, word in enumerate(WORDS)]
    made = plan(tiny_llava, items, 8, batch_size=4)
    assert sorted(index for batch in made.batches for index in batch) == list(range(len(items)))
    for batch in made.batches:
        assert len({items[index].picture is None for index in batch}) == 1
        lengths = [
            len(tiny_llava.tokenizer(items[index].prompt, add_special_tokens=False)["input_ids"]) for index in batch
        ]
        assert max(lengths) - min(lengths) < 8


def test_show_says_when_a_recipe_holds_what_it_hides(tiny_llama, tmp_path, capsys):
    gate = PromptGate(torch.zeros(8), torch.ones(8), ((torch.zeros(2, 8), torch.zeros(2)),))
    rule = GuardRule(Site("text", 2, "resid"), gate, (("Kestrel",),), torch.ones(1, 8), (0,))
    for edit, warned in ((rule, True), (PromptEdit("no"), False)):
        Recipe.of(tiny_llama, "ada", (edit,), Guard()).save(tmp_path / str(warned))
        with pytest.raises(SystemExit):
            main(["recipe", "show", str(tmp_path / str(warned))])
        assert ("in plain text" in " ".join(capsys.readouterr().out.split())) == warned


def test_bad_input_is_exit_2_and_4_bit_without_its_package_is_told(tmp_path, capsys):
    Recipe("tiny-llava", None, "x", "red", ()).save(tmp_path / "r")
    for arguments, reason in (
        (["apply", str(tmp_path / "none"), "--prompt", "hi"], "is not a recipe"),
        (["apply", str(tmp_path / "r"), "--prompt", "hi"], "another config"),
        (["apply", str(tmp_path / "r"), "--prompt", "hi", "--quantize", "int4"], "bitsandbytes"),
        (["recipe", "check", str(tmp_path / "r")], "another config"),
        (["recipe", "show", str(tmp_path)], "is not a recipe"),
    ):
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--json"])
        out, err = capsys.readouterr()
        assert ended.value.code == 2
        assert reason in " ".join(err.split())
        assert out == ""
