"""Reading, editing and generating: the laws every part of the project leans on."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import pytest
import torch

from concept_forget.edits.base import Edit, NotBakeable, SiteEdit, applied
from concept_forget.model import HookedModel, NoSuchSite
from concept_forget.sites import Site

PROMPTS = ["is there a star ?", "yes", "which colour is the cup on the red wood ?"]


@dataclass(frozen=True)
class Same(SiteEdit):
    site: Site
    gate: object = None

    def transform(self, x):
        return x.clone()


@dataclass(frozen=True)
class Scaled(SiteEdit):
    site: Site
    factor: float = 0.5
    gate: object = None

    def transform(self, x):
        return x * self.factor


@dataclass(frozen=True)
class Plus(SiteEdit):
    site: Site
    amount: float = 0.5
    gate: object = None

    def transform(self, x):
        return x + self.amount


@dataclass(frozen=True)
class OpenRows:
    """Opens rows whose mean over the eligible positions is above a level: it must not see padding."""

    level: float

    def decide(self, x, eligible=None):
        mask = torch.ones(x.shape[:2], dtype=torch.bool) if eligible is None else eligible
        mean = (x.mean(-1) * mask).sum(1) / mask.sum(1)
        return (mean > self.level)[:, None].expand(x.shape[:2])


@dataclass(frozen=True)
class Asking(Edit):
    def prompt(self, text):
        return f"no red . {text}"


def batch_of(model, picture, prompts=PROMPTS):
    images = [picture(index) for index in range(len(prompts))] if model.has_vision else None
    return model.prepare(prompts, images)


def hooks_of(model: HookedModel) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.model.modules())


def some_sites(model):
    """One of each kind, live ones only."""
    kinds = {}
    for site in model.sites():
        if site.tower != "vision" or site.layer < len(model.anatomy.vision) - 1:
            kinds.setdefault((site.tower, site.stream), site)
    return list(kinds.values())


# Reading


def test_reading_changes_nothing(tiny, picture):
    batch = batch_of(tiny, picture)
    assert torch.equal(tiny.run(batch, logits="all").logits, tiny.run(batch, tiny.sites(), logits="all").logits)


def test_the_last_logits_are_the_last_of_all(tiny, picture):
    batch = batch_of(tiny, picture)
    last, everything = tiny.run(batch).logits, tiny.run(batch, logits="all").logits
    assert last.shape == (3, everything.shape[-1])
    torch.testing.assert_close(last, everything[:, -1], atol=1e-5, rtol=1e-5)


def test_only_the_last_logits_are_computed(tiny, picture):
    lengths, head = [], tiny.model.get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda _m, args: lengths.append(args[0].shape[1]))
    try:
        tiny.run(batch_of(tiny, picture))
    finally:
        handle.remove()
    assert lengths == [1]


@pytest.mark.parametrize("name", ["tiny_llava", "tiny_mllama", "tiny_paligemma"])
def test_reading_the_tower_never_runs_the_language_model(request, picture, name):
    model, calls = request.getfixturevalue(name), []
    batch, sites = batch_of(model, picture), [s for s in model.sites() if s.tower != "text"]
    whole = model.run(batch, sites)
    handle = model.model.get_decoder().register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        early = model.run(batch, sites, logits=None)
        assert calls == []
        model.run(batch, sites)
        assert calls == [1]
    finally:
        handle.remove()
    assert early.logits is None
    assert list(early.activations) == sites
    for site in sites:
        assert torch.equal(early.activations[site], whole.activations[site])


def test_reading_a_text_layer_stops_behind_it(tiny_llama, picture):
    calls = []
    handle = tiny_llama.anatomy.text[2].register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        tiny_llama.run(batch_of(tiny_llama, picture), [Site("text", 1, "resid")], logits=None)
    finally:
        handle.remove()
    assert calls == []


def test_activations_have_gradients_from_the_logits(tiny, picture):
    """By finite differences: the gradient of a logit along a direction is its change per step."""
    batch = batch_of(tiny, picture, ["yes"])
    for site in (some_sites(tiny)[-1], tiny.reading_site):
        run = tiny.run(batch, [site], grad=True)
        gradient = torch.autograd.grad(run.logits[0, 5], run.activations[site])[0]
        step = 1e-3
        up, down = (tiny.run(batch, edits=[Plus(site, sign * step)]).logits[0, 5] for sign in (1, -1))
        eligible = batch.tokens.eligible(site)
        expected = gradient.sum() if eligible is None else gradient[eligible].sum()
        torch.testing.assert_close((up - down) / (2 * step), expected, atol=2e-2, rtol=2e-2)


def test_without_grad_nothing_is_recorded(tiny_llama, picture):
    run = tiny_llama.run(batch_of(tiny_llama, picture), [Site("text", 0, "resid")])
    assert not run.logits.requires_grad


def test_a_vision_site_without_pictures_is_refused(tiny_llava):
    with pytest.raises(ValueError, match="pictures"):
        tiny_llava.run(tiny_llava.prepare(["yes"]), [Site("vision", 0, "resid")])


# Editing


def test_an_edit_that_changes_nothing_is_exact_to_the_bit(tiny, picture):
    batch = batch_of(tiny, picture)
    plain = tiny.run(batch, logits="all").logits
    for site in some_sites(tiny):
        run = tiny.run(batch, edits=[Same(site)], logits="all")
        assert torch.equal(run.logits, plain), site
        assert run.hooks[0].calls == 1
        assert run.hooks[0].mean_abs_delta == 0


def test_the_model_is_restored_to_the_bit(tiny, picture):
    batch = batch_of(tiny, picture)
    plain, hooks = tiny.run(batch).logits, hooks_of(tiny)
    weights = copy.deepcopy(tiny.model.state_dict())
    site = some_sites(tiny)[-1]
    with applied(tiny, [Scaled(site)]):
        assert not torch.equal(tiny.run(batch).logits, plain)
    assert torch.equal(tiny.run(batch).logits, plain)
    with pytest.raises(RuntimeError, match="inside"), applied(tiny, [Scaled(site)]):
        raise RuntimeError("inside")
    assert torch.equal(tiny.run(batch).logits, plain)
    assert hooks_of(tiny) == hooks
    assert all(torch.equal(weights[name], value) for name, value in tiny.model.state_dict().items())


def test_the_model_is_restored_when_an_edit_itself_fails(tiny_llava, picture):
    @dataclass(frozen=True)
    class Broken(Same):
        def transform(self, x):
            return x[..., :3]

    batch, hooks = batch_of(tiny_llava, picture), hooks_of(tiny_llava)
    plain = tiny_llava.run(batch).logits
    with pytest.raises(ValueError, match="keep the shape"):
        tiny_llava.run(batch, edits=[Broken(tiny_llava.reading_site)])
    assert hooks_of(tiny_llava) == hooks
    assert torch.equal(tiny_llava.run(batch).logits, plain)


def test_an_edit_leaves_everything_before_it_unchanged_and_nothing_after(tiny, picture):
    batch, sites = batch_of(tiny, picture), tiny.sites()
    plain = tiny.run(batch, sites).activations
    for site in some_sites(tiny):
        edited = tiny.run(batch, sites, edits=[Scaled(site)]).activations
        before = sites[: sites.index(site)]
        assert all(torch.equal(plain[one], edited[one]) for one in before), site
        assert not torch.equal(plain[site], edited[site])
        assert not torch.equal(plain[sites[-1]], edited[sites[-1]])


def test_what_is_read_at_an_edited_site_is_the_edited_activation(tiny, picture):
    batch = batch_of(tiny, picture)
    for site in some_sites(tiny):
        plain = tiny.run(batch, [site]).activations[site]
        edited = tiny.run(batch, [site], edits=[Scaled(site, 3.0)]).activations[site]
        eligible = batch.tokens.eligible(site)
        inside = torch.ones(plain.shape[:2], dtype=torch.bool) if eligible is None else eligible
        assert torch.equal(edited, torch.where(inside[..., None], plain * 3.0, plain))


def test_an_edit_where_llava_reads_changes_the_answer_after_a_warm_up(tiny_llava, picture):
    """From the first pass on transformers collects this layer with a hook of its own; an edit must come before it."""
    batch = batch_of(tiny_llava, picture)
    plain = tiny_llava.run(batch).logits
    said = tiny_llava.generate(batch, max_new_tokens=6).texts
    edits = [Scaled(Site.parse("vision.2.resid"), -1.0)]
    assert (tiny_llava.run(batch, edits=edits).logits - plain).abs().max() > 0.05
    assert tiny_llava.generate(batch, edits, max_new_tokens=6).texts != said


def test_edits_at_one_site_run_in_the_order_given_also_across_contexts(tiny_llama, picture):
    batch, site = batch_of(tiny_llama, picture), Site("text", 1, "resid")
    mask = batch.tokens.mask[..., None]
    plain = tiny_llama.run(batch, [site]).activations[site]
    plus_first = torch.where(mask, (plain + 1.0) * 2.0, plain)
    scale_first = torch.where(mask, plain * 2.0 + 1.0, plain)
    plus, scale = Plus(site, 1.0), Scaled(site, 2.0)
    assert torch.equal(tiny_llama.run(batch, [site], [plus, scale]).activations[site], plus_first)
    assert torch.equal(tiny_llama.run(batch, [site], [scale, plus]).activations[site], scale_first)
    with scale.applied(tiny_llama):
        assert torch.equal(tiny_llama.run(batch, [site], [plus]).activations[site], scale_first)
        assert torch.equal(tiny_llama.run(batch, [site]).activations[site], torch.where(mask, plain * 2.0, plain))


def test_many_edits_at_a_site_share_one_hook(tiny_llama):
    site = Site("text", 1, "resid")
    module = tiny_llama.module(site)[0]
    before = len(module._forward_hooks)
    with applied(tiny_llama, [Same(site)] * 3), applied(tiny_llama, [Same(site)]):
        assert len(module._forward_hooks) == before + 1
    assert len(module._forward_hooks) == before


def test_the_proof_counts_calls_tokens_and_how_far_they_moved(tiny_llama, picture):
    batch, site = batch_of(tiny_llama, picture), Site("text", 1, "mlp")
    with Plus(site, 0.25).applied(tiny_llama) as stats:
        tiny_llama.run(batch)
        tiny_llama.run(batch)
    assert stats[0].calls == 2
    assert stats[0].tokens == 2 * int(batch.inputs["attention_mask"].sum())
    assert stats[0].mean_abs_delta == pytest.approx(0.25, rel=1e-4)
    assert stats[0].to_json()["site"] == "text.1.mlp"


def test_an_edit_at_a_site_the_model_does_not_have_is_refused_before_anything_is_hooked(tiny_llama):
    hooks = hooks_of(tiny_llama)
    with pytest.raises(NoSuchSite), applied(tiny_llama, [Same(Site("text", 0, "mlp")), Same(Site("vision", 0, "mlp"))]):
        pass
    assert hooks_of(tiny_llama) == hooks


def test_an_edit_in_half_precision_keeps_the_type(tiny_llama, picture):
    half = HookedModel(copy.deepcopy(tiny_llama.model).bfloat16(), tiny_llama.tokenizer)
    site = Site("text", 1, "resid")
    run = half.run(batch_of(half, picture), [site], [Scaled(site, torch.tensor(0.3))])
    assert run.activations[site].dtype == run.logits.dtype == torch.bfloat16


def test_baking_what_has_no_exact_form_is_refused(tiny_llama):
    with pytest.raises(NotBakeable, match="recipe"):
        Same(Site("text", 0, "mlp")).bake(tiny_llama)


# Gates


def test_rows_behind_a_closed_gate_keep_every_bit(tiny, picture):
    batch = batch_of(tiny, picture)
    for site in some_sites(tiny):
        x = tiny.run(batch, [site]).activations[site]
        eligible = batch.tokens.eligible(site)
        mask = torch.ones(x.shape[:2], dtype=torch.bool) if eligible is None else eligible
        means = (x.mean(-1) * mask).sum(1) / mask.sum(1)
        level = means.sort().values[1:].mean().item()
        opened = means > level
        assert opened.any()
        assert not opened.all()
        plain = tiny.run(batch, logits="all").logits
        run = tiny.run(batch, edits=[Scaled(site, -1.0, OpenRows(level))], logits="all")
        assert torch.equal(run.logits[~opened], plain[~opened]), site
        assert not torch.equal(run.logits[opened], plain[opened])
        assert run.hooks[0].tokens == int(mask[opened].sum())


def test_behind_a_closed_gate_the_very_same_tensor_goes_on(tiny_llama, picture):
    site, seen = Site("text", 1, "mlp"), []
    module = tiny_llama.module(site)[0]
    with Scaled(site, gate=OpenRows(1e9)).applied(tiny_llama) as stats:
        first = module.register_forward_hook(lambda _m, _a, out: seen.append(out), prepend=True)
        last = module.register_forward_hook(lambda _m, _a, out: seen.append(out))
        try:
            tiny_llama.run(batch_of(tiny_llama, picture))
        finally:
            first.remove()
            last.remove()
    assert seen[0] is seen[1]
    assert stats[0].calls == 1
    assert stats[0].tokens == 0


def level_between(model, batch, site):
    x = model.run(batch, [site]).activations[site]
    mask = batch.tokens.mask
    return ((x.mean(-1) * mask).sum(1) / mask.sum(1)).sort().values[:2].mean().item()


@pytest.mark.parametrize("gated", [False, True])
def test_cached_decoding_under_an_edit_equals_decoding_without_cache(tiny, picture, gated):
    batch, site = batch_of(tiny, picture), Site("text", 1, "resid")
    gate = OpenRows(level_between(tiny, batch, site)) if gated else None
    plain = tiny.generate(batch, max_new_tokens=8).texts
    cached = tiny.generate(batch, [Scaled(site, -1.0, gate)], max_new_tokens=8)
    without = tiny.generate(batch, [Scaled(site, -1.0, gate)], max_new_tokens=8, use_cache=False)
    assert cached.texts == without.texts
    assert cached.texts != plain
    assert cached.hooks[0].calls == 8
    assert cached.hooks[0].tokens < without.hooks[0].tokens


def test_a_gate_stays_as_it_was_decided_at_the_prompt(tiny_llama, picture):
    decisions = []

    @dataclass(frozen=True)
    class Counting(OpenRows):
        def decide(self, x, eligible=None):
            decisions.append(x.shape[1])
            return super().decide(x, eligible)

    site, batch = Site("text", 1, "resid"), batch_of(tiny_llama, picture)
    level = level_between(tiny_llama, batch, site)
    for use_cache in (True, False):
        stat = tiny_llama.generate(batch, [Scaled(site, gate=Counting(level))], 5, use_cache=use_cache).hooks[0]
        assert stat.calls == 5
    assert decisions == [batch.inputs["input_ids"].shape[1]] * 2


# One by one


def alone(model, picture, index):
    return model.prepare([PROMPTS[index]], [picture(index)] if model.has_vision else None)


@pytest.mark.parametrize("edited", [False, True])
def test_a_batch_says_what_its_rows_say_one_by_one(tiny, picture, edited):
    site = Site("text", 1, "resid")
    batch = batch_of(tiny, picture)
    edits = [Scaled(site, -1.0, OpenRows(level_between(tiny, batch, site)))] if edited else []
    logits, texts = tiny.run(batch, edits=edits).logits, tiny.generate(batch, edits, max_new_tokens=8).texts
    for index in range(3):
        single = alone(tiny, picture, index)
        torch.testing.assert_close(logits[index], tiny.run(single, edits=edits).logits[0], atol=2e-4, rtol=1e-4)
        assert texts[index] == tiny.generate(single, edits, max_new_tokens=8).texts[0]
    assert len(set(texts)) > 1


def test_pictures_of_one_and_of_two_tiles_mix_in_a_batch(tiny_mllama, picture):
    images = [picture(0), picture(1, 64, 32), picture(2, 32, 64)]
    batch = tiny_mllama.prepare(PROMPTS, images)
    assert batch.tokens.tiles.sum(1).tolist() == [1, 2, 2]
    edits = [Scaled(Site.parse("vision.2.resid"), 0.2, OpenRows(-10.0)), Scaled(Site.parse("projector.in"), 0.5)]
    logits = tiny_mllama.run(batch, edits=edits).logits
    for index in range(3):
        single = tiny_mllama.run(tiny_mllama.prepare([PROMPTS[index]], [images[index]]), edits=edits).logits[0]
        torch.testing.assert_close(logits[index], single, atol=2e-4, rtol=1e-4)


def test_answers_in_a_batch_are_as_likely_as_one_by_one(tiny, picture):
    images, answers = [picture(i) for i in range(3)] if tiny.has_vision else None, ["a red cup", "no", "wood"]

    def log_likelihood(batch):
        scores = tiny.run(batch, logits="all").logits.log_softmax(-1)[:, :-1]
        chosen = scores.gather(-1, batch.inputs["input_ids"][:, 1:, None])[..., 0]
        return (chosen * batch.tokens.answer_mask[:, 1:]).sum(1)

    together = log_likelihood(tiny.prepare(PROMPTS, images, answers=answers))
    for row in range(3):
        single = tiny.prepare([PROMPTS[row]], images and [images[row]], answers=[answers[row]])
        torch.testing.assert_close(together[row], log_likelihood(single)[0], atol=1e-3, rtol=1e-4)


def test_the_picture_matters(tiny_llava, tiny_mllama, tiny_paligemma, picture):
    for model in (tiny_llava, tiny_mllama, tiny_paligemma):
        one, other = (model.run(model.prepare(["yes"], [picture(seed)])).logits for seed in (0, 1))
        assert (one - other).abs().max() > 1e-2


# Preparing


def test_prompt_edits_are_written_into_the_prompt_and_must_be(tiny_llama):
    batch = tiny_llama.prepare(["yes"], edits=[Asking()])
    assert "no red . yes" in tiny_llama.tokenizer.decode(batch.inputs["input_ids"][0])
    tiny_llama.generate(batch, [Asking()], max_new_tokens=1)
    with pytest.raises(ValueError, match="prepared without it"):
        tiny_llama.generate(tiny_llama.prepare(["yes"]), [Asking()])


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("tiny_llama", {"images": [1, 2]}, "reads text only"),
        ("tiny_llava", {"images": [1]}, "one picture per prompt"),
        ("tiny_llava", {"images": [1, None]}, "two batches"),
        ("tiny_llava", {"answers": ["a"]}, "one answer per prompt"),
        ("tiny_llava", {"prompts": ["what <image> ?", "yes"]}, "Leave it out"),
        ("tiny_llava", {"prompts": []}, "no prompts"),
    ],
)
def test_prompts_and_pictures_that_do_not_fit_are_refused(request, picture, name, arguments, says):
    given = {"prompts": ["yes", "no"], **arguments}
    if "images" in given:
        given["images"] = [None if seed is None else picture(seed) for seed in given["images"]]
    with pytest.raises(ValueError, match=says):
        request.getfixturevalue(name).prepare(**given)


def test_the_beginning_of_sequence_is_written_once(tiny_llama):
    from tokenizers.processors import TemplateProcessing

    words = copy.deepcopy(tiny_llama.tokenizer)
    words.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    model = HookedModel(tiny_llama.model, words)
    assert (model.prepare(["yes"]).inputs["input_ids"] == 1).sum() == 1
    words.chat_template = "<s>" + words.chat_template
    assert (model.prepare(["yes"]).inputs["input_ids"] == 1).sum() == 1


def test_a_saved_model_is_loaded_and_answers_the_same(tiny_llava, tmp_path, picture):
    tiny_llava.model.save_pretrained(tmp_path)
    tiny_llava.processor.save_pretrained(tmp_path)
    loaded = HookedModel.load(str(tmp_path), device="cpu")
    batch = batch_of(loaded, picture)
    assert torch.equal(loaded.run(batch).logits, tiny_llava.run(batch_of(tiny_llava, picture)).logits)


def test_a_model_that_is_not_there_is_refused_with_what_to_give(tmp_path):
    with pytest.raises(LookupError, match="Give a name of the zoo"):
        HookedModel.load(str(tmp_path))
