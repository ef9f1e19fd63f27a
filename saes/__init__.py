"""Sparse dictionaries: harvest a site, train, judge, and rank features for a concept. All of it hands back data."""

from saes.attribution import Moments, moments, rank
from saes.causal import causal_rerank
from saes.dictionary import SaeDictionary
from saes.pretrained import load_pretrained
from saes.quality import Quality
from saes.store import ActivationStore, Cancelled
from saes.train import TrainSettings

# harvest(), train() and quality() are named like their files and would hide them here: from saes.train import train.
__all__ = [
    "ActivationStore",
    "Cancelled",
    "Moments",
    "Quality",
    "SaeDictionary",
    "TrainSettings",
    "causal_rerank",
    "load_pretrained",
    "moments",
    "rank",
]
