"""The fast trace against the naive one: a forward pass per cell with plain hooks."""

from __future__ import annotations

import math
from contextlib import ExitStack, nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch

from analysis.tracing import Box, Case, GaussianNoise, MinimalPair, TokenReplacement, trace
from analysis.tracing.corruption import Question
from analysis.tracing.replay import Replay
from analysis.tracing.rows import Patch
from concept_forget.sites import Site

WORDS = Case("which colour is the cup ?", subject="cup", replacement="red")


def with_picture(picture, prompt="which colour is the cup ?") -> Case:
    mask = np.zeros((32, 32), dtype=bool)
    mask[8:20, 8:24] = True
    return Case(prompt, image=picture(1), counterpart=picture(2), mask=mask, subject="cup", replacement="red")


def out(result):
    return result if isinstance(result, torch.Tensor) else result[0]


def run(model, question, patches=()):
    """One forward pass of one row; patches are (site, positions, values [t, d])."""
    with ExitStack() as stack, torch.no_grad():
        stack.enter_context(question.noise.applied() if question.noise else nullcontext())
        for site, positions, values in patches:

            def change(_module, _args, result, positions=positions, values=values):
                new = out(result).clone()
                new[0, positions] = values[positions]
                return new if isinstance(result, torch.Tensor) else (new, *result[1:])

            stack.callback(model.module(site)[0].register_forward_hook(change, prepend=True).remove)
        return model.run(question.batch).logits[0].float().log_softmax(-1)


