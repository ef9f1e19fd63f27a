"""The edits on every kind of model: through the engine, at the default door."""

from __future__ import annotations

import copy

import pytest
import torch

from concept_forget.directions import FeatureRows
from concept_forget.edits import (
    Action,
    FeatureClamp,
    ImageGate,
    RowsDictionary,
    SauceEdit,
    Shift,
    SubspaceErase,
    applied,
)
from concept_forget.model import HookedModel
from concept_forget.sites import Site

models = pytest.mark.parametrize("name", ["tiny_llama", "tiny_gpt2", "tiny_llava", "tiny_mllama", "tiny_paligemma"])


def rows(d: int, k: int = 6, scale: float = 1.0) -> FeatureRows:
    g = torch.Generator().manual_seed(2)
    return FeatureRows(
        torch.randn(k, d, generator=g), torch.zeros(k), torch.zeros(k), scale * torch.randn(k, d, generator=g)
    )


def batch_of(model: HookedModel, picture, seeds: tuple[int, ...] = (1, 2)):
    words = ["what is shown here ?", "yes"]
    prompts = [words[i % 2] for i, _ in enumerate(seeds)]
    return model.prepare(prompts, [picture(seed) for seed in seeds] if model.has_vision else None)


@models
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_edit_that_changes_no_feature_changes_no_bit_and_one_that_does_bites(
    name: str, dtype: torch.dtype, request: pytest.FixtureRequest, picture
) -> None:
    model: HookedModel = request.getfixturevalue(name)
    if dtype != torch.float32:
        model = HookedModel(copy.deepcopy(model.model).to(dtype), model.processor, model.name)
    site, batch = model.reading_site, batch_of(model, picture)
    d, bare = model.width(site), model.run(batch).logits
    nothing = FeatureClamp(site, rows(d), Action.scale(1.0))
    something = FeatureClamp(site, rows(d), Action.scale(-1.0))
    run = model.run(batch, edits=[nothing])
    assert torch.equal(run.logits, bare)
    assert run.hooks[0].calls > 0
    assert run.hooks[0].mean_abs_delta == 0
    run = model.run(batch, edits=[something])
    assert not torch.equal(run.logits, bare)
    assert run.hooks[0].mean_abs_delta > 0
    assert torch.equal(model.run(batch).logits, bare)


@models
def test_generation_under_a_no_op_is_the_bare_generation_and_under_an_edit_is_not(
    name: str, request: pytest.FixtureRequest, picture
) -> None:
    model: HookedModel = request.getfixturevalue(name)
    site, batch = model.reading_site, batch_of(model, picture)
    d, bare = model.width(site), model.generate(batch, max_new_tokens=5).texts
    nothing = FeatureClamp(site, rows(d), Action.scale(1.0))
    assert model.generate(batch, edits=[nothing], max_new_tokens=5).texts == bare
    edits = [FeatureClamp(site, rows(d), Action.scale(-9.0)), Shift(site, torch.ones(d) * 3)]
    assert model.generate(batch, edits=edits, max_new_tokens=5).texts != bare


@models
def test_the_clamp_in_the_model_is_the_splice_of_the_whole_dictionary(
    name: str, request: pytest.FixtureRequest, picture
) -> None:
    model: HookedModel = request.getfixturevalue(name)
    site, batch = model.reading_site, batch_of(model, picture)
    whole = RowsDictionary(site, rows(model.width(site), k=40, scale=0.1), torch.randn(model.width(site)))
    features = torch.tensor([1, 8, 30])
    x = model.run(batch, read=[site], logits=None).activations[site]
    edited = model.run(batch, read=[site], logits=None, edits=[FeatureClamp(site, whole.rows(features))])
    z = whole.encode(x)
    zeroed = z.clone()
    zeroed[..., features] = 0
    splice = whole.decode(zeroed) + (x - whole.decode(z))
    eligible = edited.tokens.eligible(site)
    eligible = torch.ones(x.shape[:2], dtype=torch.bool) if eligible is None else eligible
    assert torch.allclose(edited.activations[site][eligible], splice[eligible], atol=1e-4)
    sauce = model.run(batch, read=[site], logits=None, edits=[SauceEdit(site, whole, features, 0.0)])
    assert torch.allclose(sauce.activations[site][eligible], whole.decode(zeroed)[eligible], atol=1e-4)


@pytest.mark.parametrize("name", ["tiny_llava", "tiny_mllama", "tiny_paligemma"])
def test_a_gated_batch_is_its_rows_one_by_one(name: str, request: pytest.FixtureRequest, picture) -> None:
    model: HookedModel = request.getfixturevalue(name)
    site, seeds = model.reading_site, tuple(range(6))
    d = model.width(site)
    some = rows(d)
    batch = batch_of(model, picture, seeds)
    read = model.run(batch, read=[site], logits=None)
    features = ImageGate.features(some, read.activations[site], read.tokens.eligible(site))
    weights = torch.zeros(12)
    weights[int(features.std(0).argmax())] = 1.0
    scores = features @ weights
    gate = ImageGate(some, weights, float(scores.sort().values[2:4].mean()), 1.0, 0.0)
    edit = FeatureClamp(site, some, Action.scale(-3.0), gate)
    together = model.run(batch, edits=[edit]).logits
    moved = (together != model.run(batch).logits).any(-1)
    assert moved.tolist() == (scores > gate.threshold).tolist()
    assert 0 < int(moved.sum()) < 6
    for row, seed in enumerate(seeds):
        prompt = ["what is shown here ?", "yes"][row % 2]
        alone = model.run(model.prepare([prompt], [picture(seed)]), edits=[edit]).logits[0]
        assert torch.allclose(alone, together[row], atol=1e-3)


def test_a_gate_on_a_text_site_is_deaf_to_padding(tiny_llama: HookedModel) -> None:
    site = Site("text", 1, "resid")
    some = rows(tiny_llama.width(site))
    gate = ImageGate(some, torch.ones(12), 0.0, 1.0, 0.0)
    texts = ["yes", "what is shown here ? a red cup on wood ."]
    seen: list[torch.Tensor] = []
    for prompts in ([texts[0]], texts):
        batch = tiny_llama.prepare(prompts)
        run = tiny_llama.run(batch, read=[site], logits=None)
        seen.append(gate.score(run.activations[site], run.tokens.eligible(site))[0])
    assert float(seen[0]) == pytest.approx(float(seen[1]), abs=1e-4)


def test_edits_at_one_site_run_in_the_order_given(tiny_llava: HookedModel, picture) -> None:
    site, batch = tiny_llava.reading_site, batch_of(tiny_llava, picture)
    d = tiny_llava.width(site)
    shift, erase = Shift(site, torch.ones(d)), SubspaceErase.of(site, torch.ones(1, d), torch.zeros(d))
    x = tiny_llava.run(batch, read=[site], logits=None).activations[site]
    with applied(tiny_llava, [shift, erase]):
        read = tiny_llava.run(batch, read=[site], logits=None).activations[site]
    assert torch.allclose(read, erase.transform(shift.transform(x)), atol=1e-5)
    with applied(tiny_llava, [erase, shift]):
        other = tiny_llava.run(batch, read=[site], logits=None).activations[site]
    assert torch.allclose(other, shift.transform(erase.transform(x)), atol=1e-5)
    assert not torch.allclose(read, other, atol=1e-2)
