"""Methods that train weights: one loop, and one loss per file."""

from concept_forget.methods.training.anchored import Anchored
from concept_forget.methods.training.base import TEMPLATES, WeightMethod
from concept_forget.methods.training.dpo import IdkPo
from concept_forget.methods.training.flat import DIVERGENCES, Flat
from concept_forget.methods.training.grad_diff import GradDiff
from concept_forget.methods.training.gradient_ascent import GradientAscent
from concept_forget.methods.training.kl import KlMinimisation
from concept_forget.methods.training.loop import DivergedError, watched
from concept_forget.methods.training.npo import Npo
from concept_forget.methods.training.random_label import RandomLabel, forget_gap, forget_ratio
from concept_forget.methods.training.rmu import Rmu
from concept_forget.methods.training.selective_amnesia import SelectiveAmnesia
from concept_forget.methods.training.simnpo import SimNpo
from concept_forget.methods.training.task_vector import TaskVector
from concept_forget.methods.training.undial import Undial

TRAINING: dict[str, type[WeightMethod]] = {
    GradientAscent.name: GradientAscent,
    GradDiff.name: GradDiff,
    KlMinimisation.name: KlMinimisation,
    IdkPo.name: IdkPo,
    Npo.name: Npo,
    SimNpo.name: SimNpo,
    Rmu.name: Rmu,
    Anchored.name: Anchored,
    Undial.name: Undial,
    Flat.name: Flat,
    SelectiveAmnesia.name: SelectiveAmnesia,
    RandomLabel.name: RandomLabel,
    TaskVector.name: TaskVector,
}
"""Every method that trains weights by name; a new one is a file like its siblings and a line here."""

__all__ = [
    "DIVERGENCES",
    "TEMPLATES",
    "TRAINING",
    "Anchored",
    "DivergedError",
    "Flat",
    "GradDiff",
    "GradientAscent",
    "IdkPo",
    "KlMinimisation",
    "Npo",
    "RandomLabel",
    "Rmu",
    "SelectiveAmnesia",
    "SimNpo",
    "TaskVector",
    "Undial",
    "WeightMethod",
    "forget_gap",
    "forget_ratio",
    "watched",
]
