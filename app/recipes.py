"""A recipe described for people and machines, and proved on the model it is for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from app.opening import OwnData, find_concept
from concept_forget import loading
from concept_forget.concepts import Concept
from concept_forget.model import HookedModel
from concept_forget.preparing import noise_batch
from concept_forget.recipe import TENSORS, YAML, Recipe


def described(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Everything that stands in a recipe but the tensors themselves."""
    edits = []
    for edit in recipe.edits:
        # what a recipe holds can be written down
        parts = cast(Any, edit).to_parts()
        gate = None if parts.gate is None else parts.gate.to_parts().settings
        shapes = {name: list(tensor.shape) for name, tensor in parts.tensors.items()}
        place = None if parts.site is None else str(parts.site)
        kind = getattr(edit, "kind", type(edit).__name__)
        told = [what for one in edit.each() if (what := getattr(one, "gives_away", ""))]
        about = {"kind": kind, "site": place, "settings": parts.settings, "gate": gate, "tensors": shapes}
        edits.append(about | {"gives_away": ", ".join(told)})
    return {
        "concept": recipe.concept,
        "model": recipe.model,
        "revision": recipe.revision,
        "config": recipe.config,
        "pinned": len(recipe.fingerprint),
        "digest": recipe.digest(),
        "settings": recipe.settings,
        "edits": edits,
        "versions": recipe.versions,
        "bytes": {name: (folder / name).stat().st_size for name in (YAML, TENSORS)},
    }


def checked(recipe: Recipe, model: HookedModel) -> list[dict[str, Any]]:
    """Hook statistics of the recipe on a noise picture. Raises RecipeError where it does not fit the model.

    A gate may well stay shut on noise; that every site is passed and live is what is proved.
    """
    with recipe.applied(model) as stats:
        model.run(noise_batch(model))
    return [stat.to_json() for stat in stats]


def model_of(recipes: Sequence[Recipe], name: str = "") -> str:
    """The model named, or the one that all recipes were made for. Raises ValueError where they differ."""
    made_for = list(dict.fromkeys(recipe.model for recipe in recipes))
    if not name and len(made_for) != 1:
        raise ValueError(f"The recipes were made for {', '.join(made_for)}; recipes of one job belong to one model.")
    return name or made_for[0]


def on_meta(name: str, revision: str = "") -> HookedModel:
    """The model without weights, for planning. Raises LookupError where there is not even a config."""
    model, processor = loading.shell(name, revision or None)
    return HookedModel(model, processor, name, revision or None)


def concept_of(recipe: Recipe, model: HookedModel, own: OwnData | None = None, seed: int = 0) -> Concept | None:
    """The examples of a recipe's concept: one's own, or those of the worlds; None where nobody has any."""
    try:
        return find_concept(model, recipe.concept, own, None, seed)
    except LookupError:
        if own is not None:
            raise
        return None
