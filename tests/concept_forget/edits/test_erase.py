"""Projections take out what they say, once and for all."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from concept_forget.edits import LeaceErase, Shift, SubspaceErase
from concept_forget.sites import Site

SITE = Site("vision", 1, "resid")
quick = settings(max_examples=30, deadline=None)
seeds = st.integers(0, 10_000)


def erase(seed: int, r: int = 3, d: int = 10) -> SubspaceErase:
    g = torch.Generator().manual_seed(seed)
    return SubspaceErase.of(SITE, torch.randn(r, d, generator=g), torch.randn(d, generator=g))


def activations(seed: int, d: int = 10) -> torch.Tensor:
    return torch.randn(2, 6, d, generator=torch.Generator().manual_seed(seed + 7))


@quick
@given(seeds)
def test_erasing_twice_is_erasing_once_and_erasing_does_something(seed: int) -> None:
    edit, x = erase(seed), activations(seed)
    once = edit.transform(x)
    assert torch.allclose(edit.transform(once), once, atol=1e-5)
    assert not torch.allclose(once, x, atol=1e-2)


@quick
@given(seeds)
def test_erased_directions_read_their_mean_and_the_rest_is_untouched(seed: int) -> None:
    edit, x = erase(seed), activations(seed)
    out = edit.transform(x)
    assert torch.allclose(out @ edit.basis.T, (edit.mean @ edit.basis.T).expand(2, 6, 3), atol=1e-5)
    rest = torch.eye(10) - edit.basis.T @ edit.basis
    assert torch.allclose(out @ rest, x @ rest, atol=1e-5)


@quick
@given(seeds)
def test_orthogonal_erasures_commute(seed: int) -> None:
    basis = torch.linalg.qr(torch.randn(10, 4, generator=torch.Generator().manual_seed(seed)))[0].T
    mean, x = torch.randn(10), activations(seed)
    a, b = SubspaceErase(SITE, basis[:2], mean), SubspaceErase(SITE, basis[2:], mean)
    assert torch.allclose(a.transform(b.transform(x)), b.transform(a.transform(x)), atol=1e-5)


@quick
@given(seeds)
def test_reflecting_twice_gives_the_activation_back(seed: int) -> None:
    whole, x = erase(seed), activations(seed)
    mirror = SubspaceErase(SITE, whole.basis, whole.mean, strength=2.0)
    assert torch.allclose(mirror.transform(mirror.transform(x)), x, atol=1e-4)
    assert not torch.allclose(mirror.transform(x), x, atol=1e-2)


def test_directions_need_not_be_orthonormal_and_dependent_ones_count_once() -> None:
    v, mean = torch.randn(1, 10), torch.zeros(10)
    twice = SubspaceErase.of(SITE, torch.cat([v, 3 * v]), mean)
    assert twice.basis.shape == (1, 10)
    assert float(twice.basis.norm()) == pytest.approx(1, abs=1e-5)
    with pytest.raises(ValueError, match="all zero"):
        SubspaceErase.of(SITE, torch.zeros(2, 10), mean)


def test_half_precision_stays_half_and_close_to_float32() -> None:
    edit, x = erase(1), activations(1).bfloat16()
    out = edit.transform(x)
    assert out.dtype == torch.bfloat16
    assert torch.allclose(out.float(), edit.transform(x.float()), atol=0.06)


def labelled(n: int = 4000, d: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    y = torch.arange(n) % 4 == 0
    mix = torch.randn(d, d, generator=g)
    return torch.randn(n, d, generator=g) @ mix + y[:, None] * 2 * torch.randn(d, generator=g) + 5, y


def test_leace_drives_a_linear_probe_to_chance_that_was_above_it() -> None:
    from concept_erasure import LeaceFitter

    x, y = labelled()
    fitter = LeaceFitter(10, 1, dtype=torch.float64, svd_tol=1e-6).update(x, y.double())
    eraser = fitter.eraser
    edit = LeaceErase(SITE, eraser.proj_left.float(), eraser.proj_right.float(), fitter.mean_x.float())
    out = edit.transform(x[None])[0]

    def balanced_accuracy(points: torch.Tensor) -> float:
        probe = LogisticRegression(max_iter=1000, class_weight="balanced").fit(points.numpy(), y.numpy())
        guess = torch.from_numpy(probe.predict(points.numpy()))
        return float((guess[y].float().mean() + (~guess[~y]).float().mean()) / 2)

    assert balanced_accuracy(x) > 0.8
    assert abs(balanced_accuracy(out) - 0.5) < 0.02
    assert torch.allclose(edit.transform(out[None])[0], out, atol=1e-3)
    assert torch.allclose(out.mean(0), x.mean(0), atol=1e-2)


def test_shift_moves_everything_by_the_vector_times_its_strength() -> None:
    vector, x = torch.randn(10), activations(2)
    assert torch.equal(Shift(SITE, vector).transform(x), x + vector)
    back = Shift(SITE, vector, strength=-1.0)
    assert torch.allclose(back.transform(Shift(SITE, vector).transform(x)), x, atol=1e-6)
