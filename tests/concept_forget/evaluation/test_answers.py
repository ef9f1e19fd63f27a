from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from PIL import Image

from concept_forget.concepts import Example
from concept_forget.edits.base import SiteEdit
from concept_forget.evaluation.answers import AnswerBook, _batches, answers, ask
from concept_forget.evaluation.sharing import looked_at_once
from concept_forget.model import Generation
from concept_forget.sites import Site


@dataclass(frozen=True, eq=False)
class Half(SiteEdit):
    site: Site
    gate: object = None

    def transform(self, x):
        return x * 0.5


def noise(seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def questions():
    pictures = [noise(seed) for seed in range(3)]
    prompts = [("what is shown ?", "cup", "short"), ("is there a star ?", "yes", "yesno"), ("colour ?", "red", "short")]
    made = [
        Example(prompt, answer, image=pictures[k], kind=kind, group=str(k))
        for prompt, answer, kind in prompts
        for k in range(3)
    ]
    return [*made, Example("what is shown here ?", "a red cup on wood", image=pictures[1], kind="caption", group="1")]


def test_answers_come_in_the_order_of_the_examples_whatever_the_batches(tiny_llava, questions):
    together = answers(tiny_llava, questions, batch_size=64)
    assert len(set(together)) > 3, "answers must differ, or their order shows nothing"
    assert together == answers(tiny_llava, questions, batch_size=1)
    order = [4, 9, 0, 7, 2, 8, 1, 5, 3, 6]
    assert [together[k] for k in order] == answers(tiny_llava, [questions[k] for k in order], batch_size=3)


@pytest.mark.parametrize("name", ["tiny_llava", "tiny_mllama", "tiny_paligemma"])
@pytest.mark.parametrize("place", [None, "vision.1.resid", "projector.in", "projector.out", "text.1.resid"])
def test_looking_at_each_picture_once_changes_no_logit_with_or_without_an_edit(name, place, request):
    model = request.getfixturevalue(name)
    pictures = [noise(k) for k in (5, 6)] if name != "tiny_mllama" else [noise(5), noise(6).resize((64, 32))]
    order = [0, 1, 0, 0, 1]
    edits = [Half(Site.parse(place))] if place else []
    batch = model.prepare(["what is shown ?", "a cup ?", "red ?", "is it wood ?", "star"], [pictures[k] for k in order])
    plain = model.run(batch, edits=edits).logits
    with looked_at_once(model, batch, order):
        shared = model.run(batch, edits=edits)
    torch.testing.assert_close(shared.logits, plain, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(plain[0], plain[1], atol=1e-3), "the pictures must matter, or this shows nothing"
    torch.testing.assert_close(model.run(batch, edits=edits).logits, plain, atol=0, rtol=0)
    if place:
        bare = model.run(batch).logits
        assert not torch.allclose(bare, plain, atol=1e-4)
        alone = batch if place.startswith("text") else model.prepare(["cup", "cup"], pictures)
        assert shared.hooks[0].tokens == model.run(alone, edits=edits).hooks[0].tokens, "an edit acts once per picture"


def test_the_tower_runs_once_per_distinct_picture(tiny_llava):
    rows = []
    handle = tiny_llava.anatomy.vision[0].register_forward_hook(lambda _m, args, _o: rows.append(len(args[0])))
    try:
        same = noise(1)
        ask(tiny_llava, [Example(f"is there a {word} ?", "yes", image=same, kind="yesno") for word in "abcde"])
    finally:
        handle.remove()
    assert set(rows) == {1}


def test_a_batch_holds_one_kind_and_keeps_a_picture_together(questions):
    for rows, budget in _batches(questions, range(10), {"short": 1, "yesno": 2, "caption": 3}, 4):
        assert len({questions[row].kind for row in rows}) == 1
        assert {questions[row].kind for row in rows} == {["", "short", "yesno", "caption"][budget]}
        groups = [questions[row].group for row in rows]
        assert groups == sorted(groups) and len(rows) <= 4


def test_hook_statistics_add_up_over_batches(tiny_llava, questions):
    edit = Half(Site.parse("text.1.resid"))
    # captions are never asked for a second time, so the number of passes is known
    captions = [replace(question, kind="caption") for question in questions[:3]]
    one = ask(tiny_llava, captions, [edit]).hooks
    many = ask(tiny_llava, captions, [edit], batch_size=1).hooks
    assert len(one) == len(many) == 1
    assert many[0].calls == 3 * one[0].calls
    assert many[0].tokens == one[0].tokens > 0
    assert many[0].mean_abs_delta == pytest.approx(one[0].mean_abs_delta, rel=1e-3)


def test_a_talkative_model_is_asked_again_with_more_room(tiny_llava, monkeypatch):
    budgets = []

    def talk(_batch, max_new_tokens, **_):
        budgets.append(max_new_tokens)
        return Generation(
            ["well the thing in the picture is a cup" if max_new_tokens > 20 else "well the thing in"], []
        )

    monkeypatch.setattr(tiny_llava, "generate", talk)
    assert answers(tiny_llava, [Example("what ?", "cup")]) == ["well the thing in the picture is a cup"]
    assert len(budgets) == 2 and budgets[0] < 8 < budgets[1]
    monkeypatch.setattr(tiny_llava, "generate", lambda _batch, **_: Generation(["a cup, I would think it is"], []))
    assert answers(tiny_llava, [Example("what ?", "cup")]) == ["a cup, I would think it is"]


def test_a_caption_that_nobody_wrote_down_is_not_cut_short(tiny_llava, monkeypatch):
    budgets = []

    def describe(_batch, max_new_tokens, **_):
        budgets.append(max_new_tokens)
        return Generation(["a photo of a cup"], [])

    monkeypatch.setattr(tiny_llava, "generate", describe)
    answers(tiny_llava, [Example("Describe the picture.", "", kind="caption")])
    answers(tiny_llava, [Example("Describe the picture.", "a cup", kind="caption")])
    assert budgets[0] >= 48 > budgets[1]


def test_the_book_asks_every_question_once_also_when_the_example_is_made_anew(tiny_llava, questions, monkeypatch):
    book = AnswerBook(tiny_llava)
    said = book.answers(questions)
    assert said == answers(tiny_llava, questions)
    again = [replace(question, image=question.image.copy(), about="cup") for question in questions]
    monkeypatch.setattr(tiny_llava, "generate", lambda *_, **__: pytest.fail("asked twice"))
    assert book.answers(again) == said
    assert len(book) == len(questions)


def test_progress_reaches_the_end(tiny_llava, questions):
    seen = []
    answers(tiny_llava, questions, batch_size=4, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (10, 10)
    assert seen == sorted(seen)


def test_no_examples_no_answers(tiny_llava):
    assert ask(tiny_llava, []).texts == []
