"""Every method: the laws they share, and what each one promises."""

import json
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from concept_forget.concepts import Example, ForgetRequest, one_per_group
from concept_forget.directions import FeatureSet
from concept_forget.edits import Edit, FeatureClamp, LeaceErase, NoEdit, SauceEdit, SubspaceErase, applied
from concept_forget.evaluation.faint import with_faint_copies
from concept_forget.methods import (
    METHODS,
    Ablation,
    Clamp,
    DiffMeans,
    GatedClamp,
    Leace,
    Method,
    PatchClamp,
    Prompt,
    RandomFeatures,
    Sauce,
    Steer,
)
from concept_forget.methods.base import content_tokens, mean_activation
from concept_forget.methods.means import at_depth, class_means
from concept_forget.methods.training import WeightMethod
from concept_forget.model import HookedModel
from concept_forget.worlds import text

everyone = pytest.mark.parametrize("name", METHODS)


def logits(model: HookedModel, examples: tuple[Example, ...], edits: list[Edit]) -> torch.Tensor:
    some = one_per_group(examples)
    batch = model.prepare([e.prompt for e in some], [e.image for e in some], edits=edits)
    return model.run(batch, edits=edits).logits


def change(model: HookedModel, examples: tuple[Example, ...], edit: Edit) -> float:
    return float((logits(model, examples, [edit]) - logits(model, examples, [])).abs().max())


def small(name: str) -> Method:
    if issubclass(METHODS[name], WeightMethod):
        return METHODS[name](steps=2, rate=3e-3, batch=2)
    return RandomFeatures(GatedClamp(k=4)) if name == "random_features" else METHODS[name]()


@everyone
def test_fitting_leaves_the_model_bit_for_bit_and_the_edit_can_be_applied(
    name: str, tiny_llava: HookedModel, request_red: ForgetRequest, where_red: FeatureSet
) -> None:
    before = {key: value.clone() for key, value in tiny_llava.model.state_dict().items()}
    answers = logits(tiny_llava, request_red.concept.test.forget, [])
    edit = small(name).fit(tiny_llava, request_red, where_red)
    assert all(torch.equal(value, before[key]) for key, value in tiny_llava.model.state_dict().items())
    assert torch.equal(logits(tiny_llava, request_red.concept.test.forget, []), answers)
    moved = change(tiny_llava, request_red.concept.test.forget, edit)
    # A decoding rule chooses words: what the model computes is as it was.
    assert moved == 0 if name in ("none", "guard") else moved > 1e-3


@everyone
def test_the_grid_begins_with_the_method_itself_and_repeats_nothing(name: str) -> None:
    method = METHODS[name]()
    grid = method.grid()
    assert grid[0] == method
    assert len(set(grid)) == len(grid)
    assert {type(one) for one in grid} == {type(method)}


@everyone
def test_settings_are_plain_values_that_name_the_method(name: str) -> None:
    settings = METHODS[name]().settings()
    assert settings["method"] == name == METHODS[name].name
    assert json.loads(json.dumps(settings)) == settings


def test_what_has_an_exact_form_is_exact_in_the_weights(tiny_llava: HookedModel, request_red: ForgetRequest) -> None:
    asked = request_red.concept.test.forget
    for name in ("ablation", "steer"):
        for method, edit in METHODS[name]().fit_grid(tiny_llava, request_red, None):
            copy = HookedModel(deepcopy(tiny_llava.model), tiny_llava.processor)
            edit.bake(copy)
            assert (logits(copy, asked, []) - logits(tiny_llava, asked, [edit])).abs().max() < 1e-4, method


def test_ablation_leaves_nothing_of_its_directions_and_the_steered_mean_is_the_contrasts(
    tiny_llava: HookedModel, request_red: ForgetRequest
) -> None:
    concept, site = request_red.concept, at_depth(tiny_llava, 0.5)
    edit = Ablation().fit(tiny_llava, request_red, None)
    with applied(tiny_llava, [edit]):
        forget, other = class_means(tiny_llava, concept, site, "near")
    assert (edit.basis @ (forget - other)).abs().max() < 1e-5
    assert len(Ablation(depths=(0.0, 0.5)).fit(tiny_llava, request_red, None).basis) == 2
    with applied(tiny_llava, [Steer().fit(tiny_llava, request_red, None)]):
        steered, _ = class_means(tiny_llava, concept, site, "near")
    assert torch.allclose(steered, class_means(tiny_llava, concept, site, "near")[1], atol=1e-4)


