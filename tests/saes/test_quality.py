import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import roc_auc_score

import saes.quality as quality_module
from concept_forget.concepts import Example
from concept_forget.directions import FeatureRows
from concept_forget.sites import Site
from saes.attribution import moments
from saes.dictionary import SaeDictionary
from saes.quality import Splice, auroc, concept_quality, loss_recovered, quality, reconstruction
from saes.store import ActivationStore, Rows

VISION, TEXT = Site("vision", 2, "resid"), Site("text", 1, "resid")


def stored(x: torch.Tensor) -> ActivationStore:
    cut = len(x) // 3
    numbers = torch.zeros(len(x), dtype=torch.int32)
    kinds = numbers.to(torch.uint8)
    shards = [Rows(x[s], numbers[s], numbers[s], kinds[s]) for s in (slice(0, cut), slice(cut, None))]
    return ActivationStore(VISION, ["all"], [frozenset()], shards)


def examples(pictures: bool) -> list[Example]:
    pixels = torch.randint(0, 256, (3, 32, 32, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images = [Image.fromarray(one.numpy()) if pictures else None for one in pixels]
    answers = ["a red cup on wood .", "yes", "no"]
    return [Example("what is shown here ?", a, image=i) for a, i in zip(answers, images, strict=True)]


def test_an_identity_dictionary_explains_everything(identity):
    x = torch.randn(300, 6) * 3 + 100
    found = reconstruction(identity(6), stored(x))
    assert found["explained_variance"] == 1.0
    assert found["l0"] == 6.0
    assert found["cosine"] == pytest.approx(1.0, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), shift=st.sampled_from([0.0, 1.0, 1000.0]), spread=st.sampled_from([0.1, 1.0, 10.0]))
def test_explained_variance_is_its_definition_whatever_the_mean_and_the_chunks(seed, shift, spread):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(90, 4, generator=g) * spread + shift
    error = 0.3 * spread * torch.randn(4, generator=g)
    rows = FeatureRows(torch.eye(4), torch.full((4,), 1e4), torch.zeros(4), torch.eye(4))
    dictionary = SaeDictionary.from_rows(rows, torch.full((4,), -1e4) + error, VISION)
    x_hat = dictionary.decode(dictionary.encode(x)).double()
    truth = 1 - (x - x_hat).square().sum() / (x - x.double().mean(0)).square().sum()
    cells, quality_module.CELLS = quality_module.CELLS, 28
    try:
        found = reconstruction(dictionary, stored(x))["explained_variance"]
    finally:
        quality_module.CELLS = cells
    assert found == pytest.approx(float(truth), abs=1e-6)


def test_a_dictionary_that_says_the_mean_explains_nothing():
    x = torch.randn(100, 4) + 7
    silent = FeatureRows(torch.zeros(3, 4), torch.zeros(3), torch.zeros(3), torch.zeros(3, 4))
    found = reconstruction(SaeDictionary.from_rows(silent, x.mean(0), VISION), stored(x))
    assert found["explained_variance"] == pytest.approx(0, abs=1e-6)
    assert (found["dead"], found["l0"]) == (1.0, 0.0)


def test_dead_and_dense_features_are_counted():
    store = stored(torch.cat([torch.rand(100, 2), torch.zeros(100, 1), (torch.arange(100) < 5).float()[:, None]], 1))
    rows = FeatureRows(torch.eye(4), torch.zeros(4), torch.zeros(4), torch.eye(4))
    found = reconstruction(SaeDictionary.from_rows(rows, torch.zeros(4), VISION), store)
    assert (found["dead"], found["dense"]) == (0.25, 0.5)
    assert found["density"].tolist() == pytest.approx([1, 1, 0, 0.05], abs=0.02)


@pytest.mark.parametrize(("fixture", "site"), [("tiny_llava", VISION), ("tiny_llava", TEXT), ("tiny_llama", TEXT)])
def test_loss_recovered_is_one_for_the_identity_and_zero_for_zeros(fixture, site, request, identity):
    model = request.getfixturevalue(fixture)
    asked, d = examples(pictures=model.has_vision), model.width(site)
    loss = loss_recovered(model, identity(d, site), asked, batch_size=2)
    assert abs(loss.zero - loss.clean) > 1e-3
    assert loss.recovered == pytest.approx(1, abs=1e-2)
    zeros = FeatureRows(torch.zeros(2, d), torch.zeros(2), torch.zeros(2), torch.zeros(2, d))
    assert loss_recovered(model, SaeDictionary.from_rows(zeros, torch.zeros(d), site), asked).recovered == 0


def test_the_clean_loss_is_the_models_own_cross_entropy(tiny_llama, identity):
    asked = examples(pictures=False)
    expected = 0.0
    for example in asked:
        batch = tiny_llama.prepare([example.prompt], answers=[example.answer])
        labels = batch.inputs["input_ids"].masked_fill(~batch.tokens.answer_mask, -100)
        with torch.no_grad():
            loss = tiny_llama.model(**batch.inputs, labels=labels).loss
        expected += float(loss) * int(batch.tokens.answer_mask.sum()) / len(asked)
    assert loss_recovered(tiny_llama, identity(32, TEXT), asked).clean == pytest.approx(expected, rel=1e-4)


def test_a_splice_leaves_positions_outside_its_mask_alone(identity):
    x, where = torch.randn(2, 3, 4), torch.tensor([[True, False, True], [False, False, True]])
    new = Splice(VISION, None, where).transform(x)
    assert torch.equal(new[~where], x[~where])
    assert not new[where].any()
    assert torch.equal(Splice(VISION, identity(4)).transform(x), x)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9999), levels=st.integers(1, 6), n=st.integers(4, 40))
