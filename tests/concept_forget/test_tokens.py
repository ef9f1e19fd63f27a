"""Which position is what."""

import pytest
import torch

from concept_forget.sites import Site
from concept_forget.tokens import IMAGE, PAD, SPECIAL, TEXT

PROMPTS = ["yes", "which colour is the cup ?"]


def test_every_position_has_the_kind_of_its_token(tiny_llava, picture):
    batch = tiny_llava.prepare(PROMPTS, [picture(0), picture(1)])
    ids, kinds = batch.inputs["input_ids"], batch.tokens.text
    image = tiny_llava.tokenizer.convert_tokens_to_ids("<image>")
    assert torch.equal(kinds == PAD, batch.inputs["attention_mask"] == 0)
    assert torch.equal(kinds == IMAGE, ids == image)
    assert (kinds == IMAGE).sum(1).tolist() == [16, 16]
    words = ids[0][kinds[0] == TEXT]
    assert tiny_llava.tokenizer.decode(words) == "USER: yes ASSISTANT:"


def test_special_tokens_are_not_text(tiny_mllama, picture):
    kinds = tiny_mllama.prepare(["yes"], [picture(0)]).tokens.text[0].tolist()
    assert kinds[0] == SPECIAL
    assert kinds.count(IMAGE) == 1


def test_the_last_position_is_the_end_of_every_prompt(tiny):
    tokens = tiny.prepare(PROMPTS).tokens
    assert tokens.last.tolist() == [tokens.text.shape[1] - 1] * 2
    assert not tokens.mask[0].all()


@pytest.mark.parametrize("name", ["tiny_llava", "tiny_paligemma"])
@pytest.mark.parametrize("text", ["vision.0.resid", "vision.1.mlp", "projector.in", "projector.out"])
def test_the_patches_of_a_site_are_its_last_sixteen_tokens(request, picture, name, text):
    model = request.getfixturevalue(name)
    site, tokens = Site.parse(text), model.prepare(["yes"], [picture(0)]).tokens
    assert tokens.grid == (4, 4)
    patches = tokens.patches(site)
    assert len(patches) == 16
    length = model.run(model.prepare(["yes"], [picture(0)]), read=[site], logits=None).activations[site].shape[1]
    assert int(patches.max()) == length - 1


@pytest.mark.parametrize("name", ["tiny_llava", "tiny_mllama", "tiny_paligemma"])
def test_a_changed_square_of_pixels_enters_the_tower_at_its_patch(request, picture, name):
    """The planted truth: before any attention, only the patch that changed can move."""
    model = request.getfixturevalue(name)
    plain, other = picture(0), picture(0)
    row, column = 1, 2
    other.paste((255, 255, 255), (8 * column, 8 * row, 8 * column + 8, 8 * row + 8))
    site, entering = Site("vision", 0, "attn"), []
    block, _ = model.anatomy.module(Site("vision", 0, "resid"))
    handle = block.register_forward_pre_hook(
        lambda _m, args, named: entering.append(args[0] if args else named["hidden_states"]), with_kwargs=True
    )
    try:
        for image in (plain, other):
            model.run(model.prepare(["yes"], [image]), read=[site], logits=None)
    finally:
        handle.remove()
    moved = (entering[0] != entering[1]).any(-1)[0].nonzero()[:, 0]
    patches = model.prepare(["yes"], [plain]).tokens.patches(site)
    assert moved.tolist() == [int(patches[4 * row + column])]


def test_mllama_patches_leave_out_cls_padding_and_tiles_that_are_not_there(tiny_mllama, picture):
    site = Site.parse("vision.0.resid")
    one = tiny_mllama.prepare(["yes"], [picture(0)]).tokens
    two = tiny_mllama.prepare(["yes"], [picture(0, 64, 32)]).tokens
    assert one.patches(site).tolist() == list(range(1, 17))
    assert two.patches(site).tolist() == [*range(1, 17), *range(25, 41)]
    assert two.patches(Site.parse("projector.in")).tolist() == [*range(1, 17), *range(18, 34)]


def test_mllama_positions_that_may_be_edited_are_the_real_ones(tiny_mllama, picture):
    batch = tiny_mllama.prepare(PROMPTS, [picture(0), picture(1, 64, 32)])
    for text, length in (("vision.5.resid", 48), ("projector.in", 34), ("projector.out", 34)):
        eligible = batch.tokens.eligible(Site.parse(text))
        assert eligible.shape == (2, length)
        assert eligible.sum(1).tolist() == [17, 34]
        activation = tiny_mllama.run(batch, read=[Site.parse(text)], logits=None).activations[Site.parse(text)]
        assert activation.shape[:2] == eligible.shape


def test_padding_may_not_be_edited(tiny_llama):
    batch = tiny_llama.prepare(PROMPTS)
    assert torch.equal(batch.tokens.eligible(Site.parse("text.0.resid")), batch.inputs["attention_mask"].bool())


def test_patches_of_a_text_site_or_of_no_picture_are_refused(tiny_llava, picture):
    with pytest.raises(ValueError, match="text site"):
        tiny_llava.prepare(["yes"], [picture(0)]).tokens.patches(Site.parse("text.0.resid"))
    with pytest.raises(ValueError, match="no pictures"):
        tiny_llava.prepare(["yes"]).tokens.patches(Site.parse("vision.0.resid"))


def test_patches_that_are_stored_in_squares_come_out_row_by_row():
    from concept_forget.architecture import Layout

    layout = Layout(4, 4, merge=2)
    # Stored as Qwen2-VL does: the four patches of the upper left square first.
    stored = torch.arange(16).view(2, 2, 2, 2).transpose(1, 2).reshape(-1)
    assert stored[layout.patches(Site.parse("vision.0.resid"))].tolist() == list(range(16))
    assert layout.patches(Site.parse("projector.out")).tolist() == [0, 1, 2, 3]


def test_answers_stand_behind_their_prompts(tiny, picture):
    images = [picture(0), picture(1)] if tiny.has_vision else None
    answers = ["a red cup", "no"]
    batch = tiny.prepare(PROMPTS, images, answers=answers)
    ids, tokens = batch.inputs["input_ids"], batch.tokens
    for row, answer in enumerate(answers):
        assert tiny.tokenizer.decode(ids[row][tokens.answer_mask[row]]).strip() == answer
        alone = tiny.prepare([PROMPTS[row]], images and [images[row]]).inputs["input_ids"][0]
        assert torch.equal(ids[row][tokens.mask[row] & ~tokens.answer_mask[row]], alone)
    assert tokens.answer_mask[:, -1].all()
