"""A rendered picture world whose truth is known: sixty concepts, their pictures, masks, questions and captions."""

from concept_forget.worlds.questions import questions, texts
from concept_forget.worlds.scene import Scene, SceneSpec, pixels, render
from concept_forget.worlds.splits import combinations, sample, sample_specs
from concept_forget.worlds.vocabulary import FAMILIES, SUBJECT_FAMILIES, VOCABULARY, Word, members

__all__ = [
    "FAMILIES",
    "SUBJECT_FAMILIES",
    "VOCABULARY",
    "Scene",
    "SceneSpec",
    "Word",
    "combinations",
    "members",
    "pixels",
    "questions",
    "render",
    "sample",
    "sample_specs",
    "texts",
]