def test_auroc_is_scikit_learns_also_with_ties(seed, levels, n):
    g = torch.Generator().manual_seed(seed)
    values = torch.randint(0, levels, (n, 3), generator=g).float()
    labels = torch.rand(n, 2, generator=g) < 0.5
    labels[0], labels[1] = True, False
    found = auroc(values, labels)
    for c in range(2):
        for f in range(3):
            assert float(found[c, f]) == pytest.approx(roc_auc_score(labels[:, c], values[:, f]), abs=1e-6)


def test_the_planted_feature_is_the_best_and_a_label_of_noise_is_at_chance(planted):
    of = moments(planted.dictionary, planted.store)
    held_out = torch.arange(120) >= 80
    noise = torch.rand(120, generator=torch.Generator().manual_seed(5)) < 0.5
    found = concept_quality(of, planted.store.labels() | {"noise": noise}, held_out)
    for i in range(6):
        assert found[f"c{i}"].feature == i
        assert found[f"c{i}"].auroc == 1.0
        assert all(value > 0.95 for value in found[f"c{i}"].probes.values())
        assert found[f"c{i}"].positives == sum(f"c{i}" in shown for shown in planted.store.shows[80:])
    assert 0.3 < found["noise"].auroc < 0.7


def test_held_out_groups_do_not_take_part_in_the_choice(planted):
    of = moments(planted.dictionary, planted.store)
    held_out = torch.arange(120) >= 80
    honest = planted.store.labels(["c0"])["c0"]
    flipped = torch.where(held_out, ~honest, honest)
    found = concept_quality(of, {"c0": flipped}, held_out)["c0"]
    assert found.feature == 0
    assert found.auroc == 0.0
    with pytest.raises(ValueError, match="'c0' is in 0 of 40 held-out"):
        concept_quality(of, {"c0": honest & ~held_out}, held_out)


def test_the_quality_card_is_plain_json(planted, tiny_llava, identity):
    card = quality(planted.dictionary, planted.store, planted.store.labels(["c0", "c4"]))
    assert card.explained_variance == pytest.approx(1.0)
    plain = json.loads(json.dumps(card.to_json()))
    assert plain["concepts"]["c4"]["feature"] == 4
    assert plain["loss_recovered"] is None
    x = torch.randn(50, 24)
    with_model = quality(identity(24, VISION), stored(x), model=tiny_llava, examples=examples(True))
    assert with_model.to_json()["loss_recovered"] == pytest.approx(1, abs=1e-2)