def naive(model, case, corruption, streams, window=1, direction="denoise", tower="text", positions=None):
    """log p(answer) regained or lost by every cell, one forward pass per cell and sample."""
    pair = corruption.fitted(model, [case]).pair(model, case)
    layers = len(getattr(model.anatomy, tower))
    sites = [site for site in model.sites() if site.tower == tower]

    def states(question):
        with question.noise.applied() if question.noise else nullcontext():
            return {site: x[0] for site, x in model.run(question.batch, read=sites).activations.items()}

    clean = states(pair.clean)
    answer = int(run(model, pair.clean).argmax())
    whole = run(model, pair.clean)[answer]
    positions = range(len(clean[sites[0]])) if positions is None else positions
    total = torch.zeros(len(streams), layers, len(positions))
    for question in pair.corrupted:
        spoilt, start = states(question), run(model, question)[answer]
        source, base = (clean, question) if direction == "denoise" else (spoilt, pair.clean)
        for s, stream in enumerate(streams):
            for layer in range(layers):
                w = 1 if stream == "resid" else window
                near = range(max(0, layer - w // 2), min(layers, layer + math.ceil(w / 2)))
                for column, position in enumerate(positions):
                    patches = [(Site(tower, n, stream), [position], source[Site(tower, n, stream)]) for n in near]
                    value = run(model, base, patches)[answer]
                    total[s, layer, column] += (value - start if direction == "denoise" else whole - value).cpu()
    return total / len(pair.corrupted)


def agree(fast, slow):
    assert slow.abs().max() > 1e-2, "nothing happens: the comparison would prove nothing"
    torch.testing.assert_close(fast.values, slow, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_gpt2"])
@pytest.mark.parametrize(("window", "direction"), [(1, "denoise"), (3, "noise")])
def test_language_models_equal_the_naive_loop(name, window, direction, request):
    model, streams = request.getfixturevalue(name), ("resid", "attn", "mlp")
    case = Case("is there a cup ?", subject="cup", replacement="red")
    fast = trace(model, [case], TokenReplacement(), window=window, direction=direction, tokens_per_pass=40)
    agree(fast, naive(model, case, TokenReplacement(), streams, window, direction))


def test_noise_equals_the_naive_loop_sample_by_sample(tiny_llama):
    noise = GaussianNoise(samples=3)
    fast = trace(tiny_llama, [WORDS], noise, streams=("attn", "resid"), window=2)
    agree(fast, naive(tiny_llama, WORDS, noise, ("attn", "resid"), window=2))


@pytest.mark.parametrize("name", ["tiny_llava", "tiny_mllama", "tiny_paligemma"])
@pytest.mark.parametrize(
    "corruption", [MinimalPair(), GaussianNoise(on="image", samples=2)], ids=["minimal pair", "image noise"]
)
def test_vision_language_models_equal_the_naive_loop(name, corruption, picture, request):
    model = request.getfixturevalue(name)
    case = with_picture(picture, "is there a star ?")
    streams = ("resid", "attn") if isinstance(corruption, MinimalPair) else ("mlp",)
    fast = trace(model, [case], corruption, streams=streams)
    agree(fast, naive(model, case, corruption, streams))


def test_words_of_a_vision_language_model_equal_the_naive_loop(tiny_llava, picture):
    case = with_picture(picture)
    fast = trace(tiny_llava, [case], TokenReplacement(), streams=("resid",), direction="noise")
    agree(fast, naive(tiny_llava, case, TokenReplacement(), ("resid",), direction="noise"))
    # Everything before the changed word is the same in both runs, so it needs no run.
    assert fast.cost.zero > 0.7 * fast.cost.cells


@pytest.mark.parametrize("name", ["tiny_llava", "tiny_mllama"])
def test_the_vision_tower_equals_the_naive_loop(name, picture, request):
    model, case = request.getfixturevalue(name), with_picture(picture)
    question = Box("black").pair(model, case).clean
    patches = question.batch.tokens.patches(Site("vision", 0, "resid")).tolist()
    fast = trace(model, [case], Box("black"), streams=("resid", "mlp"), tower="vision")
    agree(fast, naive(model, case, Box("black"), ("resid", "mlp"), tower="vision", positions=patches))


def test_the_work_is_what_the_design_says(tiny_llama):
    """Blocks below a cell are not run, rows share passes, and cells that cannot matter are not run at all."""
    found = trace(tiny_llama, [WORDS], TokenReplacement(), streams=("resid",))
    length, layers = found.values.shape[2], found.values.shape[1]
    changed = length - found.groups.index("concept words")
    # All positions from the changed word on in all layers but the last, and there the last position alone.
    assert found.cost.cells - found.cost.zero == changed * (layers - 1) + 1
    # Clean, spoilt, a proof that the model is causal, and one pass per layer.
    assert found.cost.passes == 3 + layers
    blocks = changed * sum(layers - 1 - layer for layer in range(layers - 1)) / layers
    proof = (layers - 1) / layers
    assert found.cost.work == pytest.approx(2 + proof + blocks * changed / length)


@pytest.mark.parametrize(
    ("name", "shares"),
    [
        ("tiny_llama", True),
        ("tiny_gpt2", True),
        ("tiny_llava", True),
        ("tiny_mllama", False),
        ("tiny_paligemma", False),
    ],
)
def test_only_causal_models_share_the_positions_before_a_patch(name, shares, picture, request):
    model = request.getfixturevalue(name)
    question = Question(model.prepare(["is there a cup ?"], [picture(1)] if model.has_vision else None))
    replay = Replay(model)
    first, second = replay.record(question), replay.record(question)
    assert (first.cache is not None, second.cache is not None) == (shares, shares)
    site = Site("text", 1, "mlp")
    mask = torch.zeros(2, first.entry.shape[1], dtype=torch.bool)
    mask[0, -3], mask[1, -1] = True, True
    patch = Patch(site, mask, (first.states[site] * 3,))
    whole = replay.run([replace(first, cache=None)], 2, 1, [patch])
    torch.testing.assert_close(replay.run([first], 2, 1, [patch]), whole, atol=1e-4, rtol=1e-4)


def test_a_model_that_looks_ahead_is_not_taken_for_causal(tiny_llama):
    """The proof is by experiment: attention that is made to look both ways fails it."""
    question = Question(tiny_llama.prepare(["is there a cup ?"]))
    handles = []
    for block in tiny_llama.anatomy.text:

        def both_ways(_module, args, named):
            length = (args[0] if args else named["hidden_states"]).shape[1]
            return args, {**named, "attention_mask": torch.zeros(1, 1, length, length)}

        handles.append(block.register_forward_pre_hook(both_ways, with_kwargs=True))
    try:
        assert Replay(tiny_llama).record(question).cache is None
    finally:
        for handle in handles:
            handle.remove()


def test_the_model_is_what_it_was(tiny_llava, picture):
    batch = tiny_llava.prepare(["what is shown here ?"], [picture(5)])
    before = tiny_llava.run(batch).logits
    trace(tiny_llava, [with_picture(picture)], MinimalPair(), streams=("resid", "attn"))
    assert torch.equal(tiny_llava.run(batch).logits, before)
    blocks = [*tiny_llava.anatomy.text, *tiny_llava.anatomy.vision]
    assert not any("forward" in vars(block) for block in blocks)


def test_restoring_everything_restores_the_answer(tiny_llama):
    """The last layer's last position alone decides; and all positions of a layer together bring everything back."""
    found = trace(tiny_llama, [WORDS], TokenReplacement(), streams=("resid",), metric="normalised")
    assert float(found.values[0, -1, -1]) == pytest.approx(1, abs=1e-4)
    assert found.values[0, -1, :-1].abs().max() == 0
    necessary = trace(
        tiny_llama, [WORDS], TokenReplacement(), streams=("resid",), metric="normalised", direction="noise"
    )
    assert float(necessary.values[0, -1, -1]) == pytest.approx(1, abs=1e-4)
