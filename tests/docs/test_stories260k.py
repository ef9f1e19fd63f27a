"""The documented example on a real story model, small: skipped where the data is absent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from concept_forget.concepts import Example
from concept_forget.model import HookedModel


@pytest.fixture(scope="module")
def model(example, data: Path) -> HookedModel:
    return HookedModel.load(str(data / example.MODEL))


def test_without_the_data_it_says_what_is_missing(example, tmp_path: Path):
    with pytest.raises(LookupError, match="no stories260K/config.json.*--data"):
        example.data_root(tmp_path)


def test_a_word_and_its_plural_count_and_words_that_hold_it_do_not(example):
    assert example.says("Dogs and a dog saw the doggy in a hotdog.", "dog") == 2


def test_stories_are_told_apart_by_what_is_in_them(example):
    stories = [f"the {word} ran to number {n} ." for word in ("dog", "cat", "girl") for n in range(10)]
    concept = example.concept_of(stories, "dog")
    assert [len(part) for part in concept.train] == [6, 6, 6]
    assert all("dog" in e.prompt for part in (concept.train, concept.test) for e in part.forget)
    assert example.concept_of(stories, "dog", seed=1).test != concept.test, "the seed deals the stories"
    assert all("cat" in e.prompt for e in concept.train.near) and all("girl" in e.prompt for e in concept.test.retain)


def test_the_story_model_tells_the_story_its_authors_print(model: HookedModel):
    batch = model.prepare(["Once upon a time, there was a"])
    assert model.generate(batch, max_new_tokens=12).texts[0].startswith("little girl named Lily")


def test_the_loss_on_real_stories_is_that_of_each_alone(example, model: HookedModel, data: Path):
    stories = example.read_stories(data, model, 20)
    total = count = 0.0
    for text in stories:
        ids = model.tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            log_p = model.model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])
        total, count = total + float(log_p.sum()), count + len(log_p)
    assert example.log_likelihood(model, [Example(text, "") for text in stories]) == pytest.approx(
        total / count, abs=1e-4
    )
    assert total / count > -2.0, "a model that never read stories would be near log(1/512) = -6.2"


def test_the_likelihood_of_a_word_is_that_of_its_tokens_alone(example, model: HookedModel):
    said = Example("Tom had a pet. It was a", "dog")
    batch = model.prepare([said.prompt], answers=["dog"])
    ids, answer = batch.inputs["input_ids"], batch.tokens.answer_mask[0]
    with torch.no_grad():
        log_p = model.model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0][answer[1:]].mean()
    assert example.log_likelihood(model, [said]) == pytest.approx(float(log_p), abs=1e-4)


@pytest.mark.slow
def test_the_example_ends_in_results(example, data: Path, tmp_path: Path):
    arguments = ["--data", str(data), "--out", str(tmp_path), "--stories", "200", "--steps", "60", "--each", "1"]
    results = example.main([*arguments, "--k", "2", "--gamma", "-2"])
    assert json.loads((tmp_path / "results.json").read_text())["features"] == results["features"]
    # Which way it goes is chance with a dictionary of 60 steps and one test story; that it goes anywhere is the edit.
    assert results["clamp"]["log p(dog)"]["value"] != results["before"]["log p(dog)"]["value"]
    assert len(results["random features"]) == 3
