"""An export is reloaded by stock code and carries the badge it deserves; the model in use never changes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForImageTextToText

from app.exporting import export
from concept_forget.concepts import Concept, Example, ExampleSet
from concept_forget.directions import FeatureRows
from concept_forget.distil import Distil, _Reader, distilled
from concept_forget.edits import (
    FeatureClamp,
    LowRank,
    NoEdit,
    PromptEdit,
    Shift,
    StreamErase,
    SubspaceErase,
    WeightDelta,
)
from concept_forget.model import HookedModel
from concept_forget.provenance import hash_tensors
from concept_forget.recipe import Recipe, RecipeError, config_hash
from concept_forget.sites import Site


def edits(model: HookedModel):
    g = torch.Generator().manual_seed(0)
    d = model.anatomy.text_width
    door = SubspaceErase.of(Site.parse("projector.in"), torch.randn(1, 24, generator=g), torch.randn(24, generator=g))
    weight = "lm_head.weight"
    return {
        "none": NoEdit(),
        "erase": door,
        "stream": StreamErase.of(torch.randn(1, d, generator=g)),
        "shift": Shift(Site.parse("text.1.resid"), torch.randn(d, generator=g)),
        "weights": WeightDelta({weight: LowRank(torch.randn(len(model.model.lm_head.weight), 1), torch.randn(1, d))}),
    }


@pytest.mark.parametrize("kind", ["none", "erase", "stream", "shift", "weights"])
def test_what_has_an_exact_form_is_exact_after_stock_code_reloads_it(kind, tiny_llava, picture, tmp_path):
    edit, before = edits(tiny_llava)[kind], hash_tensors(tiny_llava.model.state_dict())
    config = config_hash(tiny_llava)
    made = export(tiny_llava, Recipe.of(tiny_llava, "red", [edit]), tmp_path / "out")
    assert (made.badge, made.reason) == ("exact", "")
    assert made.error is not None
    assert made.error < 1e-3
    assert hash_tensors(tiny_llava.model.state_dict()) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]
    net = AutoModelForImageTextToText.from_pretrained(made.folder, trust_remote_code=False)
    batch = tiny_llava.prepare(["what is shown here ?"], [picture(5)])
    wanted = tiny_llava.run(batch, edits=[edit]).logits
    assert (HookedModel(net, tiny_llava.processor).run(batch).logits - wanted).abs().max() < 1e-3
    about = json.loads((made.folder / "export.json").read_text())
    assert about["badge"] == "exact"
    assert "Badge: **exact**" in (made.folder / "README.md").read_text()
    assert config_hash(tiny_llava) == config
    assert Recipe.load(made.folder / "recipe", tiny_llava).concept == "red"


def test_edits_compose_in_one_export(tiny_llava, tmp_path):
    every = list(edits(tiny_llava).values())
    made = export(tiny_llava, Recipe.of(tiny_llava, "red", every[1:4]), tmp_path / "out")
    assert made.badge == "exact"


def clamp(model: HookedModel) -> FeatureClamp:
    g = torch.Generator().manual_seed(0)
    rows = FeatureRows(torch.randn(4, 24, generator=g), torch.zeros(4), torch.zeros(4), torch.randn(4, 24, generator=g))
    return FeatureClamp(model.reading_site, rows, strength=0.3)


def test_without_an_exact_form_and_without_examples_it_is_hook_only(tiny_llava, tmp_path):
    recipe = Recipe.of(tiny_llava, "red", [clamp(tiny_llava)])
    made = export(tiny_llava, recipe, tmp_path / "out")
    assert (made.badge, made.error, made.kl) == ("hook only", None, None)
    assert "no exact form" in made.reason
    assert not list(made.folder.glob("*.safetensors"))
    assert "Recipe.load" in (made.folder / "README.md").read_text()
    assert export(tiny_llava, Recipe.of(tiny_llava, "red", [PromptEdit("no red")]), tmp_path / "b").badge == "hook only"


def red(picture) -> Concept:
    def part(start: int, shown: bool) -> tuple[Example, ...]:
        shows = frozenset({"red"} if shown else {"blue"})
        about = "red" if shown else "blue"
        return tuple(
            Example(f"is there {about} ?", "yes", picture(i), "yesno", about, "colour", shows, group=str(i))
            for i in range(start, start + 6)
        )

    def split(start: int) -> ExampleSet:
        return ExampleSet(part(start, True), part(start + 6, False), ())

    return Concept("red", "colour", split(0), split(20), split(40))


def test_what_is_distilled_stands_in_for_the_hook_as_a_weight_edit(tiny_llava, picture):
    before, concept, edit = hash_tensors(tiny_llava.model.state_dict()), red(picture), clamp(tiny_llava)
    settings = Distil(rank=4, steps=60, batch_size=8, every=30, learning_rate=1e-2)
    learned = distilled(tiny_llava, [edit], concept, settings)
    assert hash_tensors(tiny_llava.model.state_dict()) == before
    asked = concept.test.forget
    batch = tiny_llava.prepare([e.prompt for e in asked], [e.image for e in asked])
    out = Site.parse("projector.out")
    bare, hooked, trained = (
        tiny_llava.run(batch, read=[out], edits=edits).activations[out] for edits in ([], [edit], [learned])
    )
    assert (trained - hooked).square().mean() < 0.5 * (bare - hooked).square().mean()
    with pytest.raises(ValueError, match="change nothing"):
        distilled(tiny_llava, [replace(edit, strength=0.0)], concept, settings)


def test_read_together_or_alone_forget_and_retain_have_the_same_losses(tiny_llava, picture):
    concept = red(picture)
    parts = list(concept.train.forget)[:3], list(concept.train.without)[:2]
    reader = _Reader(tiny_llava, tiny_llava, [clamp(tiny_llava)], Site.parse("projector.out"))
    together = [float(loss) for loss in reader.losses(parts, 1.0)]
    alone = [float(reader.losses([part], 1.0)[0]) for part in parts]
    assert together == pytest.approx(alone, rel=1e-4)
    assert alone[0] != pytest.approx(alone[1], rel=1e-2)


def test_a_clamp_is_distilled_and_measured_with_hooks_off(tiny_llava, picture, tmp_path):
    concept = red(picture)
    before = hash_tensors(tiny_llava.model.state_dict())
    recipe = Recipe.of(tiny_llava, "red", [clamp(tiny_llava)])
    settings = Distil(rank=4, steps=60, batch_size=8, every=30, learning_rate=1e-2)
    made = export(tiny_llava, recipe, tmp_path / "out", concept=concept, distilling=settings)
    # hooks everywhere: the same activations are asked to change on both kinds, so nothing contradicts
    assert made.badge == "approximate"
    assert made.kl is not None
    assert made.numbers["effect_kept"] > 0.5
    assert made.kl < sum(made.numbers["effect"]) / 2
    assert set(made.numbers["metrics"]["UAd"]) == {"untouched", "hooked", "exported"}
    assert "hooks off" in (made.folder / "README.md").read_text()
    assert hash_tensors(tiny_llava.model.state_dict()) == before
    poor = export(tiny_llava, recipe, tmp_path / "poor", concept=concept, distilling=Distil(rank=1, steps=1))
    assert poor.badge == "hook only"
    assert not list(poor.folder.glob("*.safetensors"))


def test_another_model_or_a_folder_with_something_else_is_refused(tiny_llava, tiny_llama, tmp_path):
    recipe = Recipe.of(tiny_llava, "red", [NoEdit()])
    with pytest.raises(RecipeError):
        export(tiny_llama, recipe, tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(ValueError, match="something else"):
        export(tiny_llava, recipe, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "all of it"
