import json

import pytest
import torch

from analysis.lens import first_token, lens, unembedding
from concept_forget.edits.shift import Shift
from concept_forget.sites import Site


def test_after_the_last_block_the_lens_is_the_models_own_answer(tiny, picture):
    image = picture(0) if tiny.has_vision else None
    read = lens(tiny, "what is shown here ?", image, words=["yes", "red"], k=3)
    batch = tiny.prepare(["what is shown here ?"], [image] if image else None)
    own = tiny.run(batch, logits="all").logits[0].float().log_softmax(-1)
    torch.testing.assert_close(read.probabilities[-1], own.topk(3).values.exp(), atol=1e-4, rtol=1e-4)
    assert torch.equal(read.tokens[-1, :, 0], own.argmax(-1))
    torch.testing.assert_close(read.targets["red"][-1], own[:, first_token(tiny, "red")], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(read.entropy[-1], torch.special.entr(own.exp()).sum(-1), atol=1e-3, rtol=1e-3)
    assert read.words[-1][-1][0] == tiny.tokenizer.decode([int(own[-1].argmax())])
    assert read.tokens.shape == (len(tiny.anatomy.text), own.shape[0], 3) and len(read.positions) == own.shape[0]


def test_a_planted_word_is_read_at_its_layer_and_after_and_not_before(tiny_llama):
    _, head = unembedding(tiny_llama)
    word = first_token(tiny_llama, "red")
    push = Shift(Site("text", 2, "resid"), 60 * torch.nn.functional.normalize(head.weight[word].detach(), dim=0))
    read = lens(tiny_llama, "what is shown here ?", words=["red"], edits=[push])
    chance = read.targets["red"].exp()
    assert chance[2].min() > 0.1 and chance[:2].max() < 0.03
    best = read.top(1)[0]
    assert best.site.layer >= 2 and best.word == tiny_llama.tokenizer.decode([word]) and best.probability > 0.1


def test_patches_are_named_by_row_and_column_and_have_a_map(tiny_llava, picture):
    read = lens(tiny_llava, "what is shown here ?", picture(0), words=["red"])
    assert read.grid == (4, 4) and int(read.picture.sum()) == 16
    names = [name for name, of in zip(read.positions, read.picture, strict=True) if of]
    assert names[0] == "patch 0,0" and names[7] == "patch 1,3" and names[-1] == "patch 3,3"
    found = read.localisation("red")
    assert found.values.shape == (4, 16) and found.positions == tuple(names)
    assert torch.equal(found.values, read.targets["red"][:, read.picture].exp())
    places = read.top(5, patches=True)
    assert all(place.position.startswith("patch") for place in places)
    assert [p.probability for p in places] == sorted((p.probability for p in places), reverse=True)
    assert not any(place.position.startswith("patch") for place in read.top(5, patches=False))
    json.dumps(read.to_json(), allow_nan=False)


def test_bad_input_is_answered_with_what_is_allowed(tiny_llava, tiny_mllama, picture):
    with pytest.raises(ValueError, match=r"vision\.1\.resid.*text\.0\.resid"):
        lens(tiny_llava, "what ?", picture(0), sites=[Site("vision", 1, "resid")])
    read = lens(tiny_llava, "what ?", picture(0), words=["red"])
    with pytest.raises(LookupError, match="'blue' was not asked for; there are red"):
        read.localisation("blue")
    with pytest.raises(ValueError, match="no word"):
        lens(tiny_llava, "what ?", picture(0), words=[" "])
    with pytest.raises(ValueError, match="no position per patch"):
        lens(tiny_mllama, "what ?", picture(0), words=["red"]).localisation("red")
