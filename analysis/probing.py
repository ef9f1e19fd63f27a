"""Linear probes: is a concept linearly there at a site, before an edit, under it, and after learning the probe anew?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from analysis.logistic import Measure, Probe, class_draws, fit_probe, rates
from concept_forget.concepts import Concept, Example, ExampleSet, one_per_group
from concept_forget.evaluation.metrics import RESAMPLES, Measured, interval
from concept_forget.sites import Site

if TYPE_CHECKING:
    from concept_forget.edits.base import Edit
    from concept_forget.model import HookedModel

Pool = Literal["mean", "max"]


class ProbeData(NamedTuple):
    """Pictures (or texts), one per group, half of them with the concept, in three splits that share no group."""

    examples: tuple[Example, ...]
    labels: Bool[ndarray, " n"]
    """Whether the concept is shown."""
    control: Bool[ndarray, " n"]
    """The control task: a random label for every type (all else that is shown)."""
    split: ndarray
    """0 train, 1 validation, 2 test."""


@dataclass(frozen=True)
class ProbeResult:
    """One site. Three probes on the test split; only the retrained one says whether the knowledge is gone."""

    site: Site
    before: Measured
    """Balanced accuracy of the probe trained and tested without the edit."""
    after_frozen: Measured | None
    """That same probe on activations under the edit: sees any shift, proves nothing. None without edits."""
    after_retrained: Measured | None
    """A probe trained and tested under the edit: what can still be read. None without edits."""
    selectivity: Measured
    """Balanced accuracy before, minus that of a probe of the control task (Hewitt and Liang 2019)."""
    control: Measured
    chance: float = 0.5
    auroc: dict[str, Measured] = field(default_factory=dict)
    """The area under the ROC curve of the same probes: before, after_frozen, after_retrained."""
    accuracy: dict[str, Measured] = field(default_factory=dict)
    """Their plain accuracy."""
    C: float = 1.0
    """Penalty chosen on validation for the probe before."""

    def to_json(self) -> dict[str, Any]:
        """As it stands in results.json."""
        names = ("before", "after_frozen", "after_retrained", "selectivity", "control")
        parts: dict[str, Measured | None] = {name: getattr(self, name) for name in names}
        return {
            "site": str(self.site),
            **{name: None if part is None else part.to_json() for name, part in parts.items()},
            "chance": self.chance,
            "auroc": {name: part.to_json() for name, part in self.auroc.items()},
            "accuracy": {name: part.to_json() for name, part in self.accuracy.items()},
            "C": self.C,
        }


def probe(
    model: HookedModel,
    concept: Concept,
    sites: Sequence[Site],
    edits: Sequence[Edit] = (),
    *,
    data: ProbeData | None = None,
    bare: Mapping[Site, Float[Tensor, "n d"]] | None = None,
    pool: Pool = "mean",
    limit: int = 200,
    batch_size: int = 64,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[ProbeResult]:
    """Probe every site for the concept: before, frozen under the edits, retrained under the edits, control task.

    All sites are read in one pass without and one with the edits. `bare` are the features `gather` gave for the same
    `data` without edits, to share over methods. Raises ValueError when a split lacks one of the two classes.
    """
    data = probe_data(concept, limit, seed) if data is None else data
    before = gather(model, data.examples, sites, pool=pool, batch_size=batch_size) if bare is None else bare
    after = gather(model, data.examples, sites, edits, pool=pool, batch_size=batch_size) if edits else None
    return [
        compare_probes(
            site, _float(before[site]), None if after is None else _float(after[site]), data, resamples, seed
        )
        for site in sites
    ]


def probe_data(concept: Concept, limit: int = 200, seed: int = 0) -> ProbeData:
    """As many pictures with the concept as without, `limit` on train and half as many on validation and test.

    Half of those without are near (its family), as far as there are any. Raises ValueError when the splits share a
    group, or one has fewer than two pictures of a class.
    """
    rng = np.random.default_rng(seed)
    examples: list[Example] = []
    split: list[int] = []
    seen: dict[str, int] = {}
    for number, (name, part) in enumerate(zip(("train", "validation", "test"), _splits(concept), strict=True)):
        chosen = _balanced(concept, name, part, (limit if number == 0 else limit // 2) // 2, rng)
        for example in chosen:
            if example.group and seen.setdefault(example.group, number) != number:
                raise ValueError(
                    f"{example.group!r} is in two splits of {concept.name!r}; a probe would know it by heart."
                )
        examples += chosen
        split += [number] * len(chosen)
    labels = np.array([concept.name in example.shows for example in examples])
    return ProbeData(tuple(examples), labels, _control(examples, concept, rng), np.array(split))


def gather(
    model: HookedModel,
    examples: Sequence[Example],
    sites: Sequence[Site],
    edits: Sequence[Edit] = (),
    *,
    pool: Pool = "mean",
    batch_size: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> dict[Site, Float[Tensor, "n d"]]:
    """One vector per example and site, all sites in one pass that stops at the last of them.

    Vision and projector sites: mean (or max) over the patches. Text sites: the last text token, after one and the same
    question for every picture, so that the question cannot give the answer away; without pictures the text itself.
    """
    found: dict[Site, list[Tensor]] = {site: [] for site in sites}
    question = next((e.prompt for e in examples if e.kind == "caption"), "Describe the picture.")
    done = 0
    pictures = [row for row, example in enumerate(examples) if example.image is not None]
    texts = [row for row, example in enumerate(examples) if example.image is None]
    texts.sort(key=lambda row: len(examples[row].prompt))
    parts = [pile[k : k + batch_size] for pile in (pictures, texts) for k in range(0, len(pile), batch_size)]
    for rows in parts:
        chosen = [examples[row] for row in rows]
        images = [example.image for example in chosen if example.image is not None]
        prompts = [question if images else example.prompt for example in chosen]
        batch = model.prepare(prompts, images or None, edits=edits)
        run = model.run(batch, read=sites, edits=edits, logits=None)
        for site in sites:
            found[site].append(_pooled(run.activations[site], site, run.tokens, pool).float().cpu())
        if progress:
            progress(done := done + len(chosen), len(examples))
    back = torch.tensor(pictures + texts).argsort()
    return {site: torch.cat(vectors)[back] for site, vectors in found.items()}


def compare_probes(
    site: Site,
    before: Float[ndarray, "n d"],
    after: Float[ndarray, "n d"] | None,
    data: ProbeData,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> ProbeResult:
    """The probes of one site on features before and (unless None) under an edit."""
    train, validation, test = (data.split == number for number in range(3))

    def trained(x: ndarray, y: ndarray) -> Probe:
        return fit_probe(x[train], y[train], x[validation], y[validation])

    known = trained(before, data.labels)
    scores = {"before": known.score(before[test])}
    if after is not None:
        scores["after_frozen"] = known.score(after[test])
        scores["after_retrained"] = trained(after, data.labels).score(after[test])
    y, wrong = data.labels[test], data.control[test]
    draws = class_draws(y, resamples, seed)
    by = {
        kind: {k: _measured(s, y, draws, kind) for k, s in scores.items()} for kind in ("balanced", "auroc", "accuracy")
    }
    guess = trained(before, data.control).score(before[test])
    task, control = rates(scores["before"], y, draws, "balanced"), rates(guess, wrong, draws, "balanced")
    return ProbeResult(
        site=site,
        before=by["balanced"]["before"],
        after_frozen=by["balanced"].get("after_frozen"),
        after_retrained=by["balanced"].get("after_retrained"),
        selectivity=interval(float(task[0] - control[0]), task[1:] - control[1:], int(test.sum())),
        control=interval(float(control[0]), control[1:], int(test.sum())),
        auroc=by["auroc"],
        accuracy=by["accuracy"],
        C=known.C,
    )


def _measured(scores: ndarray, y: ndarray, draws: ndarray, measure: Measure) -> Measured:
    values = rates(scores, y, draws, measure)
    return interval(float(values[0]), values[1:], len(y))


def _float(x: Tensor) -> ndarray:
    return x.detach().cpu().double().numpy()


def _splits(concept: Concept) -> tuple[ExampleSet, ExampleSet, ExampleSet]:
    return concept.train, concept.validation, concept.test


def _balanced(concept: Concept, name: str, part: ExampleSet, each: int, rng: np.random.Generator) -> list[Example]:
    forget, near, retain = (one_per_group(examples) for examples in part)
    shuffled = [[pile[k] for k in rng.permutation(len(pile))] for pile in (forget, near, retain)]
    each = min(each, len(forget), len(near) + len(retain))
    if each < 2:
        raise ValueError(
            f"probe: the {name} split of {concept.name!r} has {len(forget)} pictures (texts) with it and "
            f"{len(near) + len(retain)} without; give at least 2 of both."
        )
    hard = max(min(each // 2, len(near)), each - len(retain))
    return shuffled[0][:each] + shuffled[1][:hard] + shuffled[2][: each - hard]


def _control(examples: Sequence[Example], concept: Concept, rng: np.random.Generator) -> Bool[ndarray, " n"]:
    """A random label per type, half of the types each way. A type is all else that is shown, else the group itself.

    One other concept alone would be no control: it can be read off linearly, and so could any label fixed to it.
    """
    types = [
        tuple(sorted(example.shows - {concept.name})) or (example.group or f"#{row}",)
        for row, example in enumerate(examples)
    ]
    names = sorted(set(types))
    label = dict(zip((names[k] for k in rng.permutation(len(names))), np.arange(len(names)) % 2 == 0, strict=True))
    return np.array([label[kind] for kind in types])


def _pooled(x: Float[Tensor, "b t d"], site: Site, tokens: Any, pool: Pool) -> Float[Tensor, "b d"]:
    if site.tower == "text":
        return x[torch.arange(len(x), device=x.device), tokens.last.to(x.device)]
    places, real = tokens.patches(site).to(x.device), tokens.eligible(site)
    patches = x[:, places].float()
    # a picture with fewer tiles than another of its batch has places that show nothing
    real = torch.ones_like(patches[..., :1], dtype=torch.bool) if real is None else real.to(x.device)[:, places, None]
    if pool == "max":
        return patches.masked_fill(~real, -torch.inf).amax(1)
    return (patches * real).sum(1) / real.sum(1)
