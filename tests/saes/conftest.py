"""Planted activations: what a dictionary should find is known because it was put there."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch

from concept_forget.directions import FeatureRows
from concept_forget.sites import Site
from concept_forget.tokens import IMAGE
from saes.dictionary import SaeDictionary
from saes.store import ActivationStore, Rows

SITE = Site("vision", 2, "resid")


class Planted(NamedTuple):
    """Pictures whose rows are non-negative feature values themselves, and the dictionary that reads them off."""

    store: ActivationStore
    dictionary: SaeDictionary
    families: dict[str, str]
    z: torch.Tensor
    """[groups, tokens, f]"""


def in_memory(x: torch.Tensor, groups: torch.Tensor, shows: list[frozenset[str]], cut: int) -> ActivationStore:
    """A store of rows [n, d] in two shards, cut anywhere."""
    numbers = torch.arange(len(x), dtype=torch.int32)
    kinds = torch.full((len(x),), IMAGE, dtype=torch.uint8)
    parts = [Rows(x[s], groups[s].to(torch.int32), numbers[s], kinds[s]) for s in (slice(0, cut), slice(cut, None))]
    return ActivationStore(SITE, [f"picture {i}" for i in range(len(shows))], shows, parts)


def coordinates(d: int, site: Site = SITE) -> SaeDictionary:
    """Feature i is max(x_i, 0): exact on non-negative activations."""
    rows = FeatureRows(torch.eye(d), torch.zeros(d), torch.zeros(d), torch.eye(d))
    return SaeDictionary.from_rows(rows, torch.zeros(d), site)


@pytest.fixture(scope="session")
def identity() -> Callable[[int, Site], SaeDictionary]:
    """Makes 2 d features that give back any activation exactly: max(x_i, 0) and max(-x_i, 0)."""

    def make(d: int, site: Site = SITE) -> SaeDictionary:
        both, none = torch.cat([torch.eye(d), -torch.eye(d)]), torch.zeros(2 * d)
        return SaeDictionary.from_rows(FeatureRows(both, none, none, both), torch.zeros(d), site)

    return make


@pytest.fixture(scope="session")
def planted() -> Planted:
    """Six concepts in two families. Feature i < 6 is concept i; feature 6 fires, strongly, for the whole first family;
    feature 7 fires everywhere; the rest is noise."""
    generator = torch.Generator().manual_seed(0)
    names = [f"c{i}" for i in range(6)]
    families = {name: "first" if i < 3 else "second" for i, name in enumerate(names)}
    groups, tokens, width = 120, 8, 16
    z = torch.rand(groups, tokens, width, generator=generator) * 0.2
    z *= torch.rand(z.shape, generator=generator) < 0.2
    shows = []
    for group in range(groups):
        shown = [i for i in range(6) if torch.rand((), generator=generator) < 0.25]
        for i in shown:
            z[group, : 2 + i % 3, i] = 0.5 + torch.rand((), generator=generator)
        if any(i < 3 for i in shown):
            z[group, :, 6] = 3.0
        z[group, :, 7] = 2.0
        shows.append(frozenset(names[i] for i in shown))
    x = z.reshape(-1, width)
    store = in_memory(x, torch.arange(groups).repeat_interleave(tokens), shows, cut=403)
    return Planted(store, coordinates(width), families, z)
