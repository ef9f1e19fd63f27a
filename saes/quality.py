"""How good a dictionary is: what it reconstructs, what it costs the model, and whether it knows a concept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from concept_forget.concepts import Example
from concept_forget.directions import Dictionary
from concept_forget.edits.base import SiteEdit
from concept_forget.sites import Site
from concept_forget.teacher import by_sight, forced, told
from saes.attribution import CELLS, Moments, moments
from saes.harvest import content
from saes.store import ActivationStore, Progress

if TYPE_CHECKING:
    from concept_forget.model import HookedModel

SPARSE = (1, 5, 20)
"""Numbers of features of the k-sparse probes."""


@dataclass(frozen=True, eq=False)
class Splice(SiteEdit):
    """Puts the reconstruction (None: zeros) in the place of the activation, at the positions a dictionary is for."""

    site: Site
    dictionary: Dictionary | None
    where: Bool[Tensor, "b t"] | None = None
    gate: ClassVar[None] = None

    def transform(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        new = torch.zeros_like(x)
        if self.dictionary is not None:
            device = getattr(self.dictionary, "device", x.device)
            new = self.dictionary.decode(self.dictionary.encode(x.to(device))).to(x)
        return new if self.where is None else torch.where(self.where.to(x.device)[..., None], new, x)


class Loss(NamedTuple):
    """Cross-entropy of the expected answers, nats per example."""

    clean: float
    spliced: float
    """With the reconstruction in the activation's place."""
    zero: float
    """With zeros in its place."""

    @property
    def recovered(self) -> float:
        """(CE_zero - CE_spliced) / (CE_zero - CE_clean): 1 for a perfect dictionary, 0 for one as bad as zeros."""
        return (self.zero - self.spliced) / (self.zero - self.clean)


class ConceptQuality(NamedTuple):
    """How well the dictionary tells groups that show a concept from those that do not, on held-out groups."""

    feature: int
    """The best single feature, chosen on the other groups."""
    auroc: float
    """AUROC of its activation."""
    probes: dict[int, float]
    """AUROC of a logistic probe on k features, for k = 1, 5, 20."""
    positives: int
    """Held-out groups that show it."""


