"""Causal tracing: where in a model, and at which words or patches, the answer is decided."""

from analysis.tracing.attribution import Missed, Preview, Verified, preview
from analysis.tracing.case import Case, ConceptNotShown, from_example, scene_case, world_cases
from analysis.tracing.corruption import (
    CORRUPTIONS,
    Box,
    Corruption,
    GaussianNoise,
    MinimalPair,
    TokenReplacement,
)
from analysis.tracing.groups import GROUPS
from analysis.tracing.replay import STREAMS, CannotReplay
from analysis.tracing.result import Cost, Place, PromptTrace, Trace
from analysis.tracing.setup import Cancelled
from analysis.tracing.trace import trace
from analysis.tracing.words import SubjectNotFound

__all__ = [
    "CORRUPTIONS",
    "GROUPS",
    "STREAMS",
    "Box",
    "CannotReplay",
    "Cancelled",
    "Case",
    "ConceptNotShown",
    "Corruption",
    "Cost",
    "GaussianNoise",
    "MinimalPair",
    "Missed",
    "Place",
    "Preview",
    "PromptTrace",
    "SubjectNotFound",
    "TokenReplacement",
    "Trace",
    "Verified",
    "from_example",
    "preview",
    "scene_case",
    "trace",
    "world_cases",
]
