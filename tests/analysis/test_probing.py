import json
import time
from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np
import pytest
import torch
from concept_erasure import LeaceFitter
from PIL import Image, ImageDraw
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from analysis.logistic import class_draws, fit_probe, rates
from analysis.probing import ProbeData, compare_probes, gather, probe, probe_data
from concept_forget.concepts import Concept, Example, ExampleSet
from concept_forget.edits.base import SiteEdit
from concept_forget.sites import Site

SITE = Site("vision", 1, "resid")
SPLIT = np.repeat([0, 1, 2], [200, 100, 100])


def planted(strength, d=128, seed=0):
    """Gaussian features in which the label moves one direction, and a control task that leaves no trace."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(400) % 2 == 0)
    direction = rng.normal(size=d)
    x = rng.normal(size=(400, d)) @ rng.normal(size=(d, d)) / d**0.5
    x += strength * labels[:, None] * direction / np.linalg.norm(direction)
    control = rng.permutation(np.arange(400) % 2 == 0)
    return x, ProbeData((), labels, control, SPLIT)


def leace(x, data):
    train = torch.tensor(x[SPLIT == 0]), torch.tensor(data.labels[SPLIT == 0]).double()
    # without shrinkage and truncation the guarantee is exact on the data it was fitted on
    return LeaceFitter.fit(*train, shrinkage=False, svd_tol=1e-9).eraser(torch.tensor(x)).numpy()


def test_a_planted_direction_is_found_and_is_selective():
    x, data = planted(8.0)
    found = compare_probes(SITE, x, None, data)
    assert found.before.value > 0.95 and found.auroc["before"].value > 0.95
    assert found.before.low <= found.before.value <= found.before.high
    assert found.control.low < 0.5 < found.control.high
    assert found.selectivity.low > 0.3
    assert found.after_frozen is None and found.after_retrained is None


def test_shuffled_labels_are_at_chance():
    values = []
    for seed in range(5):
        x, data = planted(8.0, seed=seed)
        shuffled = data._replace(labels=np.random.default_rng(seed + 100).permutation(data.labels))
        found = compare_probes(SITE, x, None, shuffled, resamples=500)
        values.append(found.before.value)
        assert found.auroc["before"].low < 0.58
    assert abs(np.mean(values) - 0.5) < 0.06


def test_leace_drives_the_retrained_probe_to_chance_and_it_was_above_before():
    x, data = planted(8.0)
    found = compare_probes(SITE, x, leace(x, data), data)
    assert found.before.value > 0.95
    assert found.after_retrained.value == pytest.approx(0.5, abs=0.1)
    assert found.after_retrained.low <= 0.5
    everything = LeaceFitter.fit(torch.tensor(x), torch.tensor(data.labels).double(), shrinkage=False, svd_tol=1e-9)
    erased = everything.eraser(torch.tensor(x)).numpy()
    model = fit_probe(erased, data.labels, erased, data.labels)
    assert np.ptp(model.score(erased)) < 1e-3, "on its own data no linear probe beats the constant"


def test_a_mere_shift_fools_the_frozen_probe_but_not_the_retrained_one():
    x, data = planted(8.0)
    found = compare_probes(SITE, x, x - 20 * (x[data.labels].mean(0) - x[~data.labels].mean(0)), data)
    assert found.after_frozen.value == pytest.approx(0.5, abs=0.02)
    assert found.after_retrained.value > 0.95


def test_more_coordinates_than_examples_give_the_same_probe_as_the_plain_fit():
    x, data = planted(8.0, d=300)
    train, rest = x[SPLIT == 0], x[SPLIT == 1]
    y, z = data.labels[SPLIT == 0], data.labels[SPLIT == 1]
    ours = fit_probe(train, y, rest, z, grid=(0.01,))
    from sklearn.linear_model import LogisticRegression

    theirs = LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000, tol=1e-8)
    theirs.fit((train - ours.mean) / ours.scale, y)
    assert ours.score(rest) == pytest.approx(theirs.decision_function((rest - ours.mean) / ours.scale), abs=2e-2)


def test_a_coordinate_that_varies_only_by_rounding_is_no_signal():
    x, data = planted(0.0)
    x[:, 0] = 5.0 + 1e-7 * data.labels
    assert abs(compare_probes(SITE, x, None, data).before.value - 0.5) < 0.15


def test_rates_equal_those_of_scikit_learn_on_every_draw():
    rng = np.random.default_rng(0)
    y = rng.permutation(np.arange(60) % 3 == 0)
    scores = np.round(rng.normal(size=60) + y, 1)
    draws = class_draws(y, 20, 0)
    assert (draws[:, y].sum(1) == y.sum()).all() and (draws.sum(1) == 60).all()
    got = {name: rates(scores, y, draws, name) for name in ("balanced", "auroc", "accuracy")}
    for k, draw in enumerate([np.ones(60), *draws]):
        rows = np.repeat(np.arange(60), draw.astype(int))
        assert got["auroc"][k] == pytest.approx(roc_auc_score(y[rows], scores[rows]))
        assert got["balanced"][k] == pytest.approx(balanced_accuracy_score(y[rows], scores[rows] > 0))
        assert got["accuracy"][k] == pytest.approx((y[rows] == (scores[rows] > 0)).mean())


def scene(shape, colour, group):
    """A picture of 32 pixels and its example."""
    rng = np.random.default_rng(crc32(f"{shape} {colour} {group}".encode()))
    image = Image.fromarray(rng.integers(0, 40, (32, 32, 3), dtype=np.uint8))
    where = tuple(int(v) for v in rng.integers(0, 8, 2))
    box = (*where, where[0] + 20, where[1] + 20)
    draw = ImageDraw.Draw(image)
    (draw.ellipse if shape == "ball" else draw.rectangle)(box, fill=colour)
    name = f"{shape} {colour} {group}"
    return Example("what ?", shape, image, "short", shape, "shapes", frozenset((shape, colour)), (), name)


@pytest.fixture(scope="module")
def red():
    def part(n, salt):
        made = {c: tuple(scene(s, c, f"{salt}{k}") for k in range(n) for s in ("ball", "box")) for c in ("red", "blue")}
        return ExampleSet(made["red"], made["blue"], tuple(scene("ball", "black", f"{salt}{k}") for k in range(n)))

    return Concept("red", "colours", part(20, "a"), part(10, "b"), part(10, "c"))


def test_data_are_balanced_and_splits_share_no_group(red):
    data = probe_data(red, limit=40)
    for number, size in ((0, 40), (1, 20), (2, 20)):
        mine = data.labels[data.split == number]
        assert len(mine) == size and mine.sum() == size / 2
    without = [e for e, label in zip(data.examples, data.labels, strict=True) if not label]
    assert sum("blue" in e.shows for e in without) == len(without) / 2, "half of them are near"
    assert 0.2 < data.control.mean() < 0.8
    types = {e.shows - {"red"} for e in data.examples}
    labelled = {(e.shows - {"red"}, bool(c)) for e, c in zip(data.examples, data.control, strict=True)}
    assert len(labelled) == len(types) == 5, "one label per type, and a type is all else that is shown"
    with pytest.raises(ValueError, match="two splits"):
        probe_data(replace(red, test=red.train))
    with pytest.raises(ValueError, match="at least 2 of both"):
        probe_data(replace(red, test=ExampleSet(red.test.forget, (), ())))


@dataclass(frozen=True, eq=False)
class Blank(SiteEdit):
    site: Site
    gate: object = None

    def transform(self, x):
        return torch.zeros_like(x) + x.mean((0, 1))


@pytest.mark.parametrize("name", ["tiny_llava", "tiny_mllama", "tiny_paligemma"])
def test_features_of_all_sites_come_from_one_pass_and_do_not_depend_on_the_batch(name, request, red):
    model = request.getfixturevalue(name)
    sites = [Site("vision", 0, "resid"), SITE, model.reading_site, Site("text", 1, "resid")]
    examples = probe_data(red, limit=8).examples
    together = gather(model, examples, sites)
    for site in set(sites):
        assert together[site].shape == (len(examples), model.width(site))
        alone = gather(model, examples[3:4], [site], batch_size=1)[site]
        torch.testing.assert_close(together[site][3:4], alone, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(together[site][0], together[site][1], atol=1e-3)


def test_pictures_of_different_tiles_are_averaged_over_what_they_show(tiny_mllama, red):
    examples = list(probe_data(red, limit=8).examples[:3])
    examples[1] = replace(examples[1], image=examples[1].image.resize((64, 32)))
    site = tiny_mllama.reading_site
    for pool in ("mean", "max"):
        together = gather(tiny_mllama, examples, [site], pool=pool)[site]
        alone = torch.cat([gather(tiny_mllama, [example], [site], pool=pool)[site] for example in examples])
        torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_texts_are_read_at_their_last_word(tiny_llama):
    examples = [
        Example(text, "yes", shows=frozenset(), group=text)
        for text in ("a red cup on wood .", "no", "is there a star ?")
    ]
    site = Site("text", 2, "resid")
    together = gather(tiny_llama, examples, [site], batch_size=3)[site]
    for row, example in enumerate(examples):
        alone = tiny_llama.run(tiny_llama.prepare([example.prompt]), read=[site]).activations[site][0, -1]
        torch.testing.assert_close(together[row], alone, atol=1e-4, rtol=1e-4)


def test_blanking_a_site_takes_the_concept_away_there_and_after_it_but_not_before_it(tiny_llava, red):
    sites = [Site("vision", 0, "resid"), Site("vision", 1, "resid"), Site("vision", 2, "resid")]
    results = probe(tiny_llava, red, sites, [Blank(sites[1])], limit=60, resamples=300)
    first, edited, later = results
    assert [result.site for result in results] == sites
    assert all(result.before.value > 0.95 for result in results), "red is easy to see even for a random tower"
    assert first.after_frozen == first.after_retrained == first.before
    assert edited.after_retrained.value == pytest.approx(0.5, abs=0.2)
    assert later.after_retrained.value < 0.8
    text = json.dumps([result.to_json() for result in results], allow_nan=False)
    row = json.loads(text)[1]
    assert row["site"] == "vision.1.resid" and row["chance"] == 0.5
    assert set(row["before"]) == {"value", "low", "high", "n"}


def test_bare_features_can_be_shared(tiny_llava, red, monkeypatch):
    sites, data = [SITE], probe_data(red, limit=40)
    bare = gather(tiny_llava, data.examples, sites)
    first = probe(tiny_llava, red, sites, data=data, resamples=100)
    monkeypatch.setattr(tiny_llava, "run", lambda *_, **__: pytest.fail("run again"))
    assert probe(tiny_llava, red, sites, data=data, bare=bare, resamples=100) == first


def test_eight_sites_of_400_examples_take_a_second():
    x, data = planted(3.0)
    after = leace(x, data)
    compare_probes(SITE, x, after, data)
    started = time.process_time()
    for _ in range(8):
        compare_probes(SITE, x, after, data)
    assert time.process_time() - started < 5, "measured under 1 s of processor time"
