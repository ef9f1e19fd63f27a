"""The clamp of a few rows against the whole dictionary spliced in."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from concept_forget.edits.clamp import Action, FeatureClamp
from concept_forget.sites import Site
from saes.dictionary import SaeDictionary

TOKENS, WIDTH, FEATURES, GAMMA = 576, 1024, 65_536, -1.0


@pytest.fixture(scope="module")
def sae():
    """A ReLU SAE with unit decoder rows, tied, of which about 90 features fire at a token."""
    from sae_lens import StandardSAE, StandardSAEConfig

    made = StandardSAE(StandardSAEConfig(d_in=WIDTH, d_sae=FEATURES, dtype="float32", device="cpu"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        made.W_dec.normal_(generator=generator)
        made.W_dec /= made.W_dec.norm(dim=1, keepdim=True)
        made.W_enc.copy_(made.W_dec.T)
        made.b_enc.fill_(-3.0)
        made.b_dec.normal_(std=0.1, generator=generator)
    return made


def test_delta_edit_equals_the_full_splice(sae, paired) -> None:
    dictionary = SaeDictionary(sae, Site("vision", 0, "resid"))
    concept = torch.arange(32) * (FEATURES // 32)
    x = torch.randn(1, TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))
    # Half of the tokens show the concept: there its features fire.
    x[:, ::2] += 4.0 * sae.W_dec[concept].sum(0)
    edits = {k: FeatureClamp(dictionary.site, dictionary.rows(concept[:k]), Action.scale(GAMMA)) for k in (8, 32)}

    def splice(k: int) -> Tensor:
        """Encoded once; sae-lens' own `use_error_term` encodes twice, so against that the ratio would be larger."""
        z = sae.encode(x)
        clamped = z.clone()
        clamped[..., concept[:k]] *= GAMMA
        return sae.decode(clamped) + (x - sae.decode(z))

    scale = x.square().mean().sqrt()
    for k, edit in edits.items():
        ours = edit.transform(x)
        assert (ours - x).abs().max() > 0.1 * scale
        assert (ours - splice(k)).abs().max() < 1e-5 * scale
    ours = {f"delta edit, {k} features, against the full splice": partial(e.transform, x) for k, e in edits.items()}
    paired(ours, partial(splice, 32), "at least 100")
