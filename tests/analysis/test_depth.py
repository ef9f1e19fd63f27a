"""Unlearning depth: 0 for the full model, 1 for the one that never knew, whatever kind of edit carries it."""

import copy

import numpy as np
import pytest
import torch

from analysis import depth as d
from analysis.relearning import Relearning, relearned
from concept_forget.edits import Edit, NoEdit, PromptEdit, Shift
from concept_forget.edits.decoding import DecodingRule
from concept_forget.edits.weights import WeightDelta
from concept_forget.evaluation.text import Item, read
from concept_forget.model import HookedModel
from concept_forget.sites import Site

ITEMS = [
    Item("a red cup", "what is shown here ?", group="a"),
    Item("wood", "which colour is the cup ?", "Answer:", group="b"),
    Item("yes", "is there a star ?", group="c"),
]


@pytest.fixture(scope="module")
def full(tiny_llama):
    """A model that has learned the answers, until the tests are through."""
    model = HookedModel(copy.deepcopy(tiny_llama.model), tiny_llama.tokenizer, "knows")
    with relearned(model, ITEMS, settings=Relearning(epochs=40, rate=3e-3)):
        yield model


@pytest.fixture(scope="module")
def twin(tiny_llama):
    """Its like that never did."""
    return tiny_llama


def test_the_full_model_has_a_depth_of_0_and_the_retain_model_of_1(full, twin):
    first = d.against_retain(full, twin, ITEMS)
    assert (first.drop > d.KNOWS).any()
    intact = d.depth(full, first, resamples=50)
    erased = d.depth(full, first, unlearned=twin, resamples=50)
    assert intact.uds.value == pytest.approx(0, abs=1e-4)
    assert erased.uds.value == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(erased.second, erased.first, atol=1e-4)
    assert intact.to_json()["kind"] == "retain"


def test_an_edit_that_turns_the_model_into_its_twin_is_as_deep_as_the_twin(full, twin):
    class Swap(Edit):
        def attached(self, model):
            from contextlib import contextmanager

            @contextmanager
            def swapped():
                kept = copy.deepcopy(model.model.state_dict())
                model.model.load_state_dict(twin.model.state_dict())
                try:
                    yield
                finally:
                    model.model.load_state_dict(kept)

            return swapped()

    first = d.against_retain(full, twin, ITEMS)
    assert d.depth(full, first, [Swap()], resamples=50).uds.value == pytest.approx(1, abs=1e-4)
    assert d.depth(full, first, [NoEdit()], resamples=50).uds.value == pytest.approx(0, abs=1e-4)


def test_a_hook_edit_of_a_late_layer_leaves_the_layers_before_it_intact(full, twin):
    first = d.against_retain(full, twin, ITEMS)
    site = Site("text", 2, "resid")
    edit = Shift(site, torch.full((full.width(site),), 4.0))
    found = d.depth(full, first, [edit], resamples=50)
    np.testing.assert_allclose(found.second[:2], 0, atol=1e-4)
    assert abs(found.second[2]) > 0.05
    assert 0 <= found.uds.value < 1


def test_the_last_layers_state_alone_decides_the_answer(full, twin):
    """Patched at the last block, the full model says exactly what the source says: a check of the positions."""
    first = d.against_retain(full, twin, ITEMS)
    says = [-reading.loss for reading in read(twin, ITEMS)]
    # the head differs between the two, so only with its own head
    theirs = d.patched(twin, ITEMS, first.sites, d.states(twin, ITEMS))[:, -1]
    np.testing.assert_allclose(theirs, says, atol=1e-4)
    np.testing.assert_allclose(first.clean, [-reading.loss for reading in read(full, ITEMS)], atol=1e-4)


def test_batched_equals_one_by_one(full, twin):
    many = d.against_retain(full, twin, ITEMS, batch_size=8)
    one = d.against_retain(full, twin, ITEMS, batch_size=1)
    np.testing.assert_allclose(many.drop, one.drop, atol=2e-4)


def test_a_prompt_edit_is_measured_at_the_answer_although_the_prompt_is_longer(full, twin):
    first = d.against_retain(full, twin, ITEMS)
    found = d.depth(full, first, [PromptEdit("a red cup on wood .")], resamples=50)
    assert np.abs(found.second).max() > 1e-3


def test_without_a_retain_model_the_source_is_asked_about_somebody_else(full):
    others = ["boat", "stone", "wood", "star"]
    first = d.against_replacement(full, ITEMS, "cup", others)
    assert first.kind == "retain-free"
    assert [item.group for item in first.items] == ["b"]  # the only prompt that names it
    assert d.depth(full, first, resamples=50).uds.n <= 1
    with pytest.raises(LookupError, match="equal length"):
        d.against_replacement(full, ITEMS, "nobody", others)


class Silent(DecodingRule):
    def opens(self, model, batch):  # noqa: ARG002
        return torch.zeros(batch.size, dtype=torch.bool)

    def settings_for(self, model, batch, stat):  # noqa: ARG002
        return {}


def test_rules_of_decoding_have_no_depth(full, twin):
    first = d.against_retain(full, twin, ITEMS)
    with pytest.raises(d.NotApplicable, match="no activation"):
        d.depth(full, first, [Silent()])


def test_models_of_another_shape_are_refused(full, tiny_gpt2):
    with pytest.raises(ValueError, match="between twins"):
        d.against_retain(full, tiny_gpt2, ITEMS)


def test_relearning_teaches_and_leaves_the_model_as_it_was(tiny_llama):
    before = {name: value.clone() for name, value in tiny_llama.model.state_dict().items()}
    losses = [np.mean([reading.loss for reading in read(tiny_llama, ITEMS)])]
    site = Site("text", 1, "resid")
    hook = Shift(site, torch.full((tiny_llama.width(site),), 0.5))
    for edits in ((), (hook,), (PromptEdit("yes no"),)):
        with relearned(tiny_llama, ITEMS, edits, Relearning(epochs=10, rate=3e-3)) as left:
            assert left == edits
            losses.append(np.mean([reading.loss for reading in read(tiny_llama, ITEMS, left)]))
        assert all(torch.equal(value, before[name]) for name, value in tiny_llama.model.state_dict().items())
    assert max(losses[1:]) < losses[0] / 2
    with pytest.raises(ValueError, match="nothing to learn"), relearned(tiny_llama, []):
        pass


def test_relearning_starts_from_the_edited_weights(tiny_llama):
    name = "model.layers.0.mlp.down_proj.weight"
    weight = tiny_llama.model.state_dict()[name].clone()
    edit = WeightDelta({name: torch.randn(weight.shape) * 0.3})
    with edit.attached(tiny_llama):
        edited = tiny_llama.model.state_dict()[name].clone()
    with relearned(tiny_llama, ITEMS[:1], [edit], Relearning(epochs=1, rate=1e-5)) as left:
        assert left == ()
        torch.testing.assert_close(tiny_llama.model.state_dict()[name], edited, atol=1e-4, rtol=0)
    assert torch.equal(tiny_llama.model.state_dict()[name], weight)
