"""Do the instruments agree on where a concept is, do they hit its true place, and does editing there matter?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from analysis.lens import first_token
from analysis.logistic import Probe
from analysis.scenes import labels, slot
from analysis.sweep import Reading, fitted
from analysis.tracing import MinimalPair, preview, scene_case
from concept_forget.directions import FeatureSet, Localisation
from concept_forget.edits.base import SiteEdit
from concept_forget.evaluation.metrics import RESAMPLES, Measured, draw_groups, interval
from concept_forget.sites import Site
from concept_forget.worlds import Scene

if TYPE_CHECKING:
    from concept_forget.model import HookedModel

COVERED = 0.5
"""A patch belongs to the concept when the mask covers more of it than this."""
PERMUTATIONS = 1000
Progress = Callable[[str, int, int], None]
Maps = Mapping[str, Float[Tensor, "n p"]]
"""One value per picture and patch for each instrument."""


class Agreement(NamedTuple):
    """How far two instruments agree on where in a picture a concept is."""

    one: str
    other: str
    correlation: Measured
    """Spearman over the patches of a picture, mean over pictures."""
    iou: Measured
    """Overlap of the top patches of both, mean over pictures."""
    p: float
    """Share of wrong pairings (one picture's map with another picture's) that correlate as well: 1 where the
    agreement is no more than a habit such as looking at the middle."""

    @property
    def conflict(self) -> bool:
        """Whether they contradict each other, or agree no better than on different pictures."""
        return not self.correlation.value > 0 or self.p > 0.05

    def to_json(self) -> dict[str, Any]:
        numbers = {"correlation": self.correlation.to_json(), "iou": self.iou.to_json(), "p": self.p}
        return {"one": self.one, "other": self.other, **numbers, "conflict": self.conflict}


class Hit(NamedTuple):
    """How well a map hits the concept's mask."""

    auroc: Measured
    """Chance that a patch of the concept has a larger value than one that is not, mean over pictures."""
    iou: Measured
    """Overlap of the mask and as many top patches, mean over pictures."""

    def to_json(self) -> dict[str, Any]:
        return {name: part.to_json() for name, part in self._asdict().items()}


class Validity(NamedTuple):
    """The fall of the answer's log-probability under one change, spent on different patches."""

    located: Measured
    random: Measured
    anti: Measured
    """On the patches that the map ranks last."""
    gap: Measured
    """located - random, paired: above 0 if the map means anything."""
    budget: float
    """|delta| of the whole edit, the same for all three."""

    def to_json(self) -> dict[str, Any]:
        return {k: v.to_json() if isinstance(v, Measured) else v for k, v in self._asdict().items()}


@dataclass(frozen=True)
class Located:
    """What every instrument says about one concept."""

    concept: str
    site: Site
    hits: dict[str, Hit]
    agreements: tuple[Agreement, ...]
    validity: dict[str, Validity] = field(default_factory=dict)
    grids: dict[str, Localisation] = field(default_factory=dict, compare=False, repr=False)
    """Mean map over the pictures."""

    @property
    def conflicts(self) -> tuple[Agreement, ...]:
        return tuple(agreement for agreement in self.agreements if agreement.conflict)

    def to_json(self) -> dict[str, Any]:
        return {
            "concept": self.concept,
            "site": str(self.site),
            "hits": {name: hit.to_json() for name, hit in self.hits.items()},
            "agreements": [agreement.to_json() for agreement in self.agreements],
            "validity": {name: validity.to_json() for name, validity in self.validity.items()},
        }


def probe_map(probe: Probe, x: Float[Tensor, "n p d"]) -> Float[Tensor, "n p"]:
    """The score of a probe, trained on means over patches, on each patch alone."""
    return torch.from_numpy(probe.score(x.double().numpy().reshape(-1, x.shape[-1]))).float().view(x.shape[:2])


def feature_map(features: FeatureSet, x: Float[Tensor, "n p d"], k: int = 8) -> Float[Tensor, "n p"]:
    """Activation of the k best features, each weighted by its score over its own mean where the concept is shown."""
    best = features.top(min(k, len(features.indices)))
    weight = best.scores.clamp_min(0) / best.forget_mean.clamp_min(1e-6)
    return best.rows.encode(x.to(best.rows.bias.dtype)).cpu() @ weight.cpu()


