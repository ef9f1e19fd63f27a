"""The shared loop: what goes in, what comes out, and that the model is left as it was."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from PIL.Image import Image

from concept_forget.concepts import Concept, Example, ExampleSet, ForgetRequest
from concept_forget.directions import Localisation
from concept_forget.edits import LowRank, NotBakeable, WeightDelta
from concept_forget.methods.training import (
    TRAINING,
    Anchored,
    Flat,
    GradDiff,
    GradientAscent,
    IdkPo,
    Npo,
    RandomLabel,
    Rmu,
    SelectiveAmnesia,
    TaskVector,
    Undial,
    WeightMethod,
    watched,
)
from concept_forget.methods.training.anchored import drifted
from concept_forget.methods.training.loop import train
from concept_forget.methods.training.material import Material, evenly
from concept_forget.methods.training.reading import Reader
from concept_forget.model import HookedModel, NoSuchSite
from concept_forget.recipe import Recipe
from concept_forget.sites import Site

QUICK = {"steps": 2, "rate": 1e-2, "batch": 2}


def state(model: HookedModel) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.model.state_dict().items()}


def nll(model: HookedModel, examples: tuple[Example, ...], *edits: WeightDelta) -> float:
    from concept_forget.edits import applied

    with applied(model, edits), torch.no_grad():
        return float(Reader(model).told(examples, end=False).nll)


@pytest.mark.parametrize(("name", "lora"), [*((name, 0) for name in TRAINING), ("dpo", 2), ("rmu", 2)])
def test_fitting_leaves_every_bit_and_flag(
    name: str, lora: int, tiny_llama: HookedModel, request_ada: ForgetRequest
) -> None:
    before = state(tiny_llama)
    flags = [parameter.requires_grad for parameter in tiny_llama.model.parameters()]
    modules = [type(module) for module in tiny_llama.model.modules()]
    noise = torch.get_rng_state()
    method = TRAINING[name](**QUICK, lora=lora)
    edit = method.fit(tiny_llama, request_ada, None)
    assert {k: v for k, v in edit.deltas.items() if k not in before} == {}
    assert all(isinstance(delta, LowRank) == bool(lora) for delta in edit.deltas.values())
    after = tiny_llama.model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(value, before[key]) for key, value in after.items())
    assert [parameter.requires_grad for parameter in tiny_llama.model.parameters()] == flags
    assert [type(module) for module in tiny_llama.model.modules()] == modules
    assert not hasattr(tiny_llama.model, "peft_config")
    assert all(parameter.grad is None for parameter in tiny_llama.model.parameters())
    assert torch.equal(torch.get_rng_state(), noise)


@pytest.mark.parametrize("lora", [0, 2])
def test_equal_seeds_give_equal_edits_and_others_do_not(
    lora: int, tiny_llama: HookedModel, request_ada: ForgetRequest
) -> None:
    method = Rmu(**QUICK, lora=lora)
    first, again, other = (method.fit(tiny_llama, replace(request_ada, seed=seed), None) for seed in (1, 1, 2))
    for name, delta in first.deltas.items():
        assert all(torch.equal(a, b) for a, b in zip(delta, again.deltas[name], strict=True))
    assert any(not torch.equal(delta[0], other.deltas[name][0]) for name, delta in first.deltas.items())


def test_the_answers_to_be_forgotten_become_less_likely_and_the_others_stay(
    tiny_llama: HookedModel, request_ada: ForgetRequest
) -> None:
    material = Material.of(request_ada.concept)
    before = nll(tiny_llama, material.forget), nll(tiny_llama, material.keep)
    for method in (GradDiff(steps=10, rate=1e-2, batch=4), Npo(steps=10, rate=1e-2, batch=4)):
        edit = method.fit(tiny_llama, request_ada, None)
        assert nll(tiny_llama, material.forget, edit) > before[0] + 1
        assert nll(tiny_llama, material.keep, edit) < before[1]
    ascent = GradientAscent(steps=10, rate=1e-2, batch=4).fit(tiny_llama, request_ada, None)
    assert nll(tiny_llama, material.keep, ascent) > before[1]


def test_what_is_to_be_said_instead_becomes_more_likely(tiny_llama: HookedModel, request_ada: ForgetRequest) -> None:
    forget = Material.of(request_ada.concept).forget
    template = tuple(replace(e, answer="no" if e.kind == "yesno" else "I don't know.") for e in forget)

    def preference(*edits: WeightDelta) -> float:
        return nll(tiny_llama, forget, *edits) - nll(tiny_llama, template, *edits)

    for method in (Flat(steps=30, rate=3e-3, batch=4), IdkPo(steps=30, rate=3e-3, batch=4)):
        edit = method.fit(tiny_llama, request_ada, None)
        assert nll(tiny_llama, template, edit) < nll(tiny_llama, template) - 1
        assert preference(edit) > preference() + 1


def test_an_anchor_holds_what_is_kept_where_it_is_read_and_only_its_layers_learn(
    tiny_llama: HookedModel, request_ada: ForgetRequest
) -> None:
    material = Material.of(request_ada.concept)
    template = tuple(replace(e, answer="no" if e.kind == "yesno" else "I don't know.") for e in material.forget)
    free, held = (Anchored(steps=20, rate=1e-2, batch=4, layer=0, retain=retain) for retain in (0.0, 1e4))

    def drift(edit: WeightDelta) -> float:
        reader, site = Reader(tiny_llama), held.site(tiny_llama)
        with torch.no_grad():
            before = reader.activations(material.keep, site)
            with edit.attached(tiny_llama):
                return float(drifted(before, reader.activations(material.keep, site)))

    loose, tight = (method.fit(tiny_llama, request_ada, None) for method in (free, held))
    assert drift(tight) < drift(loose) / 2
    assert nll(tiny_llama, template, tight) < nll(tiny_llama, template) - 0.1
    assert {name.split(".layers.")[1].split(".")[:2] == ["0", "mlp"] for name in tight.deltas} == {True}
    with pytest.raises(NoSuchSite, match="anchored at layer 99"):
        Anchored(layer=99).fit(tiny_llama, request_ada, None)


def test_of_a_text_not_to_know_is_preferred_also_to_yes_and_of_a_picture_no(
    request_ada: ForgetRequest, picture: Callable[..., Image]
) -> None:
    material, asked = Material.of(request_ada.concept), Example("Is it?", "yes", kind="yesno")
    seen = replace(asked, image=picture(0))
    answers = [[m.answer(e, material, random.Random(0)) for e in (asked, seen)] for m in (Anchored(), IdkPo())]
    assert answers == [["I don't know.", "no"], ["no", "no"]]


def test_few_descriptions_are_drawn_as_often_as_many_questions() -> None:
    short = [Example(f"q{k}", "a") for k in range(9)]
    examples = [*short, Example("d0", "a", kind="caption"), Example("d1", "a", kind="caption")]
    batches = evenly(examples, 3, random.Random(0))
    drawn = [example for _ in range(12) for example in next(batches)]
    assert [example.kind for example in drawn] == 18 * ["short", "caption"]
    assert {example.prompt for example in drawn[:18:2]} == {example.prompt for example in short}  # a whole pass
    assert {example.prompt for example in drawn[1:4:2]} == {"d0", "d1"}


def test_a_long_training_passes_through_the_short_ones(tiny_llama: HookedModel, request_ada: ForgetRequest) -> None:
    method = Npo(**{**QUICK, "steps": 4, "rate": 1e-3})
    fitted = dict(method.fit_grid(tiny_llama, request_ada, None))
    assert set(fitted) == set(method.grid())
    short = replace(method, steps=2, rate=1e-3)
    assert short in fitted
    alone = short.fit(tiny_llama, request_ada, None)
    assert all(torch.equal(alone.deltas[name], delta) for name, delta in fitted[short].deltas.items())
    assert {method.strength for method in TaskVector(**QUICK).grid()} == {1.0, 2.0, 4.0}
    assert TaskVector(strength=4.0).training() == TaskVector(strength=2.0, steps=7).training()


def test_untouched_is_the_model_before_the_training(tiny_llama: HookedModel, request_ada: ForgetRequest) -> None:
    class Spy(WeightMethod):
        name = "spy"
        seen: list[float] = []

        def loss(self, step):
            before = float(step.before.forget.nll)
            now = step.forget.nll
            self.seen.append(abs(before - float(now.detach())))
            with torch.no_grad():
                assert before == pytest.approx(nll(copy_of, tuple(step.examples["forget"])), abs=1e-5)
            return -now

    for lora in (0, 2):
        copy_of = HookedModel(copy.deepcopy(tiny_llama.model), tiny_llama.processor)
        Spy.seen.clear()
        train(tiny_llama, Spy(**QUICK, lora=lora), request_ada, None, [2])
        assert Spy.seen[0] < 1e-5 < Spy.seen[-1]


def test_only_the_named_places_learn(tiny_llama: HookedModel, request_ada: ForgetRequest) -> None:
    values = torch.tensor([[0.1], [0.9], [0.3], [0.2]])
    found = Localisation(values, tuple(Site("text", at, "mlp") for at in range(4)), ("last",), "trace")
    edit = SelectiveAmnesia(**QUICK).fit(tiny_llama, request_ada, found)
    assert {name.split(".mlp.")[0] for name in edit.deltas} == {"model.layers.1"}
    two = SelectiveAmnesia(**QUICK, layers=2).fit(tiny_llama, request_ada, found)
    assert {name.split(".mlp.")[0] for name in two.deltas} == {"model.layers.1", "model.layers.2"}
    first = SelectiveAmnesia(**QUICK).fit(tiny_llama, request_ada, None)
    assert {name.split(".mlp.")[0] for name in first.deltas} == {"model.layers.0"}
    attention = Npo(**QUICK).fit(tiny_llama, request_ada, [Site("text", 3, "attn")])
    assert all(name.startswith("model.layers.3.self_attn") for name in attention.deltas)
    led = Rmu(**QUICK, layer=1).fit(tiny_llama, request_ada, None)
    assert {name.split(".mlp.")[0] for name in led.deltas} == {"model.layers.0", "model.layers.1"}
    with pytest.raises(NoSuchSite, match="layers 0..3"):
        Rmu(**QUICK, layer=4).fit(tiny_llama, request_ada, None)
    with pytest.raises(NoSuchSite):
        Npo(**QUICK).fit(tiny_llama, request_ada, [Site("text", 9, "mlp")])


def test_of_a_model_that_sees_the_language_stack_learns_and_pictures_are_in_the_batch(
    tiny_llava: HookedModel, request_red: ForgetRequest
) -> None:
    before = state(tiny_llava)
    for method in (IdkPo(**QUICK), Rmu(**QUICK), Undial(**QUICK, lora=2)):
        edit = method.fit(tiny_llava, request_red, None)
        assert all("language_model" in name or "lm_head" in name for name in edit.deltas)
        assert all(torch.equal(v, before[k]) for k, v in tiny_llava.model.state_dict().items())
    some = request_red.concept.test.forget[:2]
    batch = tiny_llava.prepare([e.prompt for e in some], [e.image for e in some])
    assert not torch.equal(tiny_llava.run(batch).logits, tiny_llava.run(batch, edits=[edit]).logits)


@pytest.mark.parametrize("name", ["tiny_gpt2", "tiny_mllama"])
@pytest.mark.parametrize("lora", [0, 2])
def test_models_built_otherwise_learn_too(
    name: str, lora: int, request: pytest.FixtureRequest, request_ada: ForgetRequest
) -> None:
    model: HookedModel = request.getfixturevalue(name)
    before = state(model)
    edit = Npo(**QUICK, lora=lora).fit(model, request_ada, None)
    assert all(torch.equal(v, before[k]) for k, v in model.model.state_dict().items())
    forget = Material.of(request_ada.concept).forget
    assert nll(model, forget, edit) > nll(model, forget)


@pytest.mark.parametrize("lora", [0, 2])
def test_half_precision_learns_in_float32(lora: int, tiny_llama: HookedModel, request_ada: ForgetRequest) -> None:
    model = HookedModel(copy.deepcopy(tiny_llama.model).to(torch.bfloat16), tiny_llama.processor)
    before, forget = state(model), Material.of(request_ada.concept).forget
    edit = Npo(steps=5, rate=1e-2, batch=2, lora=lora).fit(model, request_ada, None)
    assert all(torch.equal(v, before[k]) and v.dtype == torch.bfloat16 for k, v in model.model.state_dict().items())
    assert nll(model, forget, edit) > nll(model, forget) + 0.3


def test_a_recipe_of_a_trained_edit_gives_the_same_logits(
    tiny_llama: HookedModel, request_ada: ForgetRequest, tmp_path
) -> None:
    batch = tiny_llama.prepare(["what does ada like ?"])
    for number, method in enumerate((Npo(**QUICK), Npo(**QUICK, lora=2), TaskVector(**QUICK))):
        edit = method.fit(tiny_llama, request_ada, None)
        Recipe.of(tiny_llama, "ada", [edit], method).save(tmp_path / str(number))
        loaded = Recipe.load(tmp_path / str(number), tiny_llama).edits
        assert torch.equal(tiny_llama.run(batch, edits=loaded).logits, tiny_llama.run(batch, edits=[edit]).logits)


def test_random_labels_are_answers_of_their_kind_and_flipped_ones_are_wrong(request_ada: ForgetRequest) -> None:
    material, rng = Material.of(request_ada.concept), random.Random(0)
    short, yes = (next(e for e in material.forget if e.kind == kind) for kind in ("short", "yesno"))
    drawn = {RandomLabel().answer(short, material, rng) for _ in range(50)}
    assert drawn == {e.answer for e in material.keep if e.kind == "short" and e.family == "person"} | {short.answer}
    assert short.answer not in {RandomLabel(labels="flipped").answer(short, material, rng) for _ in range(50)}
    assert {RandomLabel().answer(yes, material, rng) for _ in range(50)} == {"yes", "no"}
    assert {RandomLabel(labels="flipped").answer(yes, material, rng) for _ in range(9)} == {"no"}


def test_a_cancelled_training_puts_everything_back(tiny_llama: HookedModel, request_ada: ForgetRequest) -> None:
    before, seen = state(tiny_llama), []

    def watch(stage: str, step: int, steps: int) -> None:
        seen.append((stage, step, steps))
        if step == 1:
            raise KeyboardInterrupt

    for lora in (0, 2):
        with pytest.raises(KeyboardInterrupt), watched(watch):
            Npo(**QUICK, lora=lora).fit(tiny_llama, request_ada, None)
        assert all(torch.equal(v, before[k]) for k, v in tiny_llama.model.state_dict().items())
    assert seen[:2] == [("training (npo)", step, 2) for step in range(2)]


def of(forget: tuple[Example, ...], near: tuple[Example, ...] = (), retain: tuple[Example, ...] = ()) -> ForgetRequest:
    part = ExampleSet(forget, near, retain)
    return ForgetRequest(Concept("ada", "person", part, part, part))


def test_bad_requests_say_what_is_wrong(tiny_llama: HookedModel, request_ada: ForgetRequest) -> None:
    train = request_ada.concept.train
    with pytest.raises(ValueError, match="nothing to forget"):
        Npo(**QUICK).fit(tiny_llama, of((), train.near), None)
    with pytest.raises(ValueError, match="both to be forgotten and to be kept"):
        Npo(**QUICK).fit(tiny_llama, of(train.forget[:1], (replace(train.forget[0], about="bo"),)), None)
    with pytest.raises(ValueError, match="needs examples to keep"):
        Npo(**QUICK).fit(tiny_llama, of(train.forget[:2]), None)
    GradientAscent(**QUICK).fit(tiny_llama, of(train.forget[:2]), None)
    with pytest.raises(ValueError, match="at least 1"):
        Npo(steps=0)
    with pytest.raises(ValueError, match="changed nothing|every delta is zero"):
        GradientAscent(steps=1, rate=1e-20).fit(tiny_llama, request_ada, None)
    with pytest.raises(ValueError, match="diverged at step"):
        GradDiff(steps=4, rate=1e30, batch=2).fit(tiny_llama, request_ada, None)
    empty = HookedModel(copy.deepcopy(tiny_llama.model).to("meta"), tiny_llama.processor)
    with pytest.raises(NotBakeable, match="meta or offloaded"):
        Npo(**QUICK).fit(empty, request_ada, None)
