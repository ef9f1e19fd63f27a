"""A site that cannot reach the answer is found out before an edit pretends to work there."""

import copy
from dataclasses import dataclass

import pytest
import torch

from concept_forget.edits.base import SiteEdit
from concept_forget.model import DeadSiteError, HookedModel
from concept_forget.sites import Site


def test_every_site_but_the_unread_ones_is_live(tiny):
    dead = {str(site) for site in tiny.sites() if tiny.liveness(site) == 0}
    unread = {"vision.3.attn", "vision.3.mlp", "vision.3.resid"} if "llava" in tiny.name else set()
    assert dead == unread


@pytest.mark.parametrize("stream", ["attn", "mlp", "resid"])
def test_the_last_vision_layer_of_llava_is_dead_and_the_error_names_a_live_one(tiny_llava, stream):
    with pytest.raises(DeadSiteError, match=r"is dead.*vision\.2\.resid"):
        tiny_llava.require_live(Site("vision", 3, stream))


@dataclass(frozen=True)
class Doubled(SiteEdit):
    site: Site
    gate: object = None

    def transform(self, x):
        return x * 2


def test_an_edit_at_a_dead_site_is_refused(tiny_llava, picture):
    batch = tiny_llava.prepare(["yes"], [picture(0)])
    with pytest.raises(DeadSiteError):
        tiny_llava.run(batch, edits=[Doubled(Site("vision", 3, "mlp"))])
    assert not tiny_llava.engine.running


def test_closed_gates_are_told_from_a_dead_site(tiny_mllama):
    model = copy.deepcopy(tiny_mllama.model)
    for name, parameter in model.named_parameters():
        if "cross_attn" in name and name.endswith("gate"):
            parameter.data.zero_()
    closed = HookedModel(model, tiny_mllama.processor)
    with pytest.raises(DeadSiteError, match="gates .* are closed"):
        closed.require_live(Site.parse("projector.in"))
    closed.require_live(Site.parse("text.0.resid"))
    tiny_mllama.require_live(Site.parse("projector.in"))


def test_measuring_leaves_no_trace(tiny_llama):
    model = HookedModel(tiny_llama.model, tiny_llama.tokenizer)
    batch, site = model.prepare(["yes"]), Site("text", 0, "mlp")
    plain, state = model.run(batch).logits, torch.get_rng_state()
    assert model.liveness(site) > 0
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(model.run(batch).logits, plain)


def test_measuring_does_not_see_edits_that_are_on(tiny_llama):
    model, site = HookedModel(tiny_llama.model, tiny_llama.tokenizer), Site("text", 2, "resid")
    bare = HookedModel(tiny_llama.model, tiny_llama.tokenizer).liveness(site)
    with Doubled(Site("text", 0, "resid")).applied(model) as stats:
        assert model.liveness(site) == bare
        assert stats[0].calls == 0
