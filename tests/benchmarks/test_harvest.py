"""Harvesting a vision site against the tower alone, and against a whole forward pass."""

from __future__ import annotations

import copy

import pytest
import torch

from concept_forget.concepts import Example
from saes.harvest import harvest
from saes.store import ActivationStore

PICTURES = 2


@pytest.fixture
def examples(picture) -> list[Example]:
    return [
        Example("what is shown here ?", "cup", picture(number, 500, 375), group=f"picture {number}")
        for number in range(PICTURES)
    ]


def test_harvest_against_the_tower_alone(wide_llava, examples: list[Example], paired) -> None:
    model, site = wide_llava, wide_llava.reading_site
    pixels = model.prepare([e.prompt for e in examples], [e.image for e in examples]).inputs["pixel_values"]
    tower = copy.deepcopy(model.anatomy.tower)
    tower.encoder.layers = tower.encoder.layers[: site.layer + 1]

    def ours() -> ActivationStore:
        return harvest(model, examples, site, batch_size=PICTURES)

    def alone() -> torch.Tensor:
        return tower(pixels).last_hidden_state

    (rows,) = ours().shards()
    assert torch.equal(rows.x, alone()[:, 1:].flatten(0, 1))
    paired({f"harvest of {site}, {PICTURES} pictures, against the tower alone": ours}, alone, "at most 1.1")


def test_harvest_against_a_full_forward_pass(wide_llava, examples: list[Example], paired) -> None:
    model, site = wide_llava, wide_llava.reading_site
    few = examples[:1]
    batch = model.prepare([e.prompt for e in few], [e.image for e in few])

    def ours() -> ActivationStore:
        return harvest(model, few, site)

    def full() -> torch.Tensor:
        return model.run(batch, read=[site]).activations[site]

    (rows,) = ours().shards()
    assert torch.equal(rows.x, full()[:, 1:].flatten(0, 1))
    paired({f"harvest of {site}, against a full forward pass": ours}, full, "at least 1")
