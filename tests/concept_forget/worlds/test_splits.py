from collections import Counter

import pytest

from concept_forget.worlds import FAMILIES, SUBJECT_FAMILIES, VOCABULARY, combinations, members, sample, sample_specs

SPLITS = ("train", "validation", "test")


def test_splits_are_disjoint_and_cover_every_combination():
    parts = [set(combinations(split)) for split in SPLITS]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 36 * 12 * 12


def test_splits_have_about_80_8_and_12_percent():
    assert [round(len(combinations(split)) / 5184, 2) for split in SPLITS] == [0.79, 0.08, 0.12]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_concept_is_about_equally_often_in_every_split(split, family):
    count = Counter(name for combination in combinations(split) for name in combination)
    shares = [count[name] for name in members(family)]
    assert min(shares) > 0.8 * max(shares)


def test_every_pair_of_concepts_occurs_in_training():
    pairs = {frozenset(pair) for a, b, c in combinations("train") for pair in ((a, b), (a, c), (b, c))}
    assert len(pairs) == 36 * 12 + 36 * 12 + 12 * 12


def test_a_sample_is_determined_by_its_seed():
    assert sample("train", 50, seed=4) == sample("train", 50, seed=4)
    assert sample("train", 50, seed=4) != sample("train", 50, seed=5)


@pytest.mark.parametrize("split", SPLITS)
def test_a_sample_stays_in_its_split_and_is_balanced(split):
    specs = sample_specs(split, 720, seed=0)
    assert {(s.subject, s.colour, s.material) for s in specs} <= set(combinations(split))
    assert set(Counter(s.subject for s in specs).values()) == {20}
    for field in ("colour", "material"):
        count = Counter(getattr(s, field) for s in specs)
        assert len(count) == 12
        assert max(count.values()) - min(count.values()) <= 8


@pytest.mark.parametrize("name", VOCABULARY)
def test_having_and_without_decide_whether_a_concept_is_shown(name):
    assert all(name in scene.labels.values() for scene in sample("test", 30, seed=0, having=name))
    assert not any(name in scene.labels.values() for scene in sample("test", 30, seed=0, without=name))


@pytest.mark.parametrize("family", FAMILIES)
def test_family_decides_what_kind_of_scene_it_is(family):
    near = sample("train", 30, seed=0, family=family, without=members(family)[0])
    assert all(family in scene.labels and scene.labels[family] != members(family)[0] for scene in near)


def test_an_unknown_or_impossible_wish_is_refused():
    with pytest.raises(LookupError, match="no concept 'unicorn'"):
        sample("train", 1, seed=0, having="unicorn")
    with pytest.raises(LookupError, match="no family 'animal'"):
        sample("train", 1, seed=0, family="animal")
    with pytest.raises(ValueError, match="no split 'dev'"):
        combinations("dev")
    with pytest.raises(ValueError, match="no combination"):
        sample("train", 1, seed=0, having="cup", family="sport")


def test_a_subject_family_is_in_a_third_of_the_scenes():
    count = Counter(VOCABULARY[s.subject].family for s in sample_specs("train", 360, seed=1))
    assert count == dict.fromkeys(SUBJECT_FAMILIES, 120)
