"""Losses against values worked out by hand, and in their limits."""

from __future__ import annotations

import math

import pytest
import torch

from concept_forget.methods.training import DIVERGENCES, Flat, Undial, forget_gap, forget_ratio
from concept_forget.methods.training.anchored import drifted
from concept_forget.methods.training.dpo import dpo
from concept_forget.methods.training.flat import flat, probability
from concept_forget.methods.training.kl import divergence
from concept_forget.methods.training.npo import npo
from concept_forget.methods.training.rmu import rmu
from concept_forget.methods.training.selective_amnesia import weight
from concept_forget.methods.training.simnpo import simnpo
from concept_forget.methods.training.undial import undial
from concept_forget.teacher import Told


def told(probabilities: list[list[float]], ids: list[int], rows: list[int]) -> Told:
    """Answer tokens whose next-token distributions are these."""
    logits = torch.tensor(probabilities, dtype=torch.float64).log().requires_grad_()
    return Told(logits, torch.tensor(ids), torch.tensor(rows), max(rows) + 1)


TWO = told([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.25, 0.25, 0.5]], [0, 1, 2], [0, 0, 1])
"""Two answers: one of two tokens (p = .5, .8), one of a single token (p = .5)."""


def test_answers_are_summed_and_averaged_over_their_own_tokens() -> None:
    assert TWO.total.tolist() == pytest.approx([math.log(0.4), math.log(0.5)])
    assert TWO.means(TWO.logp).tolist() == pytest.approx([math.log(0.4) / 2, math.log(0.5)])
    assert float(TWO.nll.detach()) == pytest.approx(-math.log(0.2) / 3)
    assert probability(TWO).tolist() == pytest.approx([0.65, 0.5])


def test_npo_and_dpo_are_two_over_beta_log_two_at_the_reference() -> None:
    nothing = torch.zeros(3)
    for beta in (0.1, 1.0):
        assert float(npo(nothing, beta)) == pytest.approx(2 / beta * math.log(2))
        assert float(dpo(nothing, nothing, beta)) == pytest.approx(2 / beta * math.log(2))
    # by hand: (2 / .5) log(1 + e^(.5 * -2))
    assert float(npo(torch.tensor([-2.0]), 0.5)) == pytest.approx(4 * math.log1p(math.exp(-1.0)))
    assert float(dpo(torch.tensor([1.0]), torch.tensor([-1.0]), 0.5)) == pytest.approx(4 * math.log1p(math.exp(-1.0)))


def test_the_gradient_of_npo_becomes_gradient_ascent_as_beta_vanishes() -> None:
    reference = torch.tensor([-3.0, -0.5], dtype=torch.float64)
    (ascent,) = torch.autograd.grad(TWO.total.mean(), TWO.logits)
    misses = []
    for beta in (1.0, 0.1, 1e-4):
        (gradient,) = torch.autograd.grad(npo(TWO.total - reference, beta), TWO.logits)
        misses.append(float((gradient - ascent).norm() / ascent.norm()))
    assert misses[0] > misses[1] > misses[2]
    assert misses[2] < 1e-3


def test_npo_stops_pushing_where_the_answer_is_gone_and_ascent_does_not() -> None:
    ratio = torch.tensor([-40.0], requires_grad=True)
    (slope,) = torch.autograd.grad(npo(ratio, 1.0), ratio)
    assert 0 <= float(slope) < 1e-15


def test_simnpo_by_hand() -> None:
    assert float(simnpo(torch.tensor([0.7]), 4.5)) == pytest.approx(2 / 4.5 * math.log1p(math.exp(-4.5 * 0.7)))
    assert float(simnpo(torch.tensor([0.7]), 4.5, 0.7)) == pytest.approx(2 / 4.5 * math.log(2))


def test_kl_is_that_of_the_untouched_to_the_trained_distribution() -> None:
    before, after = told([[0.5, 0.5]], [0], [0]), told([[0.25, 0.75]], [0], [0])
    assert float(divergence(before, after).detach()) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    assert float(divergence(before, before).detach()) == 0


def test_undial_is_the_cross_entropy_to_the_lowered_teacher() -> None:
    before = told([[0.5, 0.25, 0.25]], [0], [0])
    # lowering the first by log 2 makes all three equal
    loss = undial(before, before, math.log(2))
    assert float(loss) == pytest.approx(-sum(math.log(p) for p in (0.5, 0.25, 0.25)) / 3)
    # and there it is at its minimum, which the untouched model is not
    (slope,) = torch.autograd.grad(undial(before, before, math.log(2)), before.logits)
    assert float(slope.abs().max()) > 0.05
    uniform = told([[1 / 3, 1 / 3, 1 / 3]], [0], [0])
    (slope,) = torch.autograd.grad(undial(before, uniform, math.log(2)), uniform.logits)
    assert float(slope.abs().max()) < 1e-6
    assert Undial().beta == 10


def test_rmu_by_hand() -> None:
    h, target = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([1.0, 1.0])
    kept, before = torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, 3.0]])
    assert float(rmu(h, target, kept, before, 2.0)) == pytest.approx((0 + 1 + 4 + 9) / 4 + 2 * (1 + 4) / 2)


def test_the_drift_of_activations_is_a_share_of_their_size() -> None:
    before, after = torch.tensor([[0.0, 3.0], [4.0, 0.0]]), torch.tensor([[1.0, 1.0], [4.0, 0.0]])
    assert float(drifted(before, after)) == pytest.approx((1 + 4) / 25)
    assert float(drifted(10 * before, 10 * after)) == pytest.approx((1 + 4) / 25)
    assert float(drifted(before, before)) == 0


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "kl": (0.8048, 0.1065, -0.4934),
        "pearson": (1.0025, 0.0625, -0.7975),
        "js": (0.4993, 0.0619, -0.3007),
        "tv": (0.3083, 0.0, -0.3083),
    }.items(),
)
def test_flat_gives_the_values_of_the_released_code(name: str, values: tuple[float, float, float]) -> None:
    template, forget = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.9, 0.5, 0.1])
    assert flat(template, forget, name).tolist() == pytest.approx(values, abs=5e-5)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_flat_pulls_the_template_up_and_the_answer_down_everywhere(name: str) -> None:
    v = torch.linspace(0.001, 0.999, 400, dtype=torch.float64)
    template, forget = v.clone().requires_grad_(), v.clone().requires_grad_()
    flat(template, forget, name).sum().backward()
    assert bool((template.grad < 0).all())
    assert bool((forget.grad > 0).all())


@pytest.mark.parametrize("name", ["reverse_kl", "hellinger", "neyman"])
def test_flat_refuses_the_divergences_that_teach_what_is_to_be_forgotten(name: str) -> None:
    with pytest.raises(ValueError, match="g\\* falls"):
        Flat(divergence=name)
    with pytest.raises(ValueError, match="give one of kl"):
        Flat(divergence="chi")


def test_the_retain_weight_of_selective_amnesia_grows_with_the_harm() -> None:
    # (C_r - mean: alpha) of the paper's formula, capped as in the released code
    for excess, alpha in ((-1.0, 1.2), (0.0, 1.2), (0.25, 1.2696), (0.5, 1.5348), (0.75, 1.9501), (1.0, 2.3)):
        assert weight(excess) == pytest.approx(alpha, abs=1e-4)


def test_forget_gap_and_ratio() -> None:
    assert forget_gap(0.52) == pytest.approx(0.02)
    assert forget_ratio(1.0, 0.52) == pytest.approx(0.96)
    assert forget_ratio(0.9, 0.1, floor=1 - 0.9) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="nothing to forget"):
        forget_ratio(0.5, 0.4)
