"""A recipe gives back the edits it was made of, and refuses everything else with the reason."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from concept_forget import recipe as recipe_module
from concept_forget.directions import FeatureRows
from concept_forget.edits import (
    EDITS,
    Action,
    Edit,
    FeatureClamp,
    GuardRule,
    ImageGate,
    LeaceErase,
    LowRank,
    NoEdit,
    OnTokens,
    PromptEdit,
    Replace,
    ResidualErase,
    RowsDictionary,
    SauceEdit,
    Shift,
    SiteEdit,
    StreamErase,
    SubspaceErase,
    Sum,
    Together,
    WeightDelta,
)
from concept_forget.edits.guard import PromptGate
from concept_forget.methods import GatedClamp
from concept_forget.model import HookedModel
from concept_forget.provenance import CannotWriteError, hash_file, hash_json
from concept_forget.recipe import TENSORS, YAML, Recipe, RecipeError
from concept_forget.sites import Site


def edits(site: Site, d: int) -> dict[str, Edit]:
    """One edit of every kind, gates and values included."""
    g = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g)

    rows = FeatureRows(draw(5, d), draw(5), torch.zeros(5), draw(5, d))
    gate = ImageGate(rows, draw(10), 0.25, 0.98, 0.01, token_threshold=draw(5))
    jump = FeatureRows(draw(20, d), draw(20), draw(20).abs(), draw(20, d))
    plane = torch.linalg.qr(draw(d, 2))[0].T.contiguous()
    clamp, shift = FeatureClamp(site, rows, Action.zero()), Shift(site, draw(d), strength=-0.5)
    layers = ((draw(4, d), draw(4)), (draw(2, 4), draw(2)))
    guard = PromptGate(draw(d), draw(d).abs() + 1, layers)
    return {
        "clamp": FeatureClamp(site, rows, Action.limit(draw(5)), gate, strength=0.7),
        "sauce": SauceEdit(site, RowsDictionary(site, jump, draw(d)), torch.tensor([3, 7]), -1.5),
        "erase": SubspaceErase(site, plane, draw(d), strength=2.0),
        "leace": LeaceErase(site, draw(d, 1), draw(1, d), draw(d), replace(gate, token_threshold=None)),
        "shift": shift,
        "residual": ResidualErase(site, jump._replace(decoder=draw(20, 1)), draw(d, 1), draw(1, d), draw(1)),
        "replace": Replace(site, rows, torch.zeros(5), draw(7, d)),
        "sum": Sum((clamp, shift)),
        "on_tokens": OnTokens(Shift(Site("text", 0, "resid"), draw(32)), "text"),
        "together": Together((clamp, shift)),
        "weights": WeightDelta({"lm_head.weight": LowRank(draw(4, 1), draw(1, 3))}, 0.5),
        "stream": StreamErase.of(draw(1, d)),
        "prompt": PromptEdit("Do not mention “red”."),
        "guard": GuardRule(site, guard, (("Ada", "Ada L."),), draw(1, d), (0,)),
        "none": NoEdit(),
    }


@pytest.fixture(scope="module")
def recipe(tiny_llava: HookedModel) -> Recipe:
    site = tiny_llava.reading_site
    every = tuple(edits(site, tiny_llava.width(site)).values())
    assert {edit.kind for edit in every} == set(EDITS)
    return Recipe.of(tiny_llava, "red", every, GatedClamp(k=5), seed=3)


def test_there_is_an_example_of_every_kind_of_edit() -> None:
    assert list(edits(Site("vision", 0, "resid"), 8)) == list(EDITS)


@pytest.mark.parametrize("kind", EDITS)
def test_an_edit_comes_back_as_it_was(kind: str, recipe: Recipe, tiny_llava: HookedModel, tmp_path: Path) -> None:
    index = list(EDITS).index(kind)
    loaded = Recipe.load(recipe.save(tmp_path))
    before, after = recipe.edits[index], loaded.edits[index]
    assert type(after) is type(before) is EDITS[kind]
    assert after.prompt("And now?") == before.prompt("And now?")
    if isinstance(before, SiteEdit) and isinstance(after, SiteEdit):
        x = torch.randn(2, 17, tiny_llava.width(before.site))
        assert after.site == before.site
        assert torch.equal(after.transform(x), before.transform(x))
        assert not torch.equal(after.transform(x), x)
        assert (after.gate is None) == (before.gate is None)
        if before.gate is not None:
            assert torch.equal(after.gate.decide(x), before.gate.decide(x))
            assert torch.equal(after.gate.score(x), before.gate.score(x))
            assert (after.gate.recall, after.gate.false_fire) == (0.98, 0.01)


def test_everything_around_the_edits_comes_back(recipe: Recipe, tmp_path: Path) -> None:
    loaded = Recipe.load(recipe.save(tmp_path))
    assert (loaded.model, loaded.revision, loaded.config) == (recipe.model, recipe.revision, recipe.config)
    assert loaded.concept == "red"
    assert loaded.settings == recipe.settings
    assert loaded.settings["method"] == "gated_clamp"
    assert (loaded.settings["k"], loaded.settings["seed"]) == (5, 3)
    assert loaded.versions["torch"] == recipe.versions["torch"]


def test_a_loaded_recipe_changes_the_model_as_the_edit_itself(tiny_llava: HookedModel, tmp_path: Path, picture) -> None:
    site = tiny_llava.reading_site
    clamp = replace(edits(site, tiny_llava.width(site))["clamp"], gate=None)
    loaded = Recipe.load(Recipe.of(tiny_llava, "red", [clamp]).save(tmp_path), tiny_llava)
    batch = tiny_llava.prepare(["what is shown here ?"], [picture(1)])
    bare, direct = tiny_llava.run(batch).logits, tiny_llava.run(batch, edits=[clamp]).logits
    with loaded.applied(tiny_llava) as stats:
        assert torch.equal(tiny_llava.run(batch).logits, direct)
    assert stats[0].tokens == 17
    assert not torch.equal(direct, bare)
    assert torch.equal(tiny_llava.run(batch).logits, bare)


def test_a_recipe_for_another_model_or_revision_is_refused(
    recipe: Recipe, tiny_llava: HookedModel, tiny_mllama: HookedModel, tmp_path: Path
) -> None:
    recipe.save(tmp_path)
    with pytest.raises(RecipeError, match="was made for tiny random llava, and tiny random mllama has another config"):
        Recipe.load(tmp_path, tiny_mllama)
    with pytest.raises(RecipeError, match="another config"), recipe.applied(tiny_mllama):
        pass
    other = HookedModel(tiny_llava.model, tiny_llava.processor, tiny_llava.name, revision="b")
    with pytest.raises(RecipeError, match="made for revision a of tiny random llava; this is revision b"):
        replace(recipe, revision="a").check(other)
    replace(recipe, revision="b").check(other)


def test_how_a_model_was_loaded_does_not_make_it_another(recipe: Recipe, tiny_llava: HookedModel) -> None:
    config = tiny_llava.model.config
    before = config._name_or_path
    try:
        config._name_or_path = "elsewhere"
        recipe.check(tiny_llava)
    finally:
        config._name_or_path = before


def test_a_retrained_model_of_the_same_config_is_refused(recipe: Recipe, tiny_llava: HookedModel, tmp_path: Path):
    only = replace(recipe, edits=recipe.edits[:1])
    loaded = Recipe.load(only.save(tmp_path), tiny_llava)
    twin = HookedModel(copy.deepcopy(tiny_llava.model), tiny_llava.processor, "twin")
    loaded.check(twin)
    loaded.check(HookedModel(copy.deepcopy(twin.model).bfloat16(), twin.processor, "twin in bfloat16"))
    delta = WeightDelta({name: torch.full_like(p, 1e-3) for name, p in twin.model.named_parameters()})
    with delta.applied(twin):
        loaded.check(twin)
    delta.bake(twin)
    with pytest.raises(RecipeError, match="twin has the same config, but other weights"):
        loaded.check(twin)
    with pytest.raises(RecipeError, match="other weights"), loaded.applied(twin):
        pass
    replace(loaded, fingerprint={}).check(twin)


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"rows.encoder": torch.zeros(5, 7)}, "does not fit tiny random llava"),
        ({"rows.decoder": torch.zeros(5, 7)}, "does not fit"),
        ({"rows.decoder": torch.full((5, 24), torch.inf)}, "not finite"),
        ({"rows.decoder": torch.full((5, 24), 1e25)}, "when squared"),
        ({"gate.weights": torch.zeros(3)}, "does not fit"),
        ({"rows.bias": torch.full((5,), torch.nan)}, "not numbers"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_also_with_a_true_hash(
    tensors, reason: str, recipe: Recipe, tiny_llava: HookedModel, tmp_path: Path
) -> None:
    replace(recipe, edits=recipe.edits[:1]).save(tmp_path)
    named = load_file(tmp_path / TENSORS) | {f"0.{name}": tensor for name, tensor in tensors.items()}
    save_file(named, tmp_path / TENSORS)
    edited(tmp_path, True, tensors=hash_file(tmp_path / TENSORS))
    with pytest.raises(RecipeError, match=reason):
        Recipe.load(tmp_path, tiny_llava)


def test_references_in_the_yaml_are_not_followed(recipe: Recipe, tmp_path: Path) -> None:
    recipe.save(tmp_path)
    (tmp_path / YAML).write_text("a: &a [1, 1]\nb: [*a, *a]\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="refers to other parts of itself"):
        Recipe.load(tmp_path)


def edited(folder: Path, honest: bool, **changes: object) -> None:
    """Rewrites recipe.yaml with changes; an `honest` forger fixes the hash."""
    body = yaml.safe_load((folder / YAML).read_text(encoding="utf-8")) | changes
    if honest:
        body["hash"] = hash_json({key: value for key, value in body.items() if key != "hash"})
    (folder / YAML).write_text(yaml.safe_dump(body), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda f: edited(f, False, concept="blue"), "changed after it was written"),
        (lambda f: edited(f, False, settings={}), "changed after it was written"),
        (lambda f: edited(f, True, schema="other/9"), "schema is 'other/9', this version reads"),
        (lambda f: edited(f, True, edits=[{"kind": "magic"}]), "Unknown kind of edit 'magic'.*clamp, sauce"),
        (lambda f: edited(f, True, edits=[{"kind": "clamp", "site": None}]), "lacks or garbles an entry.*settings"),
        (lambda f: (f / YAML).write_text("a: [", encoding="utf-8"), "is not YAML"),
        (lambda f: (f / YAML).write_text("- 1", encoding="utf-8"), "schema is 'list'"),
        (lambda f: (f / YAML).unlink(), "there is no recipe.yaml"),
        (lambda f: (f / TENSORS).unlink(), "there is no recipe.safetensors"),
        (lambda f: (f / TENSORS).write_bytes((f / TENSORS).read_bytes()[:-8]), "changed, truncated or another one's"),
        (
            lambda f: (f / TENSORS).write_bytes((f / TENSORS).read_bytes()[:-1] + b"\x01"),
            "changed, truncated or another one's",
        ),
    ],
)
def test_a_damaged_recipe_is_refused_with_the_reason(damage, reason: str, recipe: Recipe, tmp_path: Path) -> None:
    recipe.save(tmp_path)
    Recipe.load(tmp_path)
    damage(tmp_path)
    with pytest.raises(RecipeError, match=reason):
        Recipe.load(tmp_path)


def test_a_yaml_that_asks_for_python_objects_is_not_obeyed(recipe: Recipe, tmp_path: Path) -> None:
    recipe.save(tmp_path)
    (tmp_path / YAML).write_text("!!python/object/apply:os.getcwd []", encoding="utf-8")
    with pytest.raises(RecipeError, match="is not YAML"):
        Recipe.load(tmp_path)


def test_an_edit_of_ones_own_cannot_silently_go_missing(tiny_llava: HookedModel, tmp_path: Path) -> None:
    class Mine(Edit):
        pass

    with pytest.raises(RecipeError, match="Mine cannot go into a recipe; kinds that can: clamp"):
        Recipe.of(tiny_llava, "red", [Mine()]).save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_recipe_whole(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe.save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(CannotWriteError, match="No space left"):
        replace(recipe, concept="blue").save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_saving_does_not_touch_the_edits_tensors(recipe: Recipe, tmp_path: Path) -> None:
    clamp = recipe.edits[0]
    assert isinstance(clamp, FeatureClamp)
    before = clamp.rows.encoder.clone()
    recipe.save(tmp_path)
    assert torch.equal(clamp.rows.encoder, before)
    assert recipe_module.SCHEMA in (tmp_path / YAML).read_text(encoding="utf-8")
