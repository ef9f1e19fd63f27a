"""Published benchmarks of forgetting and of facts, read from a folder in their own formats and checked."""

from concept_forget.worlds.loaders.facts import CounterFact, KnownFact, load_counterfact, load_known
from concept_forget.worlds.loaders.hub import data_folder
from concept_forget.worlds.loaders.lume import LumeItem, load_lume
from concept_forget.worlds.loaders.mmlu import load_mmlu
from concept_forget.worlds.loaders.muse import Muse, load_muse
from concept_forget.worlds.loaders.rows import BadDataError
from concept_forget.worlds.loaders.rwku import load_rwku, rwku_targets
from concept_forget.worlds.loaders.tofu import load_tofu, tofu_splits

__all__ = [
    "BadDataError",
    "CounterFact",
    "KnownFact",
    "LumeItem",
    "Muse",
    "data_folder",
    "load_counterfact",
    "load_known",
    "load_lume",
    "load_mmlu",
    "load_muse",
    "load_rwku",
    "load_tofu",
    "rwku_targets",
    "tofu_splits",
]
