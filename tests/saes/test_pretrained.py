import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from concept_forget.sites import Site
from saes.pretrained import hook_name_of, load_pretrained, site_of


@given(st.integers(0, 99), st.sampled_from([("text", "resid"), ("text", "attn"), ("text", "mlp"), ("vision", "resid")]))
def test_a_site_survives_its_hook_name(layer, place):
    site = Site(place[0], layer, place[1])
    assert site_of(hook_name_of(site)) == site


def test_hook_names_mean_the_places_of_transformer_lens():
    assert str(site_of("blocks.8.hook_resid_post")) == "text.8.resid"
    assert str(site_of("blocks.8.hook_resid_pre")) == "text.7.resid"
    assert str(site_of("vision.3.resid")) == "vision.3.resid"
    for unknown in ("blocks.0.hook_resid_pre", "blocks.3.attn.hook_z", "hook_embed"):
        with pytest.raises(ValueError, match="is no site here"):
            site_of(unknown)
    with pytest.raises(ValueError, match="projector.in"):
        hook_name_of(Site("projector", None, "in"))


def test_a_local_folder_of_sae_lens_files_is_read_with_its_hook_name(tmp_path):
    from sae_lens.saes.sae import SAEMetadata
    from sae_lens.saes.standard_sae import StandardSAE, StandardSAEConfig

    metadata = SAEMetadata(hook_name="blocks.8.hook_resid_post")
    sae = StandardSAE(StandardSAEConfig(d_in=4, d_sae=6, metadata=metadata))
    sae.save_model(tmp_path / "layer_8")
    dictionary = load_pretrained(tmp_path, "layer_8")
    assert dictionary.site == Site("text", 8, "resid")
    x = torch.randn(3, 4)
    torch.testing.assert_close(dictionary.encode(x), sae.encode(x).detach())
    assert load_pretrained(tmp_path / "layer_8", site=Site("text", 2, "mlp")).site == Site("text", 2, "mlp")
    with pytest.raises(LookupError, match="is no folder"):
        load_pretrained(tmp_path / "layer_9")


def test_a_folder_that_names_no_place_asks_for_one(tmp_path):
    from sae_lens.saes.standard_sae import StandardSAE, StandardSAEConfig

    StandardSAE(StandardSAEConfig(d_in=4, d_sae=6)).save_model(tmp_path)
    with pytest.raises(ValueError, match="give a site"):
        load_pretrained(tmp_path)


def test_a_release_that_cannot_be_fetched_says_what_to_do(monkeypatch):
    from sae_lens import SAE

    def offline(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(SAE, "from_pretrained", offline)
    with pytest.raises(LookupError, match="no route to host.*copy its files"):
        load_pretrained("gemma-scope-2b-pt-res-canonical", "layer_8/width_16k/canonical")


def test_an_unknown_release_or_id_is_named():
    with pytest.raises(LookupError, match="no-such-release"):
        load_pretrained("no-such-release", "layer_8")
    with pytest.raises(LookupError, match="layer_99.*Valid IDs"):
        load_pretrained("gpt2-small-res-jb", "layer_99")
