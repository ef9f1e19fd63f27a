"""The workbench: the whole path as plain calls, without gradio and typer. The command line, the app and tests use it.

    model = open_model("tiny-llava")
    concept = find_concept(model, "red")
    dictionary = dictionary_for(model, find_site(model))
    ranked, stable = rank_features(model, concept, dictionary, ("contrast", "causal"))
    choice = choose_method(model, concept, "gated_clamp", ranked)
    with choice.edit.applied(model): ...

or all of it with controls, probes and a report: `run(RunRequest("tiny-llava", "red"), Path("runs/red"))`.
"""

from app.choosing import Choice, Choosing, choose_method, control_methods
from app.dictionaries import Progress, cache_folder, dictionary_for, rank_features
from app.opening import PLUS, NoSuchMethod, OwnData, find_concept, find_method, find_site, open_model
from app.running import RunRequest, run
from app.world_concepts import NoSuchConcept, Pool, Sizes, world_concept

__all__ = [
    "PLUS",
    "Choice",
    "Choosing",
    "NoSuchConcept",
    "NoSuchMethod",
    "OwnData",
    "Pool",
    "Progress",
    "RunRequest",
    "Sizes",
    "cache_folder",
    "choose_method",
    "control_methods",
    "dictionary_for",
    "find_concept",
    "find_method",
    "find_site",
    "open_model",
    "rank_features",
    "run",
    "world_concept",
]
