"""Methods: one way to remove a concept per file."""

from concept_forget.methods.ablation import Ablation
from concept_forget.methods.base import Method
from concept_forget.methods.blur import Blur
from concept_forget.methods.clamp import Clamp
from concept_forget.methods.diff_means import DiffMeans
from concept_forget.methods.dsg import Dsg
from concept_forget.methods.gated_clamp import GatedClamp
from concept_forget.methods.guard import Guard
from concept_forget.methods.icu import Icu
from concept_forget.methods.leace import Leace
from concept_forget.methods.none import Nothing
from concept_forget.methods.patch_clamp import PatchClamp
from concept_forget.methods.prompt import Prompt
from concept_forget.methods.random_features import RandomFeatures
from concept_forget.methods.replace_patch import ReplacePatch
from concept_forget.methods.residual_clamp import ResidualClamp
from concept_forget.methods.sauce import Sauce
from concept_forget.methods.steer import Steer
from concept_forget.methods.training import TRAINING

METHODS: dict[str, type[Method]] = {
    Nothing.name: Nothing,
    Prompt.name: Prompt,
    RandomFeatures.name: RandomFeatures,
    Sauce.name: Sauce,
    Clamp.name: Clamp,
    GatedClamp.name: GatedClamp,
    PatchClamp.name: PatchClamp,
    DiffMeans.name: DiffMeans,
    Leace.name: Leace,
    ResidualClamp.name: ResidualClamp,
    ReplacePatch.name: ReplacePatch,
    Ablation.name: Ablation,
    Steer.name: Steer,
    Blur.name: Blur,
    Dsg.name: Dsg,
    Icu.name: Icu,
    Guard.name: Guard,
    **TRAINING,
}
"""Every method by name; a new one is a file like its siblings and a line here."""

__all__ = [
    "METHODS",
    "Ablation",
    "Blur",
    "Clamp",
    "DiffMeans",
    "Dsg",
    "GatedClamp",
    "Guard",
    "Icu",
    "Leace",
    "Method",
    "Nothing",
    "PatchClamp",
    "Prompt",
    "RandomFeatures",
    "ReplacePatch",
    "ResidualClamp",
    "Sauce",
    "Steer",
]
