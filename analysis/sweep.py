"""Linear probes of many concepts at every layer from one reading of shared pictures."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray

from analysis.logistic import Probe, auroc, auroc_draws, calibration_error, class_draws, rates, standard
from analysis.scenes import labels, read_scenes, slot
from concept_forget.evaluation.metrics import Measured, interval
from concept_forget.sites import Site
from concept_forget.worlds import VOCABULARY, Scene, sample
from concept_forget.worlds.splits import Split

if TYPE_CHECKING:
    from concept_forget.model import HookedModel

Kind = Literal["patch mean", "object patches", "last token"]
"""What a probe reads: the mean over all patches, over the patches under the concept's mask, or the last position."""
KINDS: tuple[Kind, ...] = get_args(Kind)
GRID = (1e-3, 1e-2, 1e-1, 1.0)
RESAMPLES = 500
Progress = Callable[[str, int, int], None]


class Reading(NamedTuple):
    """Pooled activations of shared pictures, in three splits."""

    scenes: tuple[Scene, ...]
    split: ndarray
    """0 train, 1 validation, 2 test."""
    pooled: dict[tuple[Site, str], Float[ndarray, "n d"]]
    """By site and what is pooled: "patch mean", "last token", or a slot of the scene (its object's patches)."""

    def get(self, site: Site, kind: Kind, concept: str) -> Float[ndarray, "n d"] | None:
        """What a probe of this kind reads for a concept; None where the site has no such tokens.

        A picture without the concept gives the patches of whatever fills the same slot.
        """
        return self.pooled.get((site, slot(concept) if kind == "object patches" else kind))


