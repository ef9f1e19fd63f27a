"""A text world whose truth is known: fictional people and places, what is so of them, and every way to ask."""

from concept_forget.worlds.text.corpus import Corpus, Turn, texts
from concept_forget.worlds.text.passages import Passage, passages
from concept_forget.worlds.text.people import (
    ATTRIBUTES,
    Fact,
    Subject,
    find,
    members,
    strangers,
    subjects,
    targets,
)
from concept_forget.worlds.text.phrasings import UNKNOWN
from concept_forget.worlds.text.probes import ADVERSARIAL, Probe
from concept_forget.worlds.text.request import concept
from concept_forget.worlds.text.sets import (
    DISTANCES,
    adversarial,
    cloze,
    facts_of,
    neighbours,
    questions,
    rwku,
    utility,
)
from concept_forget.worlds.text.skills import TASKS, Task, skill

__all__ = [
    "ADVERSARIAL",
    "ATTRIBUTES",
    "DISTANCES",
    "TASKS",
    "UNKNOWN",
    "Corpus",
    "Fact",
    "Passage",
    "Probe",
    "Subject",
    "Task",
    "Turn",
    "adversarial",
    "cloze",
    "concept",
    "facts_of",
    "find",
    "members",
    "neighbours",
    "passages",
    "questions",
    "rwku",
    "skill",
    "strangers",
    "subjects",
    "targets",
    "texts",
    "utility",
]
