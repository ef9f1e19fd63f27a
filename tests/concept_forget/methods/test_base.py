"""Reading activations for a method."""

import pytest
import torch

from concept_forget.concepts import Example, ForgetRequest, one_per_group
from concept_forget.methods.base import content_tokens, contrast_examples, group_activations, mean_activation
from concept_forget.model import HookedModel
from concept_forget.sites import Site


def test_each_group_is_read_once_and_only_its_patches_count(
    tiny_llava: HookedModel, request_red: ForgetRequest
) -> None:
    train, site = request_red.concept.train, tiny_llava.reading_site
    reads = list(group_activations(tiny_llava, train.forget, site, batch_size=5))
    assert [len(read.x) for read in reads] == [5, 5, 2]
    groups = one_per_group(train.forget)
    batch = tiny_llava.prepare([e.prompt for e in groups], [e.image for e in groups])
    run = tiny_llava.run(batch, read=[site], logits=None)
    expected = run.activations[site][:, run.tokens.patches(site)]
    assert expected.shape[1] == 16 < reads[0].x.shape[1]
    mean = mean_activation(tiny_llava, train.forget, site, batch_size=5)
    assert torch.allclose(mean, expected.mean((0, 1)), atol=1e-5)
    assert not torch.allclose(mean, run.activations[site].mean((0, 1)), atol=1e-3)


def test_batch_size_does_not_change_what_is_read(tiny_llava: HookedModel, request_red: ForgetRequest) -> None:
    examples, site = request_red.concept.train.near, tiny_llava.reading_site
    one = torch.cat(list(content_tokens(tiny_llava, examples, site, batch_size=1)))
    many = torch.cat(list(content_tokens(tiny_llava, examples, site, batch_size=7)))
    assert torch.allclose(one, many, atol=1e-5)


def test_reading_a_vision_site_never_runs_the_language_model(
    tiny_llava: HookedModel, request_red: ForgetRequest
) -> None:
    calls: list[int] = []
    handle = tiny_llava.model.get_decoder().register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        mean_activation(tiny_llava, request_red.concept.train.forget, tiny_llava.reading_site)
        assert not calls
        mean_activation(tiny_llava, request_red.concept.train.forget[:2], Site("text", 1, "resid"))
        assert calls
    finally:
        handle.remove()


def test_padding_and_special_tokens_of_texts_do_not_count(tiny_llama: HookedModel) -> None:
    texts = [Example("what is shown here ?", "", group="a"), Example("yes", "", group="b")]
    site = Site("text", 1, "resid")
    together = torch.cat(list(content_tokens(tiny_llama, texts, site)))
    alone = torch.cat([torch.cat(list(content_tokens(tiny_llama, [text], site))) for text in texts])
    assert together.shape == alone.shape
    assert torch.allclose(together, alone, atol=1e-5)


def test_groups_with_and_without_a_picture_are_never_in_one_batch(
    tiny_mllama: HookedModel, request_red: ForgetRequest
) -> None:
    seen = request_red.concept.train.forget[:4]
    mixed = [seen[0], Example("yes", "", group="text"), seen[2]]
    reads = list(group_activations(tiny_mllama, mixed, Site("text", 2, "resid")))
    assert [len(read.x) for read in reads] == [1, 1, 1]


def test_without_neighbours_the_contrast_is_everything_else(request_red: ForgetRequest) -> None:
    train = request_red.concept.train
    assert contrast_examples(train, "near") == train.near
    assert contrast_examples(train, "without") == train.near + train.retain
    assert contrast_examples(train._replace(near=()), "near") == train.retain


def test_no_examples_is_an_error(tiny_llava: HookedModel) -> None:
    with pytest.raises(ValueError, match="at least one example"):
        mean_activation(tiny_llava, (), tiny_llava.reading_site)
