import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from concept_forget.directions import Dictionary, FeatureRows
from concept_forget.sites import Site
from saes.dictionary import SaeDictionary

SITE = Site("vision", 1, "resid")


def random_dictionary(seed: int, jump: bool, d: int = 5, f: int = 11) -> SaeDictionary:
    g = torch.Generator().manual_seed(seed)
    threshold = torch.rand(f, generator=g) if jump else torch.zeros(f)
    rows = FeatureRows(
        torch.randn(f, d, generator=g), torch.randn(f, generator=g), threshold, torch.randn(f, d, generator=g)
    )
    return SaeDictionary.from_rows(rows, torch.randn(d, generator=g), SITE)


def sae_lens_sae(kind: str, centred: bool = True):
    from sae_lens.saes.jumprelu_sae import JumpReLUSAE, JumpReLUSAEConfig
    from sae_lens.saes.standard_sae import StandardSAE, StandardSAEConfig
    from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig

    torch.manual_seed(0)
    classes = {
        "standard": (StandardSAE, StandardSAEConfig, {}),
        "jumprelu": (JumpReLUSAE, JumpReLUSAEConfig, {}),
        "topk": (TopKSAE, TopKSAEConfig, {"k": 3}),
    }
    made, config, extra = classes[kind]
    sae = made(config(d_in=5, d_sae=11, apply_b_dec_to_input=centred, **extra))
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return sae


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), jump=st.booleans(), features=st.lists(st.integers(0, 10), min_size=1, max_size=6))
def test_single_rows_give_what_the_whole_dictionary_gives(seed, jump, features):
    dictionary = random_dictionary(seed, jump)
    x = torch.randn(7, 5, generator=torch.Generator().manual_seed(seed + 1))
    chosen = torch.tensor(features)
    torch.testing.assert_close(dictionary.rows(chosen).encode(x), dictionary.encode(x)[:, chosen])
    torch.testing.assert_close(dictionary.rows(chosen).decoder, dictionary.decoder[chosen])


@pytest.mark.parametrize("kind", ["standard", "jumprelu", "topk"])
@pytest.mark.parametrize("centred", [True, False])
def test_wrapping_an_sae_changes_neither_codes_nor_reconstruction(kind, centred):
    sae = sae_lens_sae(kind, centred)
    dictionary = SaeDictionary(sae, SITE)
    x = torch.randn(64, 5)
    with torch.no_grad():
        z = sae.encode(x)
        assert (z > 0).any() and (z == 0).any()
        torch.testing.assert_close(dictionary.encode(x), z)
        torch.testing.assert_close(dictionary.decode(z), sae.decode(z))
    assert isinstance(dictionary, Dictionary)


def test_an_sae_kind_without_exact_rows_says_which_kinds_have_them():
    dictionary = SaeDictionary(sae_lens_sae("topk"), SITE)
    with pytest.raises(ValueError, match="topk.*JumpReLU"):
        dictionary.rows(torch.tensor([0]))


@pytest.mark.parametrize("jump", [True, False])
def test_saved_and_loaded_is_bit_identical_and_sae_lens_reads_the_same_files(tmp_path, jump):
    from sae_lens import SAE

    dictionary = random_dictionary(3, jump)
    loaded = SaeDictionary.load(dictionary.save(tmp_path / "sae"))
    x = torch.randn(32, 5)
    assert torch.equal(loaded.encode(x), dictionary.encode(x))
    assert loaded.site == SITE
    theirs = SAE.load_from_disk(tmp_path / "sae")
    with torch.no_grad():
        torch.testing.assert_close(theirs.encode(x), dictionary.encode(x))
        torch.testing.assert_close(theirs(x), dictionary.decode(dictionary.encode(x)))


def test_a_topk_sae_survives_saving(tmp_path):
    dictionary = SaeDictionary(sae_lens_sae("topk"), SITE)
    x = torch.randn(8, 5)
    torch.testing.assert_close(SaeDictionary.load(dictionary.save(tmp_path)).encode(x), dictionary.encode(x))


@pytest.mark.parametrize("name", ["sae_weights.safetensors", "cfg.json"])
def test_a_truncated_file_is_named(tmp_path, name):
    random_dictionary(0, True).save(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=name):
        SaeDictionary.load(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=f"{name} is missing"):
        SaeDictionary.load(tmp_path)


def test_weights_that_do_not_fit_the_config_are_refused(tmp_path):
    random_dictionary(0, True).save(tmp_path)
    config = json.loads((tmp_path / "cfg.json").read_text()) | {"d_sae": 12}
    (tmp_path / "cfg.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="sae_weights.safetensors"):
        SaeDictionary.load(tmp_path)


def test_unknown_features_are_named_with_the_allowed_range():
    with pytest.raises(LookupError, match=r"\[11\].*0\.\.10"):
        random_dictionary(0, False).rows(torch.tensor([2, 11]))


def test_half_precision_activations_are_encoded_in_the_dictionarys_precision():
    dictionary = random_dictionary(0, False)
    x = torch.randn(4, 5).bfloat16()
    assert torch.equal(dictionary.encode(x), dictionary.encode(x.float()))