@dataclass(frozen=True)
class Cell:
    """One concept at one site and token kind, on the test pictures."""

    concept: str
    site: Site
    kind: Kind
    auroc: Measured
    balanced: Measured
    """Balanced accuracy."""
    C: float
    ece: float
    """Expected calibration error of its probabilities, ten bins."""
    selectivity: Measured
    """Balanced accuracy less that of a probe of the control task (Hewitt and Liang 2019, eq. 2)."""
    shuffled: float
    """AUROC of a probe of the same pictures with shuffled labels: the floor."""
    mass_mean: float
    """AUROC of the difference of the two means alone (Marks and Tegmark 2023)."""
    validation: float
    """AUROC on the validation pictures: what a layer is chosen by."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        measured = {name: getattr(self, name).to_json() for name in ("auroc", "balanced", "selectivity")}
        return {**vars(self), "site": str(self.site), **measured}


def read(
    model: HookedModel,
    sites: Sequence[Site],
    sizes: tuple[int, int, int] = (1200, 400, 600),
    *,
    seed: int = 0,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> Reading:
    """Read chance scenes of the three splits once, at all sites."""
    scenes: list[Scene] = []
    split: list[int] = []
    for number, (name, size) in enumerate(zip(get_args(Split), sizes, strict=True)):
        scenes += sample(name, size, 10_000 * seed + 70 + number)
        split += [number] * size
    found: dict[tuple[Site, str], list[torch.Tensor]] = {}
    step = None if progress is None else lambda done, total: progress("reading pictures", done, total)
    for part in read_scenes(model, scenes, sites, batch_size=batch_size, progress=step):
        for site, x in part.patches.items():
            found.setdefault((site, "patch mean"), []).append(x.mean(1))
            for name, weight in part.cover.items():
                share = weight / weight.sum(1, keepdim=True).clamp_min(1e-6)
                found.setdefault((site, name), []).append(torch.einsum("bp,bpd->bd", share, x))
        for site, x in part.last.items():
            found.setdefault((site, "last token"), []).append(x)
    pooled = {key: torch.cat(parts).double().numpy() for key, parts in found.items()}
    return Reading(tuple(scenes), np.array(split), pooled)


def sweep(
    reading: Reading,
    concepts: Sequence[str] = (),
    kinds: Sequence[Kind] = ("patch mean",),
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Cell]:
    """Probe every concept at every site read. Raises ValueError for a concept that a split lacks."""
    from threadpoolctl import threadpool_limits  # comes with scikit-learn

    names = list(concepts) or list(VOCABULARY)
    sites = list(dict.fromkeys(site for site, _ in reading.pooled))
    marks = {name: control(reading.scenes, name, seed) for name in names}
    places = [(site, kind, concept) for site in sites for kind in kinds for concept in names]

    def one(place: tuple[Site, Kind, str]) -> Cell | None:
        site, kind, concept = place
        x = reading.get(site, kind, concept)
        return None if x is None else cell(reading, x, concept, site, kind, seed, marks[concept])

    cells = []
    # Nearly all of the time is in BLAS, which lets other threads run; one thread for each product is fastest then.
    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, found in enumerate(pool.map(one, places), 1):
            cells += [found] if found else []
            if progress:
                progress("probing", done, len(places))
    return cells


def control(scenes: Sequence[Scene], concept: str, seed: int = 0) -> Bool[ndarray, " n"]:
    """The control task: a random label for every type, half of the types each way. A type is all else that is shown."""
    types = [tuple(name for name in scene.labels.values() if name != concept) for scene in scenes]
    names = sorted(set(types))
    order = np.random.default_rng(seed).permutation(len(names))
    label = {names[k]: place % 2 == 0 for place, k in enumerate(order)}
    return np.array([label[kind] for kind in types])


def cell(
    reading: Reading,
    x: Float[ndarray, "n d"],
    concept: str,
    site: Site,
    kind: Kind,
    seed: int = 0,
    marks: Bool[ndarray, " n"] | None = None,
) -> Cell:
    """The probes of one concept at one place. `marks` is the control task, where it is there already."""
    y, marks = labels(reading.scenes, concept), control(reading.scenes, concept, seed) if marks is None else marks
    train, validation, test = (reading.split == number for number in range(3))
    for name, part in (("train", train), ("validation", validation), ("test", test)):
        if not 1 < y[part].sum() < part.sum() - 1:
            raise ValueError(f"The {name} pictures show {concept!r} {int(y[part].sum())} times; read more pictures.")
    probe = fitted(x[train], y[train], x[validation], y[validation])
    wrong = np.random.default_rng(seed).permutation(y[train])
    floor = fitted(x[train], wrong, x[validation], y[validation], (probe.C,))
    guess = fitted(x[train], marks[train], x[validation], marks[validation], (probe.C,))
    scores, truth = probe.score(x[test]), y[test]
    draws = class_draws(truth, RESAMPLES, seed)
    balanced = rates(scores, truth, draws, "balanced")
    more = balanced - rates(guess.score(x[test]), marks[test], draws, "balanced")
    return Cell(
        concept=concept,
        site=site,
        kind=kind,
        auroc=interval(auroc(scores, truth), auroc_draws(scores, truth, draws), len(truth)),
        balanced=interval(float(balanced[0]), balanced[1:], len(truth)),
        selectivity=interval(float(more[0]), more[1:], len(truth)),
        C=probe.C,
        ece=calibration_error(scores, truth, y[train].mean()),
        shuffled=auroc(floor.score(x[test]), truth),
        mass_mean=auroc(mass_mean(x[train], y[train]).score(x[test]), truth),
        validation=auroc(probe.score(x[validation]), y[validation]),
    )


def fitted(
    x: Float[ndarray, "n d"],
    y: Bool[ndarray, " n"],
    x_validation: Float[ndarray, "m d"],
    y_validation: Bool[ndarray, " m"],
    grid: Sequence[float] = GRID,
) -> Probe:
    """L2 logistic regression with equal classes, standardised on train, C by validation AUROC (ties: the smaller).

    Newton steps with Cholesky, which for a few hundred coordinates is many times faster than L-BFGS.
    """
    from sklearn.linear_model import LogisticRegression

    mean, scale = standard(x)
    rows, checked = (x - mean) / scale, (x_validation - mean) / scale
    model = LogisticRegression(class_weight="balanced", solver="newton-cholesky", warm_start=True, max_iter=100)
    best: tuple[float, float, ndarray, float] | None = None
    for c in sorted(grid):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.set_params(C=c).fit(rows, y)
        value = auroc(model.decision_function(checked), y_validation)
        if best is None or value > best[0]:
            best = (value, c, model.coef_[0].copy(), float(np.ravel(model.intercept_)[0]))
    assert best is not None, "the grid is not empty"
    _, c, weight, bias = best
    return Probe(mean, scale, weight, bias, c)


def mass_mean(x: Float[ndarray, "n d"], y: Bool[ndarray, " n"]) -> Probe:
    """The probe whose weight is the difference of the classes' means, cut half way (Marks and Tegmark 2023, eq. 1)."""
    yes, no = x[y].mean(0), x[~y].mean(0)
    return Probe((yes + no) / 2, np.ones(x.shape[1]), yes - no, 0.0, 0.0)


def mlp_auroc(reading: Reading, x: Float[ndarray, "n d"], concept: str, seed: int = 0) -> float:
    """Test AUROC of two hidden layers of 256, stopped early on part of train: what non-linear reading could reach."""
    from sklearn.neural_network import MLPClassifier

    y, (train, test) = labels(reading.scenes, concept), (reading.split == 0, reading.split == 2)
    mean, scale = x[train].mean(0), x[train].std(0) + 1e-9
    model = MLPClassifier((256, 256), early_stopping=True, random_state=seed, max_iter=60)
    # Equal classes: the rarer is repeated.
    rows = np.flatnonzero(train)
    yes, no = rows[y[rows]], rows[~y[rows]]
    rows = np.concatenate([no, np.resize(yes, len(no))])
    model.fit((x[rows] - mean) / scale, y[rows])
    scores = np.asarray(model.predict_proba((x[test] - mean) / scale))[:, 1]
    return auroc(scores, y[test])
