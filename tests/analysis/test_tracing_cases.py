"""Bad input is told apart and said clearly; columns, groups and intervals mean what they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from analysis.tracing import (
    Box,
    Cancelled,
    CannotReplay,
    Case,
    ConceptNotShown,
    GaussianNoise,
    MinimalPair,
    SubjectNotFound,
    TokenReplacement,
    scene_case,
    trace,
    world_cases,
)
from analysis.tracing.patches import patch_cover
from analysis.tracing.result import bounds
from analysis.tracing.setup import says
from analysis.tracing.words import token_positions
from concept_forget.sites import Site
from concept_forget.worlds import Scene, SceneSpec

CUP = Case("is there a cup ?", subject="cup", replacement="red")


def test_a_subject_that_is_not_in_the_prompt(tiny_llama):
    with pytest.raises(SubjectNotFound, match="'dog' does not occur in the prompt"):
        trace(tiny_llama, [replace(CUP, subject="dog")], TokenReplacement())
    # "up" stands in "cup", but is no word of the prompt.
    with pytest.raises(SubjectNotFound, match="does not occur"):
        trace(tiny_llama, [replace(CUP, subject="up")], GaussianNoise())
    with pytest.raises(SubjectNotFound, match="No subject was given"):
        trace(tiny_llama, [replace(CUP, subject="")], GaussianNoise())


def test_unequal_lengths(tiny_llama):
    with pytest.raises(ValueError, match="unequal lengths .* Gaussian noise"):
        trace(tiny_llama, [replace(CUP, replacement="xylophone")], TokenReplacement())
    with pytest.raises(ValueError, match="changes nothing"):
        trace(tiny_llama, [replace(CUP, replacement="cup")], TokenReplacement())


def test_a_picture_without_the_concept(tiny_llava, picture):
    case = Case("what is shown here ?", image=picture(0), mask=np.zeros((32, 32), dtype=bool))
    for corruption in (Box(), GaussianNoise(on="object"), MinimalPair()):
        with pytest.raises(ConceptNotShown):
            trace(tiny_llava, [case], corruption)
    with pytest.raises(ConceptNotShown, match="has no picture"):
        trace(tiny_llava, [CUP], GaussianNoise(on="image"))
    scene = Scene(SceneSpec("cup", "red", "wood", 0))
    with pytest.raises(ConceptNotShown, match="does not show 'star'; it shows cup, red, wood"):
        scene_case(scene, "star")
    with pytest.raises(ValueError, match="cannot be swapped for 'grass'"):
        scene_case(scene, "red", "grass")
    with pytest.raises(ValueError, match="is the same as the clean one"):
        trace(tiny_llava, [replace(case, counterpart=case.image)], MinimalPair())


def test_wrong_answers_are_left_out_and_counted(tiny_llama):
    right = trace(tiny_llama, [CUP], TokenReplacement(), streams=("resid",))
    known, wrong = replace(CUP, answer=right.prompts[0].answer), replace(CUP, answer="certainly not this")
    assert known.answer
    found = trace(tiny_llama, [wrong, known, wrong], TokenReplacement(), streams=("resid",))
    assert found.skipped == {"answered wrongly": 2}
    assert torch.equal(found.values, right.values)
    with pytest.raises(ValueError, match="None of the 1 cases .* 1 answered wrongly"):
        trace(tiny_llama, [wrong], TokenReplacement())


def test_an_answer_of_several_tokens_is_read_to_its_end(tiny_llama):
    question = TokenReplacement().pair(tiny_llama, CUP).clean
    text = tiny_llama.generate(question.batch, max_new_tokens=6).texts[0]
    first = int(tiny_llama.run(question.batch).logits.argmax())
    start = tiny_llama.tokenizer.decode([first]).strip()
    assert start and text.casefold().startswith(start.casefold())
    assert says(tiny_llama, question, first, start)
    assert not says(tiny_llama, question, first, f"{start} quite another thing")


def test_settings_that_do_not_exist(tiny_llama):
    for settings, message in (
        ({"streams": ("heads",)}, "streams="),
        ({"window": 0}, "window=0"),
        ({"metric": "loss"}, "'loss' is not one of"),
        ({"direction": "both"}, "'both' is not one of"),
        ({"by": "word"}, "'word' is not one of"),
    ):
        with pytest.raises(ValueError, match=message):
            trace(tiny_llama, [CUP], TokenReplacement(), **settings)
    with pytest.raises(CannotReplay, match="no vision tower"):
        trace(tiny_llama, [CUP], TokenReplacement(), tower="vision")
    with pytest.raises(ValueError, match="at least one case"):
        trace(tiny_llama, [], TokenReplacement())
    with pytest.raises(ValueError, match="1 of 2 cases have a foil"):
        trace(tiny_llama, [CUP, replace(CUP, foil="no")], TokenReplacement())


def test_stopping_keeps_what_is_finished(tiny_llama):
    seen = []

    def progress(stage, done, total):
        seen.append((stage, done, total))

    def stop():
        return bool(seen) and seen[-1][1] >= 100

    found = trace(tiny_llama, [CUP] * 3, TokenReplacement(), progress=progress, cancelled=stop)
    assert len(found.prompts) == 1 and seen[-1][2] == 300
    with pytest.raises(Cancelled):
        trace(tiny_llama, [CUP], TokenReplacement(), cancelled=lambda: True)


@pytest.mark.parametrize("words", ["cup", "the cup", "which"])
def test_words_are_found_among_tokens(words, tiny):
    batch = tiny.prepare(["which colour is the cup ?"])
    where = token_positions(tiny, batch, "which colour is the cup ?", words)
    assert tiny.tokenizer.decode(batch.inputs["input_ids"][0, where]).strip() == words


def test_noise_is_romes(tiny_llama):
    """RandomState(1), samples x tokens x width at once, 3 deviations of the subject's embeddings over all cases."""
    others = [CUP, Case("which colour is the cup ?", subject="colour")]
    noise = GaussianNoise(samples=4).fitted(tiny_llama, others)
    table = tiny_llama.model.get_input_embeddings().weight
    ids = [tiny_llama.tokenizer(f" {case.subject}", add_special_tokens=False)["input_ids"] for case in others]
    assert noise.scale == pytest.approx(3 * float(table[sum(ids, [])].detach().std()), rel=1e-5)
    pair = noise.pair(tiny_llama, CUP)
    drawn = np.random.RandomState(1).randn(4, len(ids[0]), table.shape[1]) * noise.scale
    for sample, question in zip(drawn, pair.corrupted, strict=True):
        np.testing.assert_allclose(question.noise.delta.numpy(), sample, rtol=1e-5)


