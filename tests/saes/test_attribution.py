import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from concept_forget.concepts import Example, ExampleSet
from saes import attribution
from saes.attribution import Split, moments, rank, score, stability


@pytest.mark.parametrize("cells", [1, 100, 1 << 25])
def test_moments_are_those_of_each_picture_whatever_the_chunks(planted, monkeypatch, cells):
    monkeypatch.setattr(attribution, "CELLS", cells)
    found = moments(planted.dictionary, planted.store)
    torch.testing.assert_close(found.mean, planted.z.mean(1))
    torch.testing.assert_close(found.max, planted.z.amax(1))
    torch.testing.assert_close(found.share, (planted.z > 0).float().mean(1))
    assert found.tokens.tolist() == [8] * len(planted.z)


def test_moments_beyond_the_room_are_kept_in_half_precision(planted, monkeypatch):
    monkeypatch.setattr(attribution, "ROOM", 10)
    found = moments(planted.dictionary, planted.store)
    assert found.mean.dtype == torch.float16
    torch.testing.assert_close(found.mean.float(), planted.z.mean(1), atol=1e-3, rtol=1e-3)


def test_the_sauce_score_is_the_formula_of_the_paper(planted):
    found = moments(planted.dictionary, planted.store)
    split = found.split_by_label("c1", planted.families)
    without = split.near | split.retain
    mu_c, mu_nc = (planted.z[mask].reshape(-1, 16).mean(0) for mask in (split.forget, without))
    expected = mu_c / (mu_c.sum() + 1e-6) - mu_nc / (mu_nc.sum() + 1e-6)
    ranked = rank(found, split, "sauce", k=16)
    torch.testing.assert_close(ranked.scores, expected[ranked.indices])
    torch.testing.assert_close(ranked.forget_mean, mu_c[ranked.indices])
    torch.testing.assert_close(ranked.near_mean, planted.z[split.near].reshape(-1, 16).mean(0)[ranked.indices])
    torch.testing.assert_close(ranked.retain_mean, mu_nc[ranked.indices])
    assert torch.equal(ranked.scores, ranked.scores.sort(descending=True).values)


@pytest.mark.parametrize("by", ["sauce", "frequency", "contrast"])
def test_all_concepts_at_once_equal_one_by_one(planted, by):
    found = moments(planted.dictionary, planted.store)
    splits = [found.split_by_label(name, planted.families) for name in planted.families]
    together = score(found, *(torch.stack(part, 1).float() for part in zip(*splits, strict=True)), by)
    for place, split in enumerate(splits):
        alone = rank(found, split, by, k=16)
        torch.testing.assert_close(together[place, alone.indices], alone.scores)


@pytest.mark.parametrize("by", ["sauce", "frequency", "contrast"])
def test_every_planted_concept_feature_is_among_the_first(planted, by):
    found = moments(planted.dictionary, planted.store)
    for i, name in enumerate(planted.families):
        assert i in rank(found, found.split_by_label(name, planted.families), by, k=2).indices.tolist()


def test_hard_negatives_put_the_concept_before_the_feature_of_its_family(planted):
    found = moments(planted.dictionary, planted.store)
    split = found.split_by_label("c0", planted.families)
    assert rank(found, split, "sauce", k=1).indices.tolist() == [6]
    assert rank(found, split, "contrast", k=1).indices.tolist() == [0]


@settings(max_examples=25, deadline=None)
@given(weights=st.lists(st.integers(0, 3), min_size=120, max_size=120), by=st.sampled_from(attribution.SCORES))
def test_a_weight_of_n_is_the_group_n_times(planted, weights, by):
    found = moments(planted.dictionary, planted.store)
    split = found.split_by_label("c2", planted.families)
    weight = torch.tensor(weights)
    weight[split.forget.nonzero()[0]] = 1
    weight[split.retain.nonzero()[0]] = 1
    again = torch.arange(120).repeat_interleave(weight)
    copies = attribution.Moments(
        found.dictionary, (), (), *(getattr(found, n)[again] for n in ("tokens", "mean", "max", "share"))
    )
    one = score(found, *((part * weight)[:, None].float() for part in split), by)
    other = score(copies, *(part[again][:, None].float() for part in split), by)
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_a_planted_choice_is_stable_and_one_of_noise_is_not(planted):
    found = moments(planted.dictionary, planted.store)
    split = found.split_by_label("c0", planted.families)
    assert stability(found, split, k=1) == 1.0
    noise = torch.rand(120, generator=torch.Generator().manual_seed(1)) < 0.3
    unrelated = Split(noise, torch.zeros(120, dtype=torch.bool), ~noise)
    assert stability(found, unrelated, k=3) < 0.8


def test_a_split_by_examples_follows_their_groups(planted):
    found = moments(planted.dictionary, planted.store)
    examples = ExampleSet(
        (Example("?", "yes", group="picture 3"),),
        (Example("?", "no", group="picture 5"),),
        (Example("?", "no", group="gone"),),
    )
    split = found.split(examples)
    assert [part.nonzero().flatten().tolist() for part in split] == [[3], [5], []]
    assert torch.isfinite(rank(found, split, "contrast").scores).all()
    with pytest.raises(LookupError, match="harvest the same examples"):
        found.split(ExampleSet((Example("?", "yes", group="gone"),), (), ()))
    with pytest.raises(LookupError, match="zebra"):
        found.split_by_label("zebra", planted.families)
    with pytest.raises(ValueError, match="sauce, frequency, contrast"):
        rank(found, split, "best")
