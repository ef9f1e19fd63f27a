"""Where concepts of the world are, by every instrument, on the same pictures; and whether that means anything."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from analysis.lens import first_token, said, unembedding
from analysis.localise import (
    COVERED,
    Located,
    away,
    concept_probe,
    feature_map,
    hit,
    located,
    probe_map,
    trace_maps,
    validity,
)
from analysis.scenes import read_scenes, slot
from analysis.sweep import Cell, Reading, read
from app.dictionaries import Progress, stage
from app.world_concepts import FAMILIES, ask, find
from concept_forget.evaluation.metrics import over_concepts
from concept_forget.model import HookedModel
from concept_forget.sites import Site
from concept_forget.worlds import Scene, sample
from saes import SaeDictionary, moments, rank
from saes.attribution import Moments
from saes.harvest import harvest

INSTRUMENTS = ("features", "probe", "trace", "lens")
TRAIN = (900, 300, 0)
"""Pictures that probes and features are fitted on, and that penalties are chosen on."""
STRENGTH = 2.0
"""Length of the push of the validity test, in distances between the concept's patches and others."""


def localise(
    model: HookedModel,
    names: Sequence[str],
    dictionary: SaeDictionary,
    *,
    pictures: int = 16,
    test_validity: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Located]:
    """Every concept by every instrument at the dictionary's site, on test pictures that show it."""
    site, found = dictionary.site, []
    names = [find(name) for name in names]
    reading = read(model, [site], TRAIN, seed=seed, progress=progress)
    examples = ask(sample("train", TRAIN[0], 10_000 * seed + 80), seed)
    of = moments(dictionary, harvest(model, examples, site, progress=stage(progress, f"reading {site}")))
    for number, name in enumerate(names):
        scenes = sample("test", pictures, 10_000 * seed + 90, having=name)
        maps, cover, grid = maps_of(model, name, scenes, dictionary, reading, of, seed)
        result = located(name, site, maps, cover, grid, seed)
        if test_validity:
            push = STRENGTH * away(reading, name, site)
            for instrument in maps:
                result.validity[instrument] = validity(model, scenes, name, site, maps[instrument], push, seed=seed)
        found.append(result)
        if progress:
            progress("locating", number + 1, len(names))
    return found


def maps_of(
    model: HookedModel,
    concept: str,
    scenes: Sequence[Scene],
    dictionary: SaeDictionary,
    reading: Reading,
    of: Moments,
    seed: int = 0,
) -> tuple[dict[str, Tensor], Tensor, tuple[int, int]]:
    """One value per picture and patch for each instrument, the concept's cover, and the grid."""
    site = dictionary.site
    layers = [s for s in model.sites() if s.tower == "text" and s.stream == "resid"]
    x, text, cover = patches(model, scenes, [site, *layers], concept)
    features = rank(of, of.split_by_label(concept, FAMILIES), "contrast", 32)
    maps = {
        "features": feature_map(features, x[site]),
        "probe": probe_map(concept_probe(reading, concept, site), x[site]),
    }
    if site.tower == "vision":
        maps["trace"] = trace_maps(model, scenes, concept, [site], seed)[site]
    if text:
        maps["lens"] = lens_map(model, concept, x, layers, seed)
    layout = model.layout
    return maps, cover, (layout.rows, layout.columns)


def patches(
    model: HookedModel, scenes: Sequence[Scene], sites: Sequence[Site], concept: str
) -> tuple[dict[Site, Tensor], bool, Tensor]:
    """Activations [n, p, d] at sites, whether text sites have a position per patch, and the concept's cover."""
    parts = list(read_scenes(model, scenes, sites))
    there = list(parts[0].patches)
    x = {site: torch.cat([part.patches[site] for part in parts]) for site in there}
    return x, any(s.tower == "text" for s in there), torch.cat([part.cover[slot(concept)] for part in parts])


def lens_map(model: HookedModel, concept: str, x: dict[Site, Tensor], layers: Sequence[Site], seed: int) -> Tensor:
    """log p of the concept's word at every patch, at the layer that hits the mask best on validation pictures."""
    norm, head = unembedding(model)
    word = first_token(model, concept)

    @torch.no_grad()
    def log_p(values: Tensor) -> Tensor:
        return said(model, values.to(model.dtype), norm, head).log_softmax(-1)[..., word].cpu()

    checked = sample("validation", 8, 10_000 * seed + 91, having=concept)
    seen, _, cover = patches(model, checked, layers, concept)
    best = max(layers, key=lambda site: hit(log_p(seen[site]), cover > COVERED).auroc.value)
    return log_p(x[best])


def summary(found: Sequence[Located]) -> dict[str, Any]:
    """Mean over concepts with intervals over concepts, for each instrument."""
    rows = {}
    for name in INSTRUMENTS:
        some = [one for one in found if name in one.hits]
        if not some:
            continue
        row = {
            "auroc": over_concepts([one.hits[name].auroc.value for one in some]).to_json(),
            "iou": over_concepts([one.hits[name].iou.value for one in some]).to_json(),
        }
        if all(name in one.validity for one in some):
            for part in ("located", "random", "anti", "gap"):
                row[part] = over_concepts([getattr(one.validity[name], part).value for one in some]).to_json()
        rows[name] = row
    return rows


def markdown(found: Sequence[Located]) -> str:
    """The table of concepts x instruments: AUROC [interval] / IoU, and the gap of the validity test."""
    names = [name for name in INSTRUMENTS if any(name in one.hits for one in found)]
    lines = ["| family | concept | " + " | ".join(f"{n} AUROC | IoU | gap" for n in names) + " | conflicts |"]
    lines.append("|---|---|" + "---:|" * (3 * len(names)) + "---|")
    for one in found:
        cells = []
        for name in names:
            found_hit, tested = one.hits.get(name), one.validity.get(name)
            auroc, iou = (found_hit.auroc, found_hit.iou) if found_hit else (None, None)
            cells += [str(auroc or "-"), f"{iou.value:.2f}" if iou else "-", str(tested.gap) if tested else "-"]
        conflicts = ", ".join(f"{a.one}/{a.other}" for a in one.conflicts) or "none"
        lines.append(f"| {FAMILIES[one.concept]} | {one.concept} | " + " | ".join(cells) + f" | {conflicts} |")
    return "\n".join(lines)


def probe_summary(cells: Sequence[Cell], floor: Sequence[Cell] = ()) -> list[dict[str, Any]]:
    """Mean over concepts with intervals over concepts, for each site and kind of tokens."""
    rows = []
    for site, kind in dict.fromkeys((cell.site, cell.kind) for cell in cells):
        mine, bare = ([c for c in some if (c.site, c.kind) == (site, kind)] for some in (cells, floor))
        parts = {
            "auroc": over_concepts([c.auroc.value for c in mine]),
            "balanced": over_concepts([c.balanced.value for c in mine]),
            "shuffled": over_concepts([c.shuffled for c in mine]),
            "mass_mean": over_concepts([c.mass_mean for c in mine]),
            "ece": over_concepts([c.ece for c in mine]),
            "random": over_concepts([c.auroc.value for c in bare]),
        }
        rows.append({"site": str(site), "kind": kind, **{name: part.to_json() for name, part in parts.items()}})
    return rows


def untrained(model: HookedModel, seed: int = 0) -> HookedModel:
    """The same architecture with freshly drawn weights: what a probe reads of a model that has learned nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(model.model)(copy.deepcopy(model.model.config)).to(model.device, model.dtype)
    return HookedModel(fresh, model.processor, f"{model.name} (random weights)")
