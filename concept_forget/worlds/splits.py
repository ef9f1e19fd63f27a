"""Which combinations of subject, colour and material are for training, and chance scenes of a split."""

import random
from functools import cache, lru_cache
from typing import Literal

from concept_forget.worlds.scene import Scene, SceneSpec
from concept_forget.worlds.vocabulary import FAMILIES, SUBJECT_FAMILIES, VOCABULARY, members

Split = Literal["train", "validation", "test"]
Combination = tuple[str, str, str]
"""Subject, colour, material."""

_SPLITS: tuple[Split, ...] = ("train", "validation", "test")
_SEEDS = 1_000_000


@cache
def combinations(split: Split) -> tuple[Combination, ...]:
    """The combinations of a split: whole ones are held out (79 / 8 / 13 %), no pair of concepts ever is.

    For each subject the 144 pairs of colour and material form a shuffled Latin square of 12 symbols. One symbol is the
    validation set, one and a half are the test set; each symbol has every colour and every material once.
    """
    if split not in _SPLITS:
        raise ValueError(f"no split {split!r}; the splits are {', '.join(_SPLITS)}")
    subjects = [name for family in SUBJECT_FAMILIES for name in members(family)]
    found = []
    for i, subject in enumerate(subjects):
        rng = random.Random(i)
        row, column = rng.sample(range(12), 12), rng.sample(range(12), 12)
        for j, colour in enumerate(members("colour")):
            for k, material in enumerate(members("material")):
                symbol = (row[j] + column[k]) % 12
                held = symbol == 1 or (symbol == 2 and (i + j) % 2 == 0)
                place = "validation" if symbol == 0 else "test" if held else "train"
                if place == split:
                    found.append((subject, colour, material))
    return tuple(found)


def sample_specs(
    split: Split,
    n: int,
    seed: int,
    having: str | None = None,
    without: str | None = None,
    family: str | None = None,
) -> list[SceneSpec]:
    """`n` chance scenes that are not drawn yet, balanced over the concepts; the arguments are those of `sample`."""
    for name in (having, without):
        if name is not None and name not in VOCABULARY:
            raise LookupError(f"no concept {name!r}; the concepts are {', '.join(list(VOCABULARY)[:6])}, ...")
    if family is not None and family not in FAMILIES:
        raise LookupError(f"no family {family!r}; the families are {', '.join(FAMILIES)}")
    by_subject = _by_subject(split, having, without, family)
    if not by_subject:
        raise ValueError(
            f"no combination of {split} has {having!r}, lacks {without!r} and shows a {family or 'concept'}; "
            "drop one of the three wishes"
        )
    rng = random.Random(seed)
    count = dict.fromkeys(VOCABULARY, 0)
    specs = []
    while len(specs) < n:
        for subject in rng.sample(list(by_subject), len(by_subject))[: n - len(specs)]:
            choices = by_subject[subject]
            # the rarest of a few keeps colours and materials level without a scan of all
            few = [choices[int(rng.random() * len(choices))] for _ in range(8)]
            chosen = min(few, key=lambda c: count[c[1]] + count[c[2]])
            count[chosen[1]] += 1
            count[chosen[2]] += 1
            specs.append(SceneSpec(*chosen, seed=rng.randrange(_SEEDS)))
    return specs


def sample(
    split: Split,
    n: int,
    seed: int,
    having: str | None = None,
    without: str | None = None,
    family: str | None = None,
) -> list[Scene]:
    """`n` chance scenes of a split, balanced over the concepts and drawn when first looked at.

    Args:
        having: a concept that every scene shows.
        without: a concept that no scene shows.
        family: every scene shows a concept of this family.
    """
    return [Scene(spec) for spec in sample_specs(split, n, seed, having, without, family)]


@lru_cache(maxsize=256)
def _by_subject(
    split: Split, having: str | None, without: str | None, family: str | None
) -> dict[str, list[Combination]]:
    groups: dict[str, list[Combination]] = {}
    for combination in combinations(split):
        fits = (having is None or having in combination) and without not in combination
        if fits and (family not in SUBJECT_FAMILIES or VOCABULARY[combination[0]].family == family):
            groups.setdefault(combination[0], []).append(combination)
    return groups
