"""Answering about a picture with an edit against answering without."""

from __future__ import annotations

from functools import partial

import torch

from concept_forget.directions import FeatureRows
from concept_forget.edits.clamp import Action, FeatureClamp
from concept_forget.edits.gate import ImageGate
from concept_forget.model import Generation
from concept_forget.sites import Site

FEATURES, TOKENS = 32, 8


def clamp(site: Site, width: int, threshold: float) -> FeatureClamp:
    """32 features negated, behind a gate that reads the same features."""
    decoder = torch.nn.functional.normalize(torch.randn(FEATURES, width, generator=torch.Generator().manual_seed(0)))
    nothing = torch.zeros(FEATURES)
    rows = FeatureRows(decoder.clone(), nothing, nothing, decoder)
    gate = ImageGate(rows, torch.ones(2 * FEATURES), threshold, recall=1.0, false_fire=0.0)
    return FeatureClamp(site, rows, Action.scale(-3.0), gate)


def test_generation_with_an_edit(wide_llava, picture, paired) -> None:
    model = wide_llava
    batch = model.prepare(["what is shown here ?"], [picture(0, 500, 375)])
    sites = (model.reading_site, Site("text", 0, "resid"))

    def generate(*edits: FeatureClamp) -> Generation:
        return model.generate(batch, edits, max_new_tokens=TOKENS)

    works, before = {}, generate()
    assert before.texts[0]
    for site, calls in zip(sites, (1, TOKENS), strict=True):
        shut, edit = (clamp(site, model.width(site), float(bound)) for bound in ("inf", "-inf"))
        assert generate(shut).texts == before.texts
        (stat,) = generate(edit).hooks
        assert (stat.calls, stat.tokens >= 577, stat.mean_abs_delta > 0) == (calls, True, True)
        works[f"generation of {TOKENS} tokens with an edit at {site}, against none"] = partial(generate, edit)
    paired(works, generate, "at most 1.05")
    assert generate().texts == before.texts
