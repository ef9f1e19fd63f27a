"""One linear probe: fitted, scored, and its rates with bootstrap draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from concept_forget.evaluation.metrics import RESAMPLES, draw_groups

GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Inverse strengths C of the L2 penalty (scikit-learn's convention) to choose from on validation."""

Measure = Literal["balanced", "accuracy", "auroc"]


class Probe(NamedTuple):
    """A trained linear probe: score(x) = (x - mean) / scale . weight + bias; above 0 means yes."""

    mean: Float[ndarray, " d"]
    scale: Float[ndarray, " d"]
    weight: Float[ndarray, " d"]
    bias: float
    C: float

    def score(self, x: Float[ndarray, "n d"]) -> Float[ndarray, " n"]:
        return (x - self.mean) / self.scale @ self.weight + self.bias


def fit_probe(
    x: Float[ndarray, "n d"],
    y: Bool[ndarray, " n"],
    x_validation: Float[ndarray, "m d"],
    y_validation: Bool[ndarray, " m"],
    grid: Sequence[float] = GRID,
) -> Probe:
    """L2 logistic regression, classes weighted equally, standardised on train, C by validation log-loss.

    With d > n it is solved in the row space of x, where the solution lies (the penalty is rotation invariant).
    """
    from sklearn.linear_model import LogisticRegression

    mean, scale = standard(x)
    rows, checked = (x - mean) / scale, (x_validation - mean) / scale
    basis = np.linalg.svd(rows, full_matrices=False)[2].T if rows.shape[1] > len(rows) else None
    if basis is not None:
        rows, checked = rows @ basis, checked @ basis
    if len(np.unique(y)) < 2:
        return Probe(mean, scale, np.zeros(x.shape[1]), 1.0 if y[0] else -1.0, grid[0])
    model = LogisticRegression(class_weight="balanced", max_iter=500, warm_start=True)
    fits: list[tuple[float, Probe]] = []
    for c in sorted(grid):
        model.set_params(C=c).fit(rows, y)
        weight = model.coef_.ravel().copy()
        fitted = Probe(
            mean, scale, weight if basis is None else basis @ weight, float(np.ravel(model.intercept_)[0]), c
        )
        fits.append((_log_loss(model.decision_function(checked), y_validation), fitted))
    return min(fits, key=lambda fit: fit[0])[1]


def standard(x: Float[ndarray, "n d"]) -> tuple[Float[ndarray, " d"], Float[ndarray, " d"]]:
    """Mean and deviation of every coordinate, infinite for one that does not vary.

    What does not vary must stay that way: rounding noise of an erased direction is no signal.
    """
    mean, scale = x.mean(0), x.std(0)
    return mean, np.where(scale > 1e-5 * max(float(scale.max()), 1e-12), scale, np.inf)


def rates(
    scores: Float[ndarray, " n"], y: Bool[ndarray, " n"], draws: Float[ndarray, "resamples n"], measure: Measure
) -> Float[ndarray, " resamples+1"]:
    """The measure of all n, followed by that of every bootstrap draw (how often each of the n is in it).

    Balanced accuracy is the mean of the two classes' accuracies; AUROC the chance that a yes scores above a no, ties
    count half. NaN where a draw has one class only.
    """
    weights = np.concatenate([np.ones((1, len(y))), draws])
    yes, no = weights * y, weights * ~y
    with np.errstate(divide="ignore", invalid="ignore"):
        if measure != "auroc":
            right = (scores > 0) == y
            if measure == "accuracy":
                return weights @ right / weights.sum(1)
            return (yes @ right / yes.sum(1) + no @ right / no.sum(1)) / 2
        values, place = np.unique(scores, return_inverse=True)
        onto = np.eye(len(values))[place]
        yes, no = yes @ onto, no @ onto
        below = no.cumsum(1) - no / 2
        return (yes * below).sum(1) / (yes.sum(1) * no.sum(1))


def class_draws(y: Bool[ndarray, " n"], resamples: int = RESAMPLES, seed: int = 0) -> Float[ndarray, "resamples n"]:
    """Bootstrap counts of the n, each class drawn apart: one picture per group, so items are groups."""
    order = np.argsort(~y, kind="stable")
    drawn = draw_groups(tuple(int(size) for size in (y.sum(), (~y).sum()) if size), resamples, seed)
    out = np.empty_like(drawn)
    out[:, order] = drawn
    return out


def auroc(scores: Float[ndarray, " n"], y: Bool[ndarray, " n"]) -> float:
    """Chance that a yes scores above a no, ties count half: the Mann-Whitney statistic from mid-ranks."""
    from scipy.stats import rankdata

    yes = int(y.sum())
    return float((rankdata(scores)[y].sum() - yes * (yes + 1) / 2) / (yes * (len(y) - yes)))


def auroc_draws(
    scores: Float[ndarray, " n"], y: Bool[ndarray, " n"], draws: Float[ndarray, "resamples n"]
) -> Float[ndarray, " resamples"]:
    """The same for every bootstrap draw: the matrix of wins is as small as the concept is rare."""
    apart = np.sign(scores[y][:, None] - scores[~y][None])
    yes, no = draws[:, y], draws[:, ~y]
    wins = ((yes @ (apart + 1) / 2) * no).sum(1)
    return wins / (yes.sum(1) * no.sum(1))


def calibration_error(scores: Float[ndarray, " n"], y: Bool[ndarray, " n"], share: float, bins: int = 10) -> float:
    """sum_b n_b / n |accuracy_b - confidence_b| of p = sigmoid(score + logit(share)), ten equal bins (Guo et al. 2017).

    The probe weighs its classes equally; `share` is how common the concept is, which the probabilities must know.
    """
    p = 1 / (1 + np.exp(-np.clip(scores + np.log(share / (1 - share)), -500, 500)))
    place = np.minimum((p * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    gap = np.bincount(place, y, bins) - np.bincount(place, p, bins)
    return float(np.abs(gap).sum() / count.sum())


def _log_loss(scores: ndarray, y: ndarray) -> float:
    loss = np.logaddexp(0, np.where(y, -scores, scores))
    return float(np.mean([loss[side].mean() for side in (y, ~y) if side.any()]))
