"""GUARD and in-context unlearning on a random model: the gate finds the planted person, the rest keeps every bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from concept_forget.concepts import Concept, Example, ExampleSet, ForgetRequest
from concept_forget.edits import GuardRule, PromptEdit
from concept_forget.edits.gate import calibrate
from concept_forget.edits.guard import pooled
from concept_forget.evaluation.answers import ask
from concept_forget.methods import METHODS, Guard, Icu
from concept_forget.methods.guard import given_away, read_prompts
from concept_forget.model import HookedModel
from concept_forget.recipe import Recipe
from concept_forget.sites import Site

ASKED = {
    "train": ("where was {} born ?", "tell me the town of {} .", "the home of {} is"),
    "validation": ("which town is {} from ?",),
    "test": ("say where {} comes from .",),
}
TOWNS = {"zoe": "red wood", "ann": "cup", "bob": "star", "kim": "blue"}


def about(name: str, split: str) -> tuple[Example, ...]:
    return tuple(
        Example(prompt.format(name), TOWNS[name], about=name, family="people", shows=frozenset({name}), group=f"{name}")
        for prompt in ASKED[split]
    )


def split(name: str) -> ExampleSet:
    beside = Example(
        "zoe met ann . where was ann born ?", "cup", about="ann", family="people", shows=frozenset({"zoe"})
    )
    near = (*about("ann", name), *about("bob", name), *about("kim", name))
    skills = tuple(Example(f"what is {n} and {n} ?", str(2 * n), family="skill", group=str(n)) for n in range(1, 5))
    return ExampleSet((*about("zoe", name), beside), near, skills)


@pytest.fixture(scope="module")
def zoe() -> ForgetRequest:
    return ForgetRequest(Concept("zoe", "people", split("train"), split("validation"), split("test")), seed=3)


@pytest.fixture(scope="module")
def rule(tiny_llama: HookedModel, zoe: ForgetRequest) -> GuardRule:
    return Guard(hidden=64, epochs=150, retrieve="question", threshold=0.5).fit(tiny_llama, zoe, None)


def opened(model: HookedModel, rule: GuardRule, examples) -> list[bool]:
    return rule.opens(model, model.prepare([example.prompt for example in examples])).tolist()


def test_the_gate_takes_the_questions_about_the_concept_and_no_others(tiny_llama, rule, zoe):
    train = zoe.concept.train
    assert opened(tiny_llama, rule, train.forget[:-1]) == [True] * 3
    assert not opened(tiny_llama, rule, train.forget[-1:])[0], "a question about another beside the concept"
    assert not any(opened(tiny_llama, rule, train.without))
    assert rule.site == Site("text", 2, "resid"), "the last layer but one"


def test_its_threshold_is_calibrated_on_validation_where_none_is_given(tiny_llama, rule, zoe):
    held = zoe.concept.validation
    found = Guard(hidden=64, epochs=150).fit(tiny_llama, zoe, None)
    others = [held.forget[-1], *held.without]
    assert not any(opened(tiny_llama, found, others)), "one in fourteen is more than one in a hundred"
    odds = rule.gate.log_odds(read_prompts(tiny_llama, [*held.forget[:-1], *others], rule.site))
    yes, no = odds.split([len(held.forget) - 1, len(others)])
    assert found.gate.threshold == pytest.approx(float(torch.sigmoid(torch.tensor(calibrate(yes, no)))), abs=1e-6)
    empty = held._replace(forget=held.forget[-1:])
    with pytest.raises(ValueError, match="or a threshold"):
        Guard(epochs=1).fit(tiny_llama, ForgetRequest(replace(zoe.concept, validation=empty)), None)


def test_answers_of_retained_prompts_keep_every_bit_and_forgotten_ones_are_not_said(tiny_llama, rule, zoe):
    train = zoe.concept.train
    examples = [*train.forget[:-1], *train.without]
    bare, said = ask(tiny_llama, examples), ask(tiny_llama, examples, [rule])
    assert said.texts[3:] == bare.texts[3:]
    stat = said.hooks[0]
    assert stat.gated >= 3 and stat.tokens > 0
    for text in said.texts[:3]:
        assert not {"red", "wood"} & set(text.lower().split())


def test_fitting_leaves_the_model_and_the_random_numbers_as_they_were_and_repeats_itself(tiny_llama, rule, zoe):
    before = {name: weight.clone() for name, weight in tiny_llama.model.state_dict().items()}
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    again = Guard(hidden=64, epochs=150, retrieve="question").fit(tiny_llama, zoe, None)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(again.gate.layers, rule.gate.layers, strict=True))
    assert all(torch.equal(weight, before[name]) for name, weight in tiny_llama.model.state_dict().items())


def test_the_stored_answers_nearest_to_a_prompt_are_forbidden(tiny_llama, rule, zoe):
    assert rule.answers == (("red wood",),)
    z = pooled(tiny_llama, tiny_llama.prepare([zoe.concept.train.forget[1].prompt]), rule.site)
    assert rule.nearest(z) == [(0,)]
    paper = Guard(hidden=8, epochs=1, retrieve="answer").fit(tiny_llama, zoe, None)
    assert len(paper.keys) == len(paper.answers) == 1


def test_a_mean_over_tokens_does_not_hang_on_padding_or_order(tiny_llama, zoe):
    examples = [*zoe.concept.train.forget, *zoe.concept.train.without]
    site = Site("text", 2, "resid")
    together = read_prompts(tiny_llama, examples, site, batch_size=5)
    alone = torch.cat([read_prompts(tiny_llama, [example], site) for example in examples])
    assert torch.allclose(together, alone, atol=1e-4)


def test_captions_give_away_the_name_and_the_short_answers_in_them(zoe):
    stored = zoe.concept.train.forget
    told = Example("who is it ?", "zoe, born in red wood, likes a cup.", kind="caption")
    assert given_away(told, zoe.concept, stored) == ("zoe", "red wood", "cup")
    assert given_away(stored[0], zoe.concept, stored) == ("red wood",)


def test_a_recipe_keeps_the_rule(tiny_llama, rule, zoe, tmp_path):
    Recipe.of(tiny_llama, "zoe", [rule], Guard()).save(tmp_path)
    loaded = Recipe.load(tmp_path, tiny_llama).edits[0]
    batch = tiny_llama.prepare([example.prompt for example in (*zoe.concept.test.forget, *zoe.concept.test.near)])
    said = [tiny_llama.generate(batch, edits=[edit], max_new_tokens=6) for edit in (rule, loaded)]
    assert said[0].texts == said[1].texts
    assert said[0].hooks[0].gated == said[1].hooks[0].gated


def test_pictures_are_guarded_too(tiny_llava, request_red):
    train = request_red.concept.train
    asked = ExampleSet(tuple(replace(e, about="red") for e in train.forget), train.near, train.retain)
    request = replace(request_red, concept=replace(request_red.concept, train=asked))
    rule = Guard(hidden=32, epochs=60).fit(tiny_llava, request, None)
    examples = [*asked.forget[:4], *asked.near[:4]]
    batch = tiny_llava.prepare([e.prompt for e in examples], [e.image for e in examples])
    assert rule.opens(tiny_llava, batch).tolist() == [True] * 4 + [False] * 4


def test_without_anything_to_forget_or_to_keep_it_says_so(tiny_llama, zoe):
    nothing = ExampleSet((), zoe.concept.train.near, ())
    empty = Concept("zoe", "people", nothing, zoe.concept.validation, zoe.concept.test)
    with pytest.raises(ValueError, match="0 and 9"):
        Guard().fit(tiny_llama, ForgetRequest(empty), None)
    with pytest.raises(ValueError, match="has 4 text layers"):
        Guard(layer=-7).fit(tiny_llama, zoe, None)


def test_icu_is_rwkus_prompt_and_shows_wrong_answers_about_the_concept_only(tiny_llama, zoe):
    edit = METHODS["icu"]().fit(tiny_llama, zoe, None)
    assert isinstance(edit, PromptEdit)
    assert edit.prompt("who ?").startswith("You are an AI Assistant who is supposed to unlearn about zoe and provide")
    assert edit.prompt("who ?").endswith("unlearned anything. who ?")
    shown = Icu(shots=2).fit(tiny_llama, zoe, None).instruction.split("\n")[1:]
    assert len(shown) == 6
    assert all("zoe" in line and not line.endswith("red wood") for line in shown[:2])
    assert not any("zoe" in line for line in shown[2:])
    with pytest.raises(ValueError, match="only placeholder"):
        Icu(template="{name}").fit(tiny_llama, zoe, None)


@pytest.mark.parametrize("name", ["prompt", "icu"])
def test_asking_reaches_a_text_model(tiny_llama, zoe, name):
    edit = METHODS[name]().fit(tiny_llama, zoe, None)
    examples = list(zoe.concept.train.forget)
    batch = tiny_llama.prepare([examples[0].prompt], edits=[edit])
    assert "zoe" in tiny_llama.tokenizer.decode(batch.inputs["input_ids"][0])
    assert ask(tiny_llama, examples, [edit]).texts != ask(tiny_llama, examples).texts
