"""Sparse dictionaries: harvest a site, train, judge, and rank features for a concept. All of it hands back data."""

from saes.attribution import Moments, moments, rank, score, stability
from saes.causal import attribute, causal_rerank
from saes.dictionary import SaeDictionary
from saes.harvest import harvest
from saes.pretrained import load_pretrained
from saes.quality import Quality, quality
from saes.store import ActivationStore, Cancelled
from saes.train import TrainSettings, train

__all__ = [
    "ActivationStore",
    "Cancelled",
    "Moments",
    "Quality",
    "SaeDictionary",
    "TrainSettings",
    "attribute",
    "causal_rerank",
    "harvest",
    "load_pretrained",
    "moments",
    "quality",
    "rank",
    "score",
    "stability",
    "train",
]