@dataclass(frozen=True)
class Quality:
    """The quality card of a dictionary."""

    tokens: int
    explained_variance: float
    """1 - sum||x - x_hat||^2 / sum||x - mean||^2."""
    l0: float
    """Mean number of features that fire per token."""
    cosine: float
    """Mean cosine of x and x_hat."""
    dead: float
    """Share of features that never fire here."""
    dense: float
    """Share of features that fire on more than a tenth of the tokens."""
    density: Float[Tensor, " f"] = field(repr=False, compare=False)
    """Share of tokens at which each feature fires."""
    loss: Loss | None = None
    concepts: dict[str, ConceptQuality] = field(default_factory=dict)

    @property
    def loss_recovered(self) -> float | None:
        return self.loss.recovered if self.loss else None

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, without the density."""
        plain = {key: value for key, value in asdict(self).items() if key not in ("density", "loss", "concepts")}
        plain["loss_recovered"] = self.loss_recovered
        plain["loss"] = self.loss._asdict() if self.loss else None
        plain["concepts"] = {name: concept._asdict() for name, concept in self.concepts.items()}
        return plain


def quality(
    dictionary: Dictionary,
    store: ActivationStore,
    labels: Mapping[str, Bool[Tensor, " groups"]] | None = None,
    model: HookedModel | None = None,
    *,
    examples: Sequence[Example] = (),
    held_out: Bool[Tensor, " groups"] | None = None,
    of: Moments | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Quality:
    """Judge a dictionary on a store (best one it was not trained on).

    `labels` (concept to groups, as from `store.labels()`) adds the concept metrics; `held_out` are the groups they are
    scored on (default: a random third). `model` with `examples` that have answers adds the loss recovered.
    """
    numbers = reconstruction(dictionary, store, progress)
    loss = loss_recovered(model, dictionary, examples) if model is not None and examples else None
    concepts = {}
    if labels:
        of = of or moments(dictionary, store)
        if held_out is None:
            held_out = torch.rand(len(store.groups), generator=torch.Generator().manual_seed(seed)) < 1 / 3
        concepts = concept_quality(of, labels, held_out)
    return Quality(**numbers, loss=loss, concepts=concepts)


@torch.no_grad()
def reconstruction(dictionary: Dictionary, store: ActivationStore, progress: Progress | None = None) -> dict[str, Any]:
    """Explained variance, L0, cosine, dead and dense features from one stream over the store, sums in float64."""
    device = getattr(dictionary, "device", torch.device("cpu"))
    step = max(1, CELLS // dictionary.d_sae)
    n, error, cosine = 0, 0.0, 0.0
    shift: Tensor | None = None
    total, square = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    fires = torch.zeros(dictionary.d_sae, dtype=torch.float64)
    for rows in store.shards():
        for part in rows.x.split(step):
            x = part.to(device).float()
            z = dictionary.encode(x)
            x_hat = dictionary.decode(z)
            # Around the first chunk's mean: with far-off means sum x^2 - n mean^2 would cancel.
            shift = x.mean(0) if shift is None else shift
            centred = (x - shift).double()
            total, square = total.to(device) + centred.sum(0), square.to(device) + centred.square().sum()
            error += float((x - x_hat).double().square().sum())
            cosine += float(torch.cosine_similarity(x, x_hat, dim=1).double().sum())
            fires += (z > 0).sum(0).cpu()
            n += len(x)
            if progress:
                progress(n, len(store))
    if not n:
        raise ValueError("The store is empty: there is nothing to judge the dictionary on.")
    variance = float(square - total.square().sum() / n)
    density = (fires / n).float()
    return {
        "tokens": n,
        "explained_variance": 1 - error / variance if variance > 0 else float("nan"),
        "l0": float(fires.sum() / n),
        "cosine": cosine / n,
        "dead": float((fires == 0).float().mean()),
        "dense": float((density > 0.1).float().mean()),
        "density": density,
    }


@torch.no_grad()
def loss_recovered(
    model: HookedModel, dictionary: Dictionary, examples: Sequence[Example], batch_size: int = 16
) -> Loss:
    """Cross-entropy of the answers as it is, with the reconstruction and with zeros, at the tokens harvested there."""
    sums = torch.zeros(3, dtype=torch.float64)
    site = dictionary.site
    for numbers in by_sight(examples, batch_size):
        batch = forced(model, [examples[i] for i in numbers])
        x = model.run(batch, read=[site], logits=None).activations[site]
        where = content(batch.tokens, site, x)[0]
        for place, edits in enumerate(([], [Splice(site, dictionary, where)], [Splice(site, None, where)])):
            sums[place] -= float(told(model.run(batch, edits=edits, logits="all").logits, batch).total.double().sum())
    return Loss(*(sums / max(1, len(examples))).tolist())


def concept_quality(
    of: Moments, labels: Mapping[str, Tensor], held_out: Bool[Tensor, " groups"]
) -> dict[str, ConceptQuality]:
    """Best feature and k-sparse probes for each concept, chosen on groups not held out, scored on those that are.

    A feature's value for a group is its largest activation over the tokens. Probe features have the largest
    standardised mean difference (SAEBench's sparse probing, standardised). Raises ValueError when a side has no
    example with or without a concept.
    """
    names = list(labels)
    truth = torch.stack([labels[name].bool() for name in names], 1)
    train = ~held_out
    for side, where in (("train", train), ("held-out", held_out)):
        for name, count in zip(names, truth[where].sum(0).tolist(), strict=True):
            if not 0 < count < int(where.sum()):
                total = int(where.sum())
                raise ValueError(
                    f"{name!r} is in {count} of {total} {side} groups; some with it and some without are needed."
                )
    values = of.max.float()
    on_train = auroc(values[train], truth[train])
    result = {}
    for place, name in enumerate(names):
        best = int(on_train[place].argmax())
        alone = float(auroc(values[held_out][:, [best]], truth[held_out][:, [place]]))
        probes = {k: _probe(values, truth[:, place], train, k) for k in SPARSE}
        result[name] = ConceptQuality(best, alone, probes, int(truth[held_out][:, place].sum()))
    return result


def auroc(values: Float[Tensor, "n f"], labels: Bool[Tensor, "n c"]) -> Float[Tensor, "c f"]:
    """Chance that a random positive has a larger value than a random negative (ties count half), for all c and f.

    The Mann-Whitney statistic from mid-ranks: `(R_+ - n_+ (n_+ + 1) / 2) / (n_+ n_-)`.
    """
    positives = labels.double().sum(0)
    negatives = len(labels) - positives
    result = torch.empty(labels.shape[1], values.shape[1])
    for features in torch.arange(values.shape[1]).split(max(1, CELLS // max(1, 4 * len(values)))):
        columns = values[:, features].T.contiguous()
        ordered = columns.sort(1).values
        ranks = (
            torch.searchsorted(ordered, columns) + torch.searchsorted(ordered, columns, right=True) + 1
        ).double() / 2
        rank_sum = labels.double().T @ ranks.T
        u = rank_sum - (positives * (positives + 1) / 2)[:, None]
        result[:, features] = (u / (positives * negatives)[:, None]).float()
    return result


def _probe(values: Tensor, truth: Tensor, train: Tensor, k: int) -> float:
    from sklearn.linear_model import LogisticRegression

    scale, y = values[train].std(0), truth[train]
    # The floor keeps a feature that is (nearly) constant on these groups near 0 after centring.
    x = (values - values[train].mean(0)) / (scale + 1e-3 * scale.mean() + 1e-12)
    gap = (x[train][y].mean(0) - x[train][~y].mean(0)).abs()
    x = x[:, gap.topk(min(k, values.shape[1])).indices]
    probe = LogisticRegression(max_iter=1000, class_weight="balanced").fit(x[train].numpy(), y.numpy())
    held = torch.from_numpy(probe.decision_function(x[~train].numpy()))
    return float(auroc(held[:, None].float(), truth[~train][:, None]))
