"""The two models this is for, at full size on the meta device: no weights, no download."""

import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    MllamaConfig,
    MllamaForConditionalGeneration,
)
from transformers.models.mllama.configuration_mllama import MllamaTextConfig, MllamaVisionConfig

from concept_forget.edits.base import SiteEdit, applied, hook
from concept_forget.model import HookedModel
from concept_forget.sites import Site


@pytest.fixture(scope="module")
def llava_7b() -> HookedModel:
    """As llava-hf/llava-1.5-7b-hf."""
    vision = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=336,
        patch_size=14,
        projection_dim=768,
        vocab_size=32000,
    )
    text = LlamaConfig(
        vocab_size=32064,
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=32,
        num_attention_heads=32,
        max_position_embeddings=4096,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=32000,
        image_seq_length=576,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )
    with torch.device("meta"):
        return HookedModel(LlavaForConditionalGeneration(config))


@pytest.fixture(scope="module")
def llama_vision_11b() -> HookedModel:
    """As meta-llama/Llama-3.2-11B-Vision-Instruct."""
    vision = MllamaVisionConfig(
        hidden_size=1280,
        intermediate_size=5120,
        num_hidden_layers=32,
        num_global_layers=8,
        attention_heads=16,
        image_size=560,
        patch_size=14,
        max_num_tiles=4,
        intermediate_layers_indices=[3, 7, 15, 23, 30],
        vision_output_dim=7680,
    )
    text = MllamaTextConfig(
        vocab_size=128256,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=40,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=131072,
        cross_attention_layers=[3, 8, 13, 18, 23, 28, 33, 38],
        tie_word_embeddings=False,
    )
    config = MllamaConfig(vision_config=vision, text_config=text, image_token_index=128256)
    with torch.device("meta"):
        return HookedModel(MllamaForConditionalGeneration(config))


def widths(model: HookedModel) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for site in model.sites():
        key = str(site) if site.tower == "projector" else site.tower
        found.setdefault(key, set()).add(model.width(site))
    return found


def test_llava_7b_has_its_sites_widths_and_grid(llava_7b):
    assert widths(llava_7b) == {"vision": {1024}, "projector.in": {1024}, "projector.out": {4096}, "text": {4096}}
    assert len(llava_7b.sites()) == 24 * 3 + 2 + 32 * 3
    assert llava_7b.grid == (24, 24)
    assert str(llava_7b.reading_site) == "vision.22.resid"


def test_llama_vision_11b_has_its_sites_widths_and_grid(llama_vision_11b):
    model = llama_vision_11b
    assert widths(model) == {"vision": {1280}, "projector.in": {7680}, "projector.out": {4096}, "text": {4096}}
    assert len(model.sites()) == (32 + 8) * 3 + 2 + 40 * 3
    assert model.grid == (40, 40)
    assert str(model.reading_site) == "projector.in"
    assert type(model.module(Site("text", 8, "attn"))[0]).__name__ == "MllamaTextCrossAttention"


def test_the_memory_plan_is_the_published_size(llava_7b, llama_vision_11b):
    assert llava_7b.parameter_bytes(torch.bfloat16) == 2 * 7_063_427_072
    assert llama_vision_11b.parameter_bytes(torch.bfloat16) == 2 * 10_670_220_835


@pytest.mark.parametrize("name", ["llava_7b", "llama_vision_11b"])
def test_the_layout_has_the_length_the_tower_makes(request, name):
    """By shape: the tower itself, run without numbers."""
    model = request.getfixturevalue(name)
    layout, site, door = model.layout, Site("vision", 3, "resid"), Site.parse("projector.in")
    seen = []
    handle = hook(*model.module(site), lambda x: seen.append(x.shape), first=True)
    try:
        if name == "llava_7b":
            model.anatomy.tower(torch.empty(1, 3, 336, 336, device="meta"))
            tiles = torch.ones(1, 1, dtype=torch.bool)
            door_length = 576
        else:
            tiles = torch.tensor([[True, True, False, False]])
            inputs = {"aspect_ratio_ids": torch.ones(1, 1), "aspect_ratio_mask": tiles[:, None]}
            inputs = {key: value.long().to("meta") for key, value in inputs.items()}
            model.anatomy.tower(torch.empty(1, 1, 4, 3, 560, 560, device="meta"), **inputs)
            door_length = 4 * 1601
    finally:
        handle.remove()
    assert len(seen) == 1
    before, after = layout.frame(site)
    assert seen[0] == (1, layout.tiles * (before + len(layout.order(site)) + after), model.width(site))
    before, after = layout.frame(door)
    assert layout.tiles * (before + len(layout.order(door)) + after) == door_length
    if name == "llama_vision_11b":
        assert layout.eligible(site, tiles).shape == seen[0][:2]
        assert int(layout.eligible(site, tiles).sum()) == 2 * 1601
        assert len(layout.patches(site, tiles)) == 2 * 1600


def test_an_edit_attaches_on_the_meta_device_without_asking_for_life(llava_7b):
    class Nothing(SiteEdit):
        site, gate = Site("vision", 23, "resid"), None

        def transform(self, x):
            return x

    module = llava_7b.module(Nothing.site)[0]
    with applied(llava_7b, [Nothing()]):
        assert len(module._forward_hooks) == 1
    assert len(module._forward_hooks) == 0