def test_columns_have_the_groups_of_a_question(tiny_llava, picture):
    mask = np.zeros((32, 32), dtype=bool)
    mask[8:16, 16:32] = True  # patches 1,2 and 1,3 of the 4 x 4
    case = Case("which colour is the cup ?", image=picture(0), counterpart=picture(1), mask=mask, subject="cup")
    found = trace(tiny_llava, [case], MinimalPair(), streams=("resid",))
    by = {
        name: [label for label, g in zip(found.positions, found.groups, strict=True) if g == name]
        for name in set(found.groups)
    }
    assert by["image: object"] == ["patch 1,2", "patch 1,3"]
    assert len(by["image: background"]) == 14
    assert "".join(by["concept words"]).strip() == "cup" and by["last"] == [found.positions[-1]]
    grouped = found.by_group()
    column = grouped.positions.index("image: object")
    inside = [i for i, group in enumerate(found.groups) if group == "image: object"]
    torch.testing.assert_close(grouped.values[:, :, column], found.values[:, :, inside].mean(2))


def test_groups_can_be_restored_as_one(tiny_llava, picture):
    """All patches of layer 0 together bring more back than the last word does there, which knows nothing yet."""
    case = Case("what is shown here ?", image=picture(0), counterpart=picture(1))
    found = trace(tiny_llava, [case], MinimalPair(), streams=("resid",), by="group", metric="normalised")
    assert set(found.positions) >= {"image", "last"}
    image = float(found.values[0, 0, found.positions.index("image")])
    everything = float(found.values[0, -1, found.positions.index("last")])
    assert everything == pytest.approx(1, abs=1e-4)
    assert image != 0


@pytest.mark.parametrize("name", ["tiny_llava", "tiny_mllama", "tiny_paligemma"])
def test_a_mask_falls_on_the_patches_that_its_pixels_become(name, request):
    model = request.getfixturevalue(name)
    mask = np.zeros((32, 32), dtype=bool)
    mask[8:16, 16:28] = True
    cover = patch_cover(model, mask, "yes", Site("vision", 0, "resid")).view(-1, 4, 4)
    wanted = torch.zeros(4, 4)
    wanted[1, 2], wanted[1, 3] = 1, 0.5
    torch.testing.assert_close(cover[0], wanted, atol=0.02, rtol=0)


def test_traces_of_different_prompts_meet_in_groups(tiny_llama):
    cases = [CUP, Case("which colour is the cup ?", subject="cup", replacement="red", group="b")]
    found = trace(tiny_llama, cases, TokenReplacement(), streams=("resid", "mlp"))
    assert set(found.positions) <= {"start", "instruction", "concept words", "last"}
    alone = [trace(tiny_llama, [case], TokenReplacement(), streams=("resid", "mlp")).by_group() for case in cases]
    torch.testing.assert_close(found.values, torch.stack([one.values for one in alone]).mean(0), atol=1e-5, rtol=1e-5)
    best = found.top(2)
    assert best[0].effect == pytest.approx(float(found.values.max())) and best[0].effect >= best[1].effect
    place = found.localisation("mlp")
    assert place.values.shape == (len(tiny_llama.anatomy.text), len(found.positions))
    assert place.sites[1] == Site("text", 1, "mlp")
    with pytest.raises(LookupError, match="no stream 'attn'"):
        found.localisation("attn")


def test_intervals_cover_the_mean_and_keep_groups_together():
    generator = torch.Generator().manual_seed(0)
    covered = 0
    for _ in range(200):
        stack = torch.randn(30, 1, generator=generator)
        low, high = bounds(stack, [""] * 30)
        covered += bool(low <= 0 <= high)
    assert 0.88 <= covered / 200 <= 0.99
    # Ten copies of one value are one observation: the interval does not shrink.
    values = torch.randn(6, 1, generator=generator)
    once = bounds(values, list("abcdef"))
    often = bounds(values.repeat_interleave(10, 0), [name for name in "abcdef" for _ in range(10)])
    torch.testing.assert_close(once[0], often[0])
    assert bounds(values, ["a"] * 6)[0].isnan().all()


def test_world_cases_are_minimal_pairs():
    for case in world_cases("red", 4) + world_cases("cup", 2, ask="yesno"):
        changed = (np.asarray(case.image) != np.asarray(case.counterpart)).any(-1)
        assert changed.any()
        if case.answer == "red":
            # But for soft edges, another colour changes nothing outside the mask.
            assert (changed & ~case.mask).mean() < 0.05 < (changed & case.mask).sum() / case.mask.sum()
    assert case.prompt.count("cup") == 1 and (case.answer, case.foil, case.subject) == ("yes", "no", "cup")
