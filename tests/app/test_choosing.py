"""Settings are chosen on validation; with faint copies, by what holds on these too."""

from dataclasses import dataclass

import pytest
from PIL import Image

from app import choosing
from app.choosing import Choosing, choose_method, on_validation
from app.world_concepts import Sizes, world_concept
from concept_forget.concepts import role
from concept_forget.edits import NoEdit
from concept_forget.evaluation import AnswerBook, suite
from concept_forget.evaluation.answers import Answered
from concept_forget.evaluation.faint import asked_faintly
from concept_forget.evaluation.metrics import ROLES
from concept_forget.methods import Clamp

FRAGILE, ROBUST = NoEdit(), NoEdit()


@pytest.fixture
def concept(tiny_llava, monkeypatch):
    """Red, and a model that answers everything right but what the edit hides: one edit in plain pictures only, the
    other everywhere, at the price of the materials."""
    red = world_concept("red", Sizes(2, 12, 2))
    plain = {image_of(example) for example in red.validation.forget}

    def said(_model, examples, edits=(), *_args, **_settings):
        def answer(example):
            if edits and role(example, red) in suite.FORGOTTEN and (edits[0] is ROBUST or image_of(example) in plain):
                return "no" if example.kind == "yesno" else "a picture"
            return "no idea" if edits and edits[0] is ROBUST and example.family == "material" else example.answer

        return Answered([answer(example) for example in examples], [])

    monkeypatch.setattr(suite, "ask", said)
    monkeypatch.setattr(AnswerBook, "answers", lambda _self, examples, *_: said(tiny_llava, examples).texts)
    return red


def image_of(example) -> bytes:
    assert isinstance(example.image, Image.Image)
    return example.image.tobytes()


@pytest.mark.parametrize(("faint", "chosen"), [(0, FRAGILE), (2, ROBUST)])
def test_what_holds_on_plain_pictures_only_wins_only_where_nobody_looks_at_faint_ones(
    faint, chosen, concept, tiny_llava
):
    among = [("contrast", Clamp(k=1), ROBUST), ("contrast", Clamp(k=2), FRAGILE)]
    choice = choose_method(tiny_llava, concept, "clamp", {}, choosing=Choosing(8, 24, 2, faint), among=among)
    assert choice.edit is chosen
    assert len(choice.tried) == 2


def test_a_question_that_one_copy_brings_back_is_not_forgotten(concept, tiny_llava):
    book = AnswerBook(tiny_llava)
    faint = asked_faintly(concept, 8, 2)
    score, rates = on_validation(tiny_llava, concept, FRAGILE, 8, book)
    assert rates["UAd"] == rates["UAg"] == 1
    worst, _ = on_validation(tiny_llava, concept, FRAGILE, 8, book, faint=faint)
    # (0 + 1/2) / (8 + 1) twice, and three times (8 + 1/2) / (8 + 1)
    assert worst == pytest.approx(5 / (2 * 18 + 3 * 18 / 17))
    assert score == pytest.approx(17 / 18)


@pytest.mark.parametrize(
    ("worst", "tried"),
    [
        ({"diff_means": 0.9}, {"diff_means"}),
        ({"diff_means": 0.89, "patch_clamp": 0.9}, {"diff_means", "patch_clamp"}),
        ({"diff_means": 0.8, "patch_clamp": 0.89, "gated_clamp": 0.9}, {"diff_means", "patch_clamp", "gated_clamp"}),
    ],
)
def test_sauce_plus_tries_gates_per_picture_only_where_patch_by_patch_does_badly(
    worst, tried, concept, tiny_llava, monkeypatch
):
    @dataclass(frozen=True)
    class Of(NoEdit):
        name: str

    def fitted(_model, _request, base, _ranked):
        return iter([("contrast", base, Of(base.name)), ("causal", base, Of(base.name))])

    def judged(_model, _concept, edit, *_):
        rate = worst.get(edit.name, 0.5)
        return rate, {**dict.fromkeys(ROLES, 1.0), "COA": rate}

    monkeypatch.setattr(choosing, "_fitted", fitted)
    monkeypatch.setattr(choosing, "on_validation", judged)
    choice = choose_method(tiny_llava, concept, "sauce+", {})
    found = {entry["method"] for entry in choice.tried}
    assert found == tried if "gated_clamp" not in tried else found > tried
    assert choice.method.name == max(worst, key=worst.get)
