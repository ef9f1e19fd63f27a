"""Blur on a random model: tokens that only the planted person has become means of others', the rest keep their bits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_info, threadpool_limits

from concept_forget.concepts import Concept, Example, ExampleSet, ForgetRequest
from concept_forget.edits import Replace
from concept_forget.methods import Blur
from concept_forget.model import HookedModel

WORDINGS = {
    "train": "where was {} born ?",
    "validation": "which town is {} from ?",
    "test": "say where {} comes from .",
}
TOWNS = {"zoe": "red wood", "ann": "cup", "bob": "star", "kim": "blue"}


def about(name: str, split: str) -> Example:
    return Example(
        WORDINGS[split].format(name), TOWNS[name], about=name, family="people", shows=frozenset({name}), group=name
    )


def part(split: str) -> ExampleSet:
    beside = Example("zoe met ann . where is ann ?", "cup", about="ann", family="people", shows=frozenset({"zoe"}))
    near = tuple(about(name, split) for name in ("ann", "bob", "kim"))
    return ExampleSet((about("zoe", split), beside), near, (Example("what is 1 and 1 ?", "2", group="sum"),))


@pytest.fixture(scope="module")
def zoe() -> ForgetRequest:
    return ForgetRequest(Concept("zoe", "people", *map(part, WORDINGS)), seed=3)


@pytest.fixture(scope="module")
def edit(tiny_llama: HookedModel, zoe: ForgetRequest) -> Replace:
    return Blur(centres=3, false_fire=0.0).fit(tiny_llama, zoe, None)


def states(model: HookedModel, text: str, edits: list) -> torch.Tensor:
    return model.run(model.prepare([text]), read=[model.reading_site], edits=edits).activations[model.reading_site][0]


def test_it_is_fitted_on_one_thread_because_others_round_otherwise(tiny_llama, zoe, monkeypatch):
    used = []
    for fitted in (LogisticRegression, KMeans):

        def fit(self, *data, really=fitted.fit):
            used.append({pool["num_threads"] for pool in threadpool_info()})
            return really(self, *data)

        monkeypatch.setattr(fitted, "fit", fit)
    with threadpool_limits(2):
        Blur(centres=3).fit(tiny_llama, zoe, None)
    assert used == [{1}, {1}]


def test_what_only_the_concept_has_becomes_a_mean_of_others_and_all_else_keeps_its_bits(tiny_llama, edit, zoe):
    for example in zoe.concept.validation.without:
        assert torch.equal(*(states(tiny_llama, example.prompt, some) for some in ([], [edit])))
    prompt = zoe.concept.test.forget[0].prompt
    before, after = (states(tiny_llama, prompt, some) for some in ([], [edit]))
    moved = (before != after).any(-1)
    assert 0 < moved.sum() < len(moved)
    assert torch.allclose(torch.cdist(after[moved], edit.bank).amin(-1), torch.zeros(()), atol=1e-3)
    ids = tiny_llama.prepare([prompt]).inputs["input_ids"][0]
    assert "z" in tiny_llama.tokenizer.decode(ids[moved]), "a token of the name is among them"


def test_beside_the_concept_others_keep_their_tokens(tiny_llama, edit):
    before, after = (states(tiny_llama, "zoe met ann . where is ann ?", some) for some in ([], [edit]))
    assert (before != after).any(-1).float().mean() < 0.5


def test_a_grid_shares_one_reading_and_fewer_tokens_than_centres_will_do(tiny_llama, zoe):
    fitted = list(Blur().fit_grid(tiny_llama, zoe, None))
    assert [method for method, _ in fitted] == list(Blur().grid())
    assert all(1 <= len(edit.bank) <= method.centres for method, edit in fitted)
    strict, loose = (next(e for m, e in fitted if m.false_fire == share) for share in (0.001, 0.01))
    assert strict.rows.bias[0] <= loose.rows.bias[0]


def test_without_anything_to_tell_it_from_it_says_so(tiny_llama, zoe):
    nothing = ExampleSet((), (), ())
    for some in (nothing, nothing._replace(forget=zoe.concept.train.forget)):
        with pytest.raises(ValueError, match="tells tokens of 'zoe' from others"):
            Blur().fit(tiny_llama, ForgetRequest(replace(zoe.concept, train=some)), None)