def trace_maps(
    model: HookedModel, scenes: Sequence[Scene], concept: str, sites: Sequence[Site], seed: int = 0
) -> dict[Site, Float[Tensor, "n p"]]:
    """|Effect| of each patch on the answer by attribution patching against a minimal pair; NaN where not traced.

    One forward and backward pass per picture gives every layer of the tower (see `analysis.tracing.preview`). Raises
    ValueError when the model answers none of the pictures rightly.
    """
    cases = [scene_case(scene, concept, seed=seed) for scene in scenes]
    found = preview(model, cases, MinimalPair(), streams=("resid",), tower="vision", verify=1, sample=1).trace
    effects = {prompt.group: prompt.effects[0].abs() for prompt in found.prompts}
    size = found.prompts[0].effects.shape[2]
    missing = torch.full((found.values.shape[1], size), torch.nan)
    stack = torch.stack([effects.get(scene.id, missing) for scene in scenes], 1)
    return {site: stack[site.layer] for site in sites if site.tower == "vision" and site.stream == "resid"}


def agreement(one: str, other: str, maps: Maps, share: float = 0.2, seed: int = 0) -> Agreement:
    """Rank correlation, overlap of the top `share` of patches and permutation p-value of two instruments."""
    a, b = (maps[name] for name in (one, other))
    keep = ~(a.isnan().any(1) | b.isnan().any(1))
    if int(keep.sum()) < 2:
        raise ValueError(f"{one} and {other} have {int(keep.sum())} pictures in common; at least 2 are compared.")
    x, y = (_ranked(part[keep]) for part in (a, b))
    all_pairs = (x @ y.T).numpy()
    own = np.diag(all_pairs)
    k = max(1, round(share * a.shape[1]))
    tops = [torch.zeros_like(part[keep]).scatter(1, part[keep].topk(k, 1).indices, 1.0) for part in (a, b)]
    both = (tops[0] * tops[1]).sum(1)
    rng = np.random.default_rng(seed)
    n = len(own)
    order = np.arange(n)
    chance = np.array([all_pairs[order, _deranged(order, rng)].mean() for _ in range(PERMUTATIONS)])
    p = float((1 + (chance >= own.mean()).sum()) / (1 + PERMUTATIONS))
    return Agreement(one, other, over_pictures(own), over_pictures((both / (2 * k - both)).numpy()), p)


def hit(values: Float[Tensor, "n p"], mask: Bool[Tensor, "n p"]) -> Hit:
    """AUROC and IoU of a map against the truth. Pictures without values or with an empty or full mask are left out."""
    keep = ~values.isnan().any(1) & mask.any(1) & ~mask.all(1)
    values, mask = values[keep], mask[keep]
    yes, no = mask.sum(1), (~mask).sum(1)
    order = values[:, :, None] - values[:, None, :]
    wins = (order > 0).float() + 0.5 * (order == 0).float()
    area = (wins * mask[:, :, None] * ~mask[:, None, :]).sum((1, 2)) / (yes * no)
    place = values.argsort(1, descending=True).argsort(1)
    both = ((place < yes[:, None]) & mask).sum(1)
    return Hit(over_pictures(area.numpy()), over_pictures((both / (2 * yes - both)).numpy()))


def over_pictures(values: Float[ndarray, " n"], seed: int = 0) -> Measured:
    """Mean over pictures with its bootstrap interval."""
    values = np.asarray(values, float)
    if not len(values):
        return Measured(np.nan, np.nan, np.nan, 0)
    draws = draw_groups((len(values),), RESAMPLES, seed) @ values / len(values)
    return interval(float(values.mean()), draws, len(values))