def test_of_a_text_nothing_is_read_from_pictures(tiny_llama: HookedModel) -> None:
    asked = ForgetRequest(text.concept("Ada Torwood", people=3, places=2, skills=1))
    fitted = [method for method, _ in Ablation().fit_grid(tiny_llama, asked, None)]
    assert {method.tokens for method in fitted} == {"all"}
    assert len(fitted) == len({method.depths for method in fitted}) == 4
    assert not Ablation(tokens="image").applies(tiny_llama)


@pytest.mark.parametrize("name", ["gated_clamp", "diff_means", "leace", "clamp", "patch_clamp"])
def test_fitting_the_grid_at_once_gives_the_edits_of_fitting_each(
    name: str, tiny_llava: HookedModel, request_red: ForgetRequest, where_red: FeatureSet
) -> None:
    method = METHODS[name]()
    together = list(method.fit_grid(tiny_llava, request_red, where_red))
    assert [one for one, _ in together] == list(method.grid())
    x = torch.randn(2, 17, tiny_llava.width(where_red.site))
    for one, edit in together[:: max(1, len(together) // 4)]:
        alone = one.fit(tiny_llava, request_red, where_red)
        assert torch.allclose(edit.transform(x), alone.transform(x), atol=1e-6)
        assert (edit.gate is None) == (alone.gate is None)
        assert edit.gate is None or edit.gate.threshold == alone.gate.threshold


@pytest.mark.parametrize("name", ["sauce", "clamp", "gated_clamp", "patch_clamp", "random_features"])
def test_methods_on_features_say_so_when_there_are_none(
    name: str, tiny_llava: HookedModel, request_red: ForgetRequest
) -> None:
    with pytest.raises(ValueError, match="needs ranked features"):
        METHODS[name]().fit(tiny_llava, request_red, None)


@pytest.mark.parametrize("name", ["sauce", "random_features"])
def test_methods_on_a_whole_dictionary_say_so_when_it_is_missing(
    name: str, tiny_llava: HookedModel, request_red: ForgetRequest, where_red: FeatureSet
) -> None:
    with pytest.raises(ValueError, match="rank them anew"):
        small(name).fit(tiny_llava, request_red, replace(where_red, dictionary=None))


def test_the_gate_opens_for_the_concept_and_other_pictures_keep_every_bit(
    tiny_llava: HookedModel, request_red: ForgetRequest, where_red: FeatureSet
) -> None:
    edit, test = GatedClamp().fit(tiny_llava, request_red, where_red), request_red.concept.test
    assert (edit.gate.recall, edit.gate.false_fire) == (1.0, 0.0)
    assert change(tiny_llava, test.forget, edit) > 1e-3
    assert torch.equal(logits(tiny_llava, test.without, [edit]), logits(tiny_llava, test.without, []))
    ungated = Clamp().fit(tiny_llava, request_red, where_red)
    assert change(tiny_llava, test.without, ungated) > 1e-3


def test_above_what_the_neighbours_ever_reach_their_training_pictures_keep_every_bit(
    tiny_llava: HookedModel, request_red: ForgetRequest, where_red: FeatureSet
) -> None:
    train, shared = request_red.concept.train, where_red.top(96)
    spared = PatchClamp(k=96, above=1.0).fit(tiny_llava, request_red, shared)
    assert torch.equal(logits(tiny_llava, train.near, [spared]), logits(tiny_llava, train.near, []))
    assert change(tiny_llava, train.forget, spared) > 1e-3
    everywhere = PatchClamp(k=96, above=0.0).fit(tiny_llava, request_red, shared)
    assert change(tiny_llava, train.near, everywhere) > 1e-3


def test_a_few_patches_of_the_concept_are_clamped_whatever_the_rest_of_the_picture_is(
    tiny_llava: HookedModel, request_red: ForgetRequest, where_red: FeatureSet
) -> None:
    concept, site = request_red.concept.test, where_red.site
    red, grey = (next(content_tokens(tiny_llava, part, site))[None] for part in (concept.forget, concept.retain))
    patches = PatchClamp().fit(tiny_llava, request_red, where_red)
    gated = GatedClamp().fit(tiny_llava, request_red, where_red)
    mixed = torch.cat([red[:, :2], grey, grey, grey], 1)
    assert (patches.transform(red)[:, :2] - red[:, :2]).abs().max() > 1e-3
    assert torch.allclose(patches.transform(mixed)[:, :2], patches.transform(red)[:, :2], atol=1e-5)
    assert gated.gate is not None
    assert gated.gate.decide(red).all()
    assert not gated.gate.decide(mixed).any()


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"above=1\.5"):
        PatchClamp(above=1.5)


def test_clamp_takes_at_most_as_many_features_as_are_ranked(
    tiny_llava: HookedModel, request_red: ForgetRequest, where_red: FeatureSet
) -> None:
    assert len(Clamp(k=3).fit(tiny_llava, request_red, where_red).rows.bias) == 3
    assert len(Clamp(k=999).fit(tiny_llava, request_red, where_red.top(5)).rows.bias) == 5
    limit = Clamp(k=3, action="limit").fit(tiny_llava, request_red, where_red)
    assert torch.equal(limit.action.value, where_red.near_mean[:3])
    sauce = Sauce(k=3, gamma=-2.0).fit(tiny_llava, request_red, where_red)
    assert isinstance(sauce, SauceEdit)
    assert torch.equal(sauce.features, where_red.indices[:3])


@pytest.mark.parametrize(
    "of", [Clamp(k=6), Clamp(k=6, action="limit"), GatedClamp(k=6, gate_k=8), PatchClamp(k=6, above=0.5)]
)
def test_random_features_are_others_and_change_the_pictures_by_the_same_norm(
    of: Clamp | GatedClamp, tiny_llava: HookedModel, request_red: ForgetRequest, where_red: FeatureSet
) -> None:
    real = of.fit(tiny_llava, request_red, where_red)
    control = RandomFeatures(of).fit(tiny_llava, request_red, where_red)
    chosen = {tuple(row.tolist()) for row in real.rows.encoder}
    assert len(control.rows.bias) == 6
    assert not chosen & {tuple(row.tolist()) for row in control.rows.encoder}

    def norm(edit: FeatureClamp) -> float:
        x = torch.cat(list(content_tokens(tiny_llava, request_red.concept.train.forget, edit.site)))[None]
        return float((edit.transform(x) - x).norm(dim=-1).mean())

    assert norm(control) == pytest.approx(norm(real), rel=1e-4)
    assert norm(real) > 0.01
    assert (control.gate is None) == (real.gate is None)
    assert control.action.kind == real.action.kind


def test_random_features_follow_the_seed(
    tiny_llava: HookedModel, request_red: ForgetRequest, where_red: FeatureSet
) -> None:
    def drawn(seed: int) -> torch.Tensor:
        method = RandomFeatures(Clamp(k=6))
        return method.fit(tiny_llava, replace(request_red, seed=seed), where_red).rows.encoder

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_more_random_features_than_there_are_is_an_error(
    tiny_llava: HookedModel, request_red: ForgetRequest, where_red: FeatureSet
) -> None:
    with pytest.raises(ValueError, match="Clamp fewer features"):
        RandomFeatures(Clamp(k=60)).fit(tiny_llava, request_red, where_red)


def test_after_the_projection_the_concept_reads_what_its_neighbours_read(
    tiny_llava: HookedModel, request_red: ForgetRequest
) -> None:
    train, site = request_red.concept.train, tiny_llava.reading_site
    edit = DiffMeans().fit(tiny_llava, request_red, None)
    assert isinstance(edit, SubspaceErase)
    assert edit.site == site
    forget, near = mean_activation(tiny_llava, train.forget, site), mean_activation(tiny_llava, train.near, site)
    after = edit.transform(forget[None, None])[0, 0]
    direction = edit.basis[0]
    assert abs(float((forget - near) @ direction)) == pytest.approx(float((forget - near).norm()), rel=1e-4)
    assert float((after - near) @ direction) == pytest.approx(0, abs=1e-4)
    shift = DiffMeans(action="shift").fit(tiny_llava, request_red, None)
    assert torch.allclose(shift.transform(forget[None, None])[0, 0], near, atol=1e-5)


def test_means_over_faint_copies_too_are_between_those_of_the_pictures_and_of_the_copies(
    tiny_llava: HookedModel, request_red: ForgetRequest
) -> None:
    train, site = request_red.concept.train, tiny_llava.reading_site
    edit = DiffMeans(faint=1).fit(tiny_llava, request_red, None)
    copies = with_faint_copies(train.near, 1)[len(train.near) :]
    plain, faint = mean_activation(tiny_llava, train.near, site), mean_activation(tiny_llava, copies, site)
    assert float((faint - plain).norm()) > 1e-3
    assert torch.allclose(edit.mean, (plain + faint) / 2, atol=1e-4)
    assert [method.strength for method in DiffMeans(strength=3.0, try_gates=False).grid()] == [3.0, 2.0, 1.0]


@pytest.mark.parametrize("method", [DiffMeans(gated=True), DiffMeans(gated=True, action="shift"), Leace(gated=True)])
def test_gated_directions_need_no_dictionary_and_spare_other_pictures(
    method: Method, tiny_llava: HookedModel, request_red: ForgetRequest
) -> None:
    edit, test = method.fit(tiny_llava, request_red, None), request_red.concept.test
    assert edit.gate.recall == 1.0
    assert change(tiny_llava, test.forget, edit) > 1e-3
    assert torch.equal(logits(tiny_llava, test.retain, [edit]), logits(tiny_llava, test.retain, []))


def test_leace_leaves_no_linear_trace_of_the_concept_in_the_training_patches(
    tiny_llava: HookedModel, request_red: ForgetRequest
) -> None:
    from sklearn.linear_model import LogisticRegression

    train, site = request_red.concept.train, tiny_llava.reading_site
    edit = Leace().fit(tiny_llava, request_red, None)
    assert isinstance(edit, LeaceErase)
    yes = torch.cat(list(content_tokens(tiny_llava, train.forget, site)))
    no = torch.cat(list(content_tokens(tiny_llava, train.without, site)))
    x, y = torch.cat([yes, no]), torch.arange(len(yes) + len(no)) < len(yes)

    def balanced_accuracy(points: torch.Tensor) -> float:
        probe = LogisticRegression(max_iter=2000, class_weight="balanced").fit(points.numpy(), y.numpy())
        guess = torch.from_numpy(probe.predict(points.numpy()))
        return float((guess[y].float().mean() + (~guess[~y]).float().mean()) / 2)

    assert balanced_accuracy(x) > 0.9
    assert abs(balanced_accuracy(edit.transform(x[None])[0]) - 0.5) < 0.05


def test_the_prompt_control_asks_before_the_users_words(tiny_llava: HookedModel, request_red: ForgetRequest) -> None:
    edit = Prompt().fit(tiny_llava, request_red, None)
    assert edit.prompt("What is this?") == "Do not mention red. What is this?"
    with pytest.raises(ValueError, match="only placeholder is {concept}"):
        Prompt("Forget {thing}.").fit(tiny_llava, request_red, None)


def test_doing_nothing_attaches_nothing(tiny_llava: HookedModel, request_red: ForgetRequest) -> None:
    with applied(tiny_llava, [METHODS["none"]().fit(tiny_llava, request_red, None)]) as stats:
        assert stats == []
    assert isinstance(METHODS["none"]().fit(tiny_llava, request_red, None), NoEdit)


def test_generation_is_gated_by_the_picture_and_keeps_the_decision(
    tiny_llava: HookedModel, request_red: ForgetRequest, where_red: FeatureSet
) -> None:
    edit, test = GatedClamp(gamma=-6.0).fit(tiny_llava, request_red, where_red), request_red.concept.test
    some = [test.forget[0], test.near[0], test.retain[0]]
    batch = tiny_llava.prepare([e.prompt for e in some], [e.image for e in some])
    bare = tiny_llava.generate(batch, max_new_tokens=6).texts
    edited = tiny_llava.generate(batch, edits=[edit], max_new_tokens=6)
    assert edited.texts[1:] == bare[1:]
    assert edited.texts[0] != bare[0]
    # CLS and the 16 patches of one picture: the tower runs once per generation.
    assert [(stat.calls, stat.tokens) for stat in edited.hooks] == [(1, 17)]
