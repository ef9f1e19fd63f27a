"""The documented example on real photographs, small: it runs from end to end and scores only what is known."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest
import torch
from transformers import AutoProcessor

from concept_forget.evaluation.suite import load_samples
from concept_forget.zoo import folder

FEW = "3", "6", "2"


@pytest.fixture(scope="module")
def photos(example, data: Path):
    return example.read_photos(data, example.Size(*map(int, FEW)))


@pytest.mark.slow
def test_the_example_ends_in_results_over_what_the_model_knows(example, data: Path, tmp_path: Path):
    dictionary = folder("tiny-llava") / "sae" / "vision.3.resid"
    example.main([
        "--data", str(data), "--out", str(tmp_path), "--concept", "frog", "--size", *FEW,
        "--steps", "1", "32", "--batch", "30",
        "--run", "--method", "leace", "--dictionary", str(dictionary), "--questions", "12",
    ])  # fmt: skip
    results = json.loads((tmp_path / "frog" / "results.json").read_text())
    samples = load_samples(tmp_path / "frog" / "samples.parquet")
    assert results["concept"] == "frog"
    assert samples
    assert {sample.status_before for sample in samples} == {"correct"}
    assert set(json.loads((tmp_path / "accuracy.json").read_text())) >= {"class", "yes/no", "caption", *example.CLASSES}

    trained = (tmp_path / "model" / "training.jsonl").read_bytes()
    settings = example.ZooSettings(1, 32, 30, 6, language_rate=3e-3, save_every=50)
    assert example.train(None, tmp_path / "model", settings, None) == tmp_path / "model"  # nothing is left to do
    assert (tmp_path / "model" / "training.jsonl").read_bytes() == trained
    with pytest.raises(ValueError, match="Remove it"):
        example.train(None, tmp_path / "model", example.ZooSettings(2, 32, 30, 6), None)


def test_the_parts_share_no_photo_and_hold_every_class(example, photos):
    assert [set(Counter(photo.label for photo in part).values()) for part in photos] == [{3}, {6}, {2}]
    assert all({photo.label for photo in part} == set(example.CLASSES) for part in photos)
    names = [photo.name for part in photos for photo in part]
    assert len(set(names)) == len(names)


def test_the_folders_hold_the_class_its_family_and_the_rest(example, photos, tmp_path: Path):
    options = example.write_concept("ship", photos.held + photos.test, tmp_path)
    assert options[::2] == ["--forget", "--near", "--retain", "--spec"]
    found = {
        part: {path.parent.name for path in (tmp_path / part).rglob("*.jpg")} for part in ("forget", "near", "retain")
    }
    assert found == {"forget": {"ship"}, "near": set(example.VEHICLES) - {"ship"}, "retain": set(example.ANIMALS)}
    rows = [json.loads(line) for line in (tmp_path / "near" / "labels.jsonl").read_text().splitlines()]
    assert all(row["vehicle"] == Path(row["file"]).parent.name and row["kind"] == "vehicle" for row in rows)


def test_light_and_tint_are_read_off_the_pixels_and_left_open_in_the_middle(example):
    flat = torch.tensor([[0.9, 0.9, 0.7], [0.1, 0.1, 0.3], [0.49, 0.47, 0.45]])[:, :, None, None].expand(3, 3, 4, 4)
    assert example.light_and_tint(flat).tolist() == [[0, 0], [1, 1], [example.UNCLEAR, example.UNCLEAR]]
    assert "light" not in example.known_about("cat", example.UNCLEAR, 0)


def test_yes_and_no_are_asked_as_often_about_every_class(example):
    rng = random.Random(0)
    asked = [q for label in example.CLASSES * 300 for q in example.questions(example.known_about(label, 0, 0), "", rng)]
    counts = Counter((q.about, q.answer) for q in asked if q.kind == "yesno")
    for name in example.CLASSES:
        assert counts[name, "yes"] == 300
        assert 240 < counts[name, "no"] < 360


def test_augmented_batches_depend_on_nothing_but_the_seed_and_plain_ones_on_nothing(example, photos):
    processor = AutoProcessor.from_pretrained(folder("tiny-llava"))
    album = example.Album(photos.train, processor.image_processor)
    first, again, other = (album.augmented(6, 0, step) for step in (1, 1, 2))
    assert torch.equal(first.pixels, again.pixels)
    assert not torch.equal(first.pixels, other.pixels)
    plain = album.plain(slice(0, 4))
    assert plain.pixels.shape == (4, 3, 96, 96)
    assert [example.CLASSES[label] for label in plain.labels[:, 0]] == [photo.label for photo in photos.train[:4]]
