"""Find what the user named: the model, the concept, the site, the method. Errors name the closest and how to list."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

from app.concept_spec import Spec, read_spec
from app.own_concept import answered_by, own_concept
from app.world_concepts import Sizes, text_concept, world_concept
from concept_forget import zoo
from concept_forget.concepts import Concept
from concept_forget.evaluation import AnswerBook
from concept_forget.methods import METHODS, DiffMeans, GatedClamp, Method
from concept_forget.model import HookedModel
from concept_forget.sites import Site

PLUS = "sauce+"
"""Every gated way to remove a concept, over every ranking, and ungated ways where no gate finds it: the settings are
chosen on validation."""
LOOSER = (0.05, 0.1)
"""False fires that `sauce+` allows a gate where it then finds more of the concept."""


class NoSuchMethod(LookupError):
    """There is no such method: names the closest and lists all."""


@dataclass(frozen=True)
class OwnData:
    """Where a concept of one's own comes from."""

    forget: Path
    retain: Path
    near: Path | None = None
    spec: Path | None = None


def open_model(source: str, device: str = "", dtype: str = "", revision: str = "", quantize: str = "") -> HookedModel:
    """The model of a zoo name, folder or hub id. Raises LookupError with the closest names."""
    close = [] if source in zoo.NAMES or Path(source).exists() else get_close_matches(source, zoo.NAMES, 1, 0.8)
    if close:  # a slip of the pen: no need to wait for the hub to say so
        raise LookupError(f"There is no model {source!r}. Did you mean {close[0]}? `concept-forget models` lists all.")
    try:
        how: Any = {"dtype": dtype or None, "revision": revision or None, "quantize": quantize or None}
        return HookedModel.load(source, device=device or None, **how)
    except LookupError as error:
        raise LookupError(f"{error} `concept-forget models` lists what is here.") from error


def find_concept(
    model: HookedModel, name: str = "", own: OwnData | None = None, sizes: Sizes | None = None, seed: int = 0
) -> Concept:
    """A concept of the world by name, or one's own by folders; then answers nobody gave are what the model says now.

    A model that sees is asked about the picture world, one that only reads about the people of the text world.
    """
    if own is None:
        if not name:
            raise ValueError("Say which concept: --concept NAME, or --forget DIR --retain DIR for one of your own.")
        return world_concept(name, sizes, seed) if model.has_vision else text_concept(name, seed)
    spec = read_spec(own.spec, name) if own.spec else Spec(name or Path(own.forget).stem)
    concept = own_concept(spec, own.forget, own.retain, own.near, seed)
    if not model.has_vision and concept.train.forget[0].image is not None:
        raise ValueError(
            f"{model.name} reads text only, and {own.forget} holds pictures. Give texts, or another model."
        )
    book = AnswerBook(model)
    return answered_by(concept, book.answers)


def read_settings(name: str, given: Sequence[str]) -> dict[str, Any]:
    """Settings of a method written NAME=VALUE, each of the type of its default. Raises ValueError for any other."""
    found: dict[str, Any] = {}
    for text in given:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not key or not equals:
            raise ValueError(f"--set {text!r}: write NAME=VALUE.")
        try:
            found[key] = json.loads(value)
        except json.JSONDecodeError:
            found[key] = value
        kind: Any = METHODS.get(name)
        if kind is None or key not in {field.name for field in fields(kind)}:
            continue  # `find_method` says so
        if not hasattr(kind, key):
            raise ValueError(f"--set {text!r}: {key} is no plain value; it can be given in Python only.")
        default, may_be = getattr(kind, key), get_args(get_type_hints(kind)[key])
        wanted = type(default) if default is not None else next(t for t in may_be if t is not NoneType)
        if wanted is float and type(found[key]) is int:
            found[key] = float(found[key])
        if wanted is tuple and isinstance(found[key], list):
            found[key] = tuple(found[key])
        if type(found[key]) is not wanted and not (found[key] is None and NoneType in may_be):
            such = f"a value such as {default!r}" if default is not None else f"a {wanted.__name__}"
            raise ValueError(f"--set {text!r}: {key} takes {such}{' or null' if NoneType in may_be else ''}.")
    return found


def find_site(model: HookedModel, text: str = "") -> Site:
    """The site written so, or the model's default door; proved live. Raises when there is none or it is dead."""
    site = Site.parse(text) if text else model.reading_site
    model.require_live(site)
    return site


def find_method(name: str, settings: Mapping[str, Any] | None = None) -> list[Method]:
    """The methods to choose settings of under a name: one, with these settings, or all of `sauce+`.

    Raises NoSuchMethod, and ValueError for settings that the method does not have or take.
    """
    if name in METHODS:
        kind: Any = METHODS[name]
        known = sorted(field.name for field in fields(kind))
        if unknown := [key for key in settings or () if key not in known]:
            raise ValueError(f"Method {name!r} has no setting {unknown[0]!r}. It has {', '.join(known)}.")
        return [kind(**settings or {})]
    if name == PLUS and settings:
        raise ValueError(f"{PLUS} chooses among methods; settings are for one of them. Give its --method.")
    if name == PLUS:
        return [GatedClamp(looser=LOOSER), DiffMeans(gated=True, looser=LOOSER)]
    close = get_close_matches(name, [PLUS, *METHODS], 2, 0.4)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    raise NoSuchMethod(f"There is no method {name!r}.{hint} There are {', '.join([PLUS, *METHODS])}.")