@dataclass(frozen=True, eq=False)
class PatchPush(SiteEdit):
    """Adds one vector to chosen positions of each row: x' = x + where * vector."""

    site: Site
    vector: Float[Tensor, " d"]
    where: Bool[Tensor, "b t"]
    gate: ClassVar[None] = None

    def transform(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return x + (self.where.to(x.device)[..., None] * self.vector.to(x.device)).to(x.dtype)


@torch.no_grad()
def validity(
    model: HookedModel,
    scenes: Sequence[Scene],
    concept: str,
    site: Site,
    values: Float[Tensor, "n p"],
    push: Float[Tensor, " d"],
    *,
    patches: int = 8,
    batch_size: int = 32,
    seed: int = 0,
) -> Validity:
    """Push `patches` patches of each picture by the same vector: those the map ranks first, random ones, those last.

    The fall is that of log p(answer) to the question for the concept. `push` points away from the concept.
    """
    rng = torch.Generator().manual_seed(seed)
    keep = (~values.isnan().any(1)).nonzero()[:, 0].tolist()
    scenes, values = [scenes[i] for i in keep], values[keep]
    order = values.argsort(1, descending=True)
    shuffled = torch.rand(values.shape, generator=rng).argsort(1)
    chosen = {"located": order[:, :patches], "random": shuffled[:, :patches], "anti": order[:, -patches:]}
    word, falls = first_token(model, concept), {name: [] for name in chosen}
    cases = [scene_case(scene, concept, seed=seed) for scene in scenes]
    for start in range(0, len(cases), batch_size):
        some = cases[start : start + batch_size]
        batch = model.prepare([case.prompt for case in some], [case.image for case in some])
        length = model.run(batch, read=[site], logits=None).activations[site].shape[1]
        places = batch.tokens.image_mask[0].nonzero()[:, 0] if site.tower == "text" else batch.tokens.patches(site)
        bare = model.run(batch).logits.float().log_softmax(-1)[:, word].cpu()
        for name, index in chosen.items():
            where = torch.zeros(len(some), length, dtype=torch.bool)
            where.scatter_(1, places.cpu()[index[start : start + batch_size]], True)
            edited = model.run(batch, edits=[PatchPush(site, push, where)]).logits
            falls[name].append(bare - edited.float().log_softmax(-1)[:, word].cpu())
    fall = {name: torch.cat(parts).double().numpy() for name, parts in falls.items()}
    budget = float(push.norm()) * patches
    measured = {name: over_pictures(part) for name, part in fall.items()}
    return Validity(**measured, gap=over_pictures(fall["located"] - fall["random"]), budget=budget)


def concept_probe(reading: Reading, concept: str, site: Site) -> Probe:
    """The probe of means over patches that `probe_map` lays over pictures."""
    x, y = reading.pooled[site, "patch mean"], labels(reading.scenes, concept)
    train, validation = reading.split == 0, reading.split == 1
    return fitted(x[train], y[train], x[validation], y[validation])


def away(reading: Reading, concept: str, site: Site) -> Float[Tensor, " d"]:
    """From the mean of the concept's own patches to that of whatever else fills its slot, on train."""
    x, y, train = reading.pooled[site, slot(concept)], labels(reading.scenes, concept), reading.split == 0
    return torch.from_numpy(x[train & ~y].mean(0) - x[train & y].mean(0)).float()


def located(
    concept: str, site: Site, maps: Maps, cover: Float[Tensor, "n p"], grid: tuple[int, int], seed: int = 0
) -> Located:
    """Hits and agreements of all instruments on the same pictures."""
    mask = cover > COVERED
    names = tuple(f"patch {i // grid[1]},{i % grid[1]}" for i in range(grid[0] * grid[1]))
    return Located(
        concept,
        site,
        {name: hit(values, mask) for name, values in maps.items()},
        tuple(agreement(a, b, maps, seed=seed) for a, b in combinations(maps, 2)),
        grids={
            name: Localisation(values.nanmean(0, keepdim=True), (site,), names, name) for name, values in maps.items()
        },
    )


def _ranked(values: Float[Tensor, "n p"]) -> Float[Tensor, "n p"]:
    """Mid-ranks, centred and of unit length: the product of two rows is Spearman's correlation."""
    ordered = values.sort(1).values.contiguous()
    values = values.contiguous()
    rank = torch.searchsorted(ordered, values) + torch.searchsorted(ordered, values, right=True)
    rank = rank.double() - rank.double().mean(1, keepdim=True)
    return rank / rank.norm(dim=1, keepdim=True).clamp_min(1e-12)


def _deranged(order: ndarray, rng: np.random.Generator) -> ndarray:
    """A random pairing in which (nearly) no picture meets itself."""
    mixed = rng.permutation(order)
    same = mixed == order
    mixed[same] = np.roll(mixed[same], 1)
    return mixed
