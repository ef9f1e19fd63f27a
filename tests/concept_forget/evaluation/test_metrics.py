import json
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from concept_forget.evaluation.metrics import (
    ROLES,
    Change,
    Measured,
    Table,
    changes,
    compare,
    draw_groups,
    harmonic_mean,
    over_concepts,
    relative,
    table,
)


def random_table(rates, groups=120, each=2, seed=0):
    rng = np.random.default_rng(seed)
    hits, roles, names, strata = [], [], [], []
    for group in range(groups):
        shown = group < groups // 2
        for k in (0, 1, 4) if shown else (2, 3):
            for _ in range(each):
                hits.append(rng.random() < rates[k])
                roles.append(ROLES[k])
                names.append(f"picture {group}")
                strata.append(0 if shown else 1)
    return table(hits, roles, names, strata)


def test_rates_are_shares_of_items():
    counted = table([1, 0, 1, 1], ["UAd", "UAd", "IRA", "UAd"], ["a", "b", "c", "a"], [0, 0, 1, 0])
    assert counted.rates()[0] == pytest.approx(2 / 3)
    assert counted.rates()[2] == 1
    assert np.isnan(counted.rates()[[1, 3, 4]]).all()
    assert counted.strata == (2, 1)
    assert counted.n.tolist() == [3, 0, 1, 0, 0]


def test_a_bootstrap_draw_keeps_the_size_of_every_stratum():
    draws = draw_groups((7, 5), 500, 3)
    assert (draws[:, :7].sum(1) == 7).all() and (draws[:, 7:].sum(1) == 5).all()
    assert draws.mean(0) == pytest.approx(np.ones(12), abs=0.15)
    assert not np.array_equal(draws, draw_groups((7, 5), 500, 4))


def test_resampling_groups_equals_the_slow_bootstrap_over_items():
    counted = random_table((0.3, 0.5, 0.9, 0.7, 0.6), groups=20)
    draws = draw_groups(counted.strata, 50, 1)
    fast = counted.resampled(50, 1)
    for draw, rates in zip(draws, fast, strict=True):
        rows = np.repeat(np.arange(len(draw)), draw.astype(int))
        slow = counted.hits[rows].sum(0) / counted.counts[rows].sum(0)
        assert rates == pytest.approx(slow)


def test_the_interval_covers_the_truth_about_95_times_in_100():
    covered = 0
    for seed in range(200):
        measured = changes(*[random_table((0.3,) * 5, groups=160, each=1, seed=seed)] * 2, resamples=300)["UAd"].after
        covered += measured.low <= 0.3 <= measured.high
    assert 178 <= covered <= 199


def test_items_of_one_group_that_move_together_widen_the_interval():
    rng = np.random.default_rng(0)
    group_hits = rng.random(40) < 0.5
    alone = table(np.repeat(group_hits, 10), ["UAd"] * 400, [f"{i}" for i in range(400)], [0] * 400)
    together = table(np.repeat(group_hits, 10), ["UAd"] * 400, [f"{i // 10}" for i in range(400)], [0] * 400)
    width = [np.ptp(np.percentile(t.resampled()[:, 0], (2.5, 97.5))) for t in (alone, together)]
    assert width[1] > 2.5 * width[0]


def test_the_same_answers_differ_by_exactly_zero_because_the_resamples_are_paired():
    same = random_table((0.3, 0.5, 0.9, 0.7, 0.6))
    for change in changes(same, same).values():
        assert change.difference.low == change.difference.high == change.difference.value == 0
    assert compare(same, same).high == 0


def test_a_planted_difference_is_found_and_its_interval_excludes_zero():
    bare, edited = random_table((0.05, 0.05, 0.95, 0.95, 0.95)), random_table((0.95, 0.9, 0.95, 0.95, 0.9))
    found = changes(bare, edited)
    assert found["UAd"].difference.low > 0.8
    assert found["IRA"].difference.low <= 0 <= found["IRA"].difference.high
    assert found["HM"].difference.low > 0.5
    assert compare(edited, bare).low > 0.5
    assert compare(bare, edited).value == -compare(edited, bare).value


def test_results_on_different_examples_cannot_be_compared():
    with pytest.raises(ValueError, match="different examples"):
        compare(random_table((0.5,) * 5), random_table((0.5,) * 5, groups=60))


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=5))
def test_the_harmonic_mean_lies_between_the_least_and_the_arithmetic_mean(rates):
    mean = float(harmonic_mean(np.array(rates)))
    assert min(rates) - 1e-9 <= mean <= np.mean(rates) + 1e-9


def test_one_zero_makes_the_harmonic_mean_zero_and_what_was_not_measured_is_left_out():
    assert harmonic_mean(np.array([1.0, 0.0, 1.0])) == 0
    assert harmonic_mean(np.array([0.5, np.nan, 1.0])) == pytest.approx(2 / 3)
    assert np.isnan(harmonic_mean(np.array([np.nan, np.nan])))


def test_relative_measures_what_is_kept_against_what_was_there_and_caps_it_at_one():
    before, after = np.array([0.0, 0.1, 0.5, 0.8, 0.0]), np.array([0.9, 0.9, 0.25, 0.9, 0.5])
    shares = relative(after, before)
    assert shares[:4] == pytest.approx([0.9, 0.9, 0.5, 1.0])
    assert np.isnan(shares[4])


def test_the_mean_over_concepts_has_an_interval_over_concepts():
    measured = over_concepts([0.9, 1.0, 0.8, float("nan"), 0.9])
    assert measured.value == pytest.approx(0.9) and measured.n == 4
    assert 0.8 <= measured.low < 0.9 < measured.high <= 1.0
    assert np.isnan(over_concepts([]).value)


def test_json_gives_the_same_number_back_and_never_says_nan():
    for measured in (Measured(0.25, 0.125, 0.5, 7), Measured(*[float("nan")] * 3, 0)):
        text = json.dumps(measured.to_json(), allow_nan=False)
        assert repr(Measured.from_json(json.loads(text))) == repr(measured)
    change = Change(*[Measured(0.25, 0.125, 0.5, 7)] * 3)
    assert Change.from_json(json.loads(json.dumps(change.to_json()))) == change


def test_two_thousand_resamples_of_the_five_metrics_take_milliseconds():
    before, after = random_table((0.1,) * 5, groups=400), random_table((0.9,) * 5, groups=400)
    changes(before, after)
    started = time.process_time()
    changes(before, after, resamples=2000)
    assert time.process_time() - started < 0.5, "measured 0.005 s; the bench calls this 480 times"


def test_an_empty_table_measures_nothing():
    nothing = Table(np.zeros((0, 5)), np.zeros((0, 5)), ())
    assert str(changes(nothing, nothing)["UAd"].after) == "not measured"
