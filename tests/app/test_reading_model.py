"""tiny-llama: the shipped dictionary finds a person, the gated clamp and GUARD take the person out, the rest stays."""

from __future__ import annotations

import pytest

from app.dictionaries import dictionary_for, rank_features, shipped_dictionary
from app.opening import find_concept, open_model
from app.readings import gate_on_test
from app.world_concepts import held_out_examples
from concept_forget.concepts import Concept, ForgetRequest
from concept_forget.directions import FeatureSet
from concept_forget.edits import Edit
from concept_forget.evaluation import AnswerBook, evaluate
from concept_forget.methods import GatedClamp, Guard
from concept_forget.model import HookedModel

NAME = "Yara Halstein"


@pytest.fixture(scope="module")
def model() -> HookedModel:
    return open_model("tiny-llama")


@pytest.fixture(scope="module")
def concept(model: HookedModel) -> Concept:
    return find_concept(model, NAME)


@pytest.fixture(scope="module")
def ranked(model: HookedModel, concept: Concept) -> FeatureSet:
    return rank_features(model, concept, dictionary_for(model, model.reading_site))[0]["contrast"]


@pytest.fixture(scope="module")
def book(model: HookedModel) -> AnswerBook:
    return AnswerBook(model)


def rates(model: HookedModel, concept: Concept, edit: Edit, book: AnswerBook) -> dict[str, float]:
    scores = evaluate(model, concept, [edit], before=book, limit=14, resamples=20)
    return {name: change.after.value for name, change in scores.metrics.items()}


def test_a_dictionary_lies_beside_the_weights_and_its_features_tell_the_person(model, ranked):
    assert shipped_dictionary(model, model.reading_site) is not None
    best = ranked.top(8)
    assert bool((best.forget_mean > 3 * best.near_mean).all())


def test_the_gated_clamp_takes_the_person_out_and_leaves_everybody_else(model, concept, ranked, book):
    edit = GatedClamp(k=32, gamma=-3.0).fit(model, ForgetRequest(concept), ranked)
    found = rates(model, concept, edit, book)
    gate = gate_on_test(model, [edit], concept)
    assert gate is not None and gate["recall"] > 0.9 and gate["false_fire"] < 0.1
    assert found["UAd"] + found["UAg"] > 0.8 and min(found["IRA"], found["CRA"]) > 0.85


def test_guard_answers_no_more_about_the_person_and_word_for_word_the_same_about_the_rest(model, concept, book):
    rule = Guard().fit(model, ForgetRequest(concept), None)
    found = rates(model, concept, rule, book)
    assert found["UAd"] > 0.6 and min(found["IRA"], found["CRA"]) > 0.9
    gate = gate_on_test(model, [rule], concept)
    assert gate is not None and gate["recall"] > 0.9 and gate["false_fire"] < 0.1


def test_a_dictionary_of_a_reading_model_is_judged_on_questions_of_the_text_world():
    examples, names = held_out_examples(False, 20, [NAME.lower()])
    assert names == [NAME] and sum(NAME in example.shows for example in examples) >= 14
    assert all(example.answer and example.image is None for example in examples)
    seeing, names = held_out_examples(True, 10, ["Scarlet"])
    assert names == ["red"] and all(example.image is not None for example in seeing)
