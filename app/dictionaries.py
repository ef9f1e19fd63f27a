"""Dictionaries and the features in them: given, shipped, cached or trained now; ranked for a concept."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from app.own_concept import read_items
from app.world_concepts import ask
from concept_forget import zoo
from concept_forget.concepts import Concept, Example
from concept_forget.directions import FeatureSet
from concept_forget.model import HookedModel
from concept_forget.sites import Site
from concept_forget.worlds import sample, text
from saes import SaeDictionary, TrainSettings, causal_rerank, load_pretrained, moments, rank
from saes.attribution import Moments, Split, stability
from saes.causal import examples_of
from saes.harvest import fingerprint, harvest
from saes.train import train

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and how much there is."""

CACHE = "CONCEPT_FORGET_CACHE"
RANKED = 128
"""Features kept of a ranking."""
DEFAULT_RANKING = ("contrast",)
MEANS = ("forget_mean", "near_mean", "retain_mean")


def cache_folder() -> Path:
    """Where dictionaries trained on the way are kept: $CONCEPT_FORGET_CACHE, else the user's cache folder."""
    base = os.environ.get(CACHE) or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "concept-forget"
    return Path(base).expanduser()


def shipped_dictionary(model: HookedModel, site: Site) -> Path | None:
    """The dictionary that lies beside a model's weights (`sae/SITE`), if there is one."""
    folder = zoo.WEIGHTS / model.name if model.name in zoo.NAMES else Path(model.name)
    place = folder / "sae" / str(site)
    return place if (place / "cfg.json").is_file() else None


def dictionary_for(
    model: HookedModel,
    site: Site,
    examples: Sequence[Example] = (),
    given: str = "",
    settings: TrainSettings | None = None,
    progress: Progress | None = None,
) -> SaeDictionary:
    """The dictionary of a site: the one given (folder or SAELens release), else shipped, else cached, else trained now.

    `examples` are what a new one is trained on (default: pictures of the world). `settings` ask for one trained so.
    """
    if given:
        dictionary = _given(given, site)
        if dictionary.d_in != model.width(site):
            raise ValueError(
                f"The dictionary {given} reads {dictionary.d_in} numbers, {site} of {model.name} has "
                f"{model.width(site)}; it belongs to another model or site."
            )
        return dictionary
    shipped = shipped_dictionary(model, site)
    if shipped and settings is None:
        return SaeDictionary.load(shipped)
    settings = settings or TrainSettings()
    chosen = list(examples) or general_examples(model)
    names = sorted({example.group or example.prompt for example in chosen})
    key = hashlib.sha256(f"{fingerprint(model)} {site} {settings} {names}".encode()).hexdigest()[:20]
    folder = cache_folder() / "dictionaries" / key
    if (folder / "site.json").is_file():
        return SaeDictionary.load(folder)
    store = harvest(model, chosen, site, progress=stage(progress, f"reading {site}"))
    batch = min(settings.batch, len(store))
    settings = TrainSettings(**{**vars(settings), "batch": batch})
    dictionary = train(store, settings, progress=stage(progress, "training the dictionary"))
    dictionary.save(folder)
    return dictionary


def general_examples(model: HookedModel, count: int = 1500) -> list[Example]:
    """`count` pictures that show all of the world, or texts about everybody in it, for training a dictionary."""
    if not model.has_vision:
        turns = text.Corpus().items(2 * count, random.Random(99))
        return [
            Example(turn.prompt or turn.answer, "", None, "caption", group=f"text {i}") for i, turn in enumerate(turns)
        ]
    return list(ask(sample("train", count, 99), 0))


def examples_for(model: HookedModel, pictures: int, files: Sequence[Path]) -> list[Example]:
    """What to read a dictionary's training data from: the user's own pictures or texts, else the world's pictures."""
    if not files:
        return general_examples(model, pictures)
    items = [item for path in files for item in read_items(path)]
    return [
        Example(item.text or "Describe the picture.", "", item.image, "caption", group=item.group) for item in items
    ]


def feature_row(rows: Sequence[Mapping[str, float]], feature: int) -> dict[str, float]:
    """The entry of one feature in a ranking, with its rank. Raises LookupError when it is not ranked."""
    for place, row in enumerate(rows, 1):
        if int(row["index"]) == feature:
            return {**row, "rank": place}
    raise LookupError(f"Feature {feature} is not among the {len(rows)} best for this concept; try another --score.")


def rank_features(
    model: HookedModel,
    concept: Concept,
    dictionary: SaeDictionary,
    by: Sequence[str] = DEFAULT_RANKING,
    progress: Progress | None = None,
) -> tuple[dict[str, FeatureSet], float]:
    """The features that stand for a concept under each score, and how stable that is (mean Jaccard of bootstraps).

    `causal` reorders the 128 best of `contrast` by what they do to the answers.
    """
    examples = [*concept.train.forget, *concept.train.without]
    store = harvest(model, examples, dictionary.site, progress=stage(progress, "reading the training pictures"))
    return rankings(model, concept, moments(dictionary, store), None, by, progress)


def rankings(
    model: HookedModel,
    concept: Concept,
    of: Moments,
    split: Split | None,
    by: Sequence[str],
    progress: Progress | None = None,
) -> tuple[dict[str, FeatureSet], float]:
    """`rank_features` from moments that are there already."""
    split = split or of.split(concept.train)
    found: dict[str, FeatureSet] = {}
    for index, score in enumerate(by):
        if progress:
            progress("ranking the features", index, len(by))
        if score == "causal":
            found[score] = causal_rerank(model, rank(of, split, "contrast", RANKED), *examples_of(concept))
        else:
            found[score] = rank(of, split, score, RANKED)  # type: ignore[arg-type]
    return found, stability(of, split)


def ranking_to_json(features: FeatureSet) -> list[dict[str, float]]:
    """A ranking as plain values, best first: feature number, score, means."""
    columns = {name: getattr(features, name).tolist() for name in MEANS}
    return [
        {"index": int(index), "score": float(score), **{name: column[place] for name, column in columns.items()}}
        for place, (index, score) in enumerate(zip(features.indices, features.scores, strict=True))
    ]


def ranking_from_json(rows: Sequence[Mapping[str, float]], score: str, dictionary: SaeDictionary) -> FeatureSet:
    """The ranking that `ranking_to_json` wrote, with rows from the dictionary it was made with."""
    indices = torch.tensor([int(row["index"]) for row in rows])
    means = {name: torch.tensor([row[name] for row in rows]) for name in MEANS}
    scores = torch.tensor([row["score"] for row in rows])
    return FeatureSet(
        dictionary.site, indices, scores, dictionary.rows(indices), **means, score=score, dictionary=dictionary
    )


def _given(given: str, site: Site) -> SaeDictionary:
    if Path(given).is_dir():
        return SaeDictionary.load(given, site=None if (Path(given) / "site.json").is_file() else site)
    release, _, sae_id = given.partition(":")
    return load_pretrained(release, sae_id or None, site=site)


def stage(progress: Progress | None, name: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(name, done, total)
