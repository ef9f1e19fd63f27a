"""From the current recipe to the edit that runs: fitted once, then a slider costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from app.ui.desk import Finding
from app.ui.sessions import Session, Settings
from concept_forget.concepts import ForgetRequest
from concept_forget.directions import FeatureSet
from concept_forget.edits import Action, Edit, FeatureClamp, ImageGate, PromptEdit, SauceEdit, Shift, SubspaceErase
from concept_forget.methods import METHODS, Clamp, DiffMeans, GatedClamp, Leace, Method, Prompt, RandomFeatures
from concept_forget.methods.base import gate_for

LABELS = {
    "clamp": "Clamp the features",
    "diff_means": "Difference of means",
    "leace": "LEACE",
    "patch_clamp": "Clamp the patches that show more than neighbours do",
    "blur": "Blur: its tokens become anybody's",
    "residual_clamp": "Clamp, and erase what is left over",
    "guard": "GUARD: keep its words out while it speaks",
    "npo": "NPO: train it out of the weights",
    "sauce": "SAUCE, as published",
    "prompt": "Only ask: prompt control",
    "random_features": "Random features: control",
    "none": "Do nothing: control",
}
"""What can be chosen, in the words of the page."""
ACTIONS = {
    "clamp": {"scale": "take the activation away", "limit": "hold it at its neighbours' mean"},
    "diff_means": {"project": "project onto the mean of the rest", "shift": "shift to the mean of the rest"},
}
FITTED = frozenset({"blur", "patch_clamp", "residual_clamp", "guard", "npo"})
"""Methods used as they are, without a strength or a gate of the app's; some take a while to fit."""
OF_FEATURES = frozenset({"clamp", "sauce", "random_features", "residual_clamp", "patch_clamp"})
"""Methods that act on the chosen features; the others find what they need on their own."""
GATE_FEATURES = 32
GATED = frozenset({"clamp", "diff_means", "leace", "sauce", "random_features"})
SLIDING = frozenset({"clamp", "diff_means", "sauce", "random_features"})
"""Methods whose strength can be set."""


def edits_for(finding: Finding | None, session: Session, settings: Settings) -> list[Edit]:
    """The edits of these settings; none at strength 0, so that the model stays as it is, bit for bit."""
    if settings.loaded:
        if settings.loaded not in session.recipes:
            raise LookupError("The uploaded recipe is no longer here. Upload it again.")
        return list(session.recipes[settings.loaded].edits)
    if settings.method == "none" or (settings.method in SLIDING and settings.strength == 0):
        return []
    if settings.method == "prompt":
        return [PromptEdit(Prompt().template.format(concept=settings.concept.removeprefix("own:")))]
    assert finding is not None
    if settings.method in FITTED:
        return [fitted(finding, settings)]
    edit: Any = _MAKERS[settings.method](finding, settings, chosen(finding, settings))
    gate = gate_of(finding, settings) if settings.gated else None
    return [replace(edit, gate=gate)]


def fitted(finding: Finding, settings: Settings) -> Edit:
    """What a method of FITTED makes of the chosen features, made once."""
    features, method = chosen(finding, settings), method_of(settings)
    key = (settings.method, settings.score, tuple(features.indices.tolist()))
    return _once(finding, key, lambda: method.fit(finding.model, ForgetRequest(finding.concept), features))


def chosen(finding: Finding, settings: Settings) -> FeatureSet:
    """The features of these settings, in the order of the ranking."""
    ranked = finding.ranked(settings.score)
    if not settings.features:
        return ranked.top(min(settings.k, len(ranked.indices)))
    places = {int(index): place for place, index in enumerate(ranked.indices)}
    known = [places[feature] for feature in settings.features if feature in places]
    if not known:
        raise LookupError("None of the chosen features is in this ranking. Choose some in step 2, Find.")
    return ranked.select(torch.tensor(sorted(known)))


def gate_of(finding: Finding, settings: Settings) -> ImageGate:
    """The gate of this ranking, fitted once."""
    ranked = finding.ranked(settings.score)

    def fit() -> ImageGate:
        rows = ranked.top(min(GATE_FEATURES, len(ranked.indices))).rows
        return gate_for(finding.model, finding.concept, finding.site, rows)

    return _once(finding, ("gate", settings.score), fit)


def typical(finding: Finding, settings: Settings) -> float:
    """Mean activation of the chosen features on examples that have the concept: the unit of the slider."""
    return float(chosen(finding, settings).forget_mean.mean())


def method_of(settings: Settings) -> Method:
    """The method of these settings as a notebook or script would write it."""
    k = len(settings.features) or settings.k
    if settings.method == "clamp":
        action: dict[str, Any] = {"action": "limit"} if settings.action == "limit" else {"gamma": 1 - settings.strength}
        return GatedClamp(k=k, **action) if settings.gated else Clamp(k=k, **action)
    if settings.method == "diff_means":
        return DiffMeans(action=settings.action, strength=settings.strength, gated=settings.gated)  # type: ignore[arg-type]
    if settings.method == "leace":
        return Leace(gated=settings.gated)
    if settings.method == "sauce":
        return METHODS["sauce"](k=k, gamma=1 - settings.strength)  # type: ignore[call-arg]
    if settings.method == "random_features":
        return RandomFeatures(of=Clamp(k=k, gamma=1 - settings.strength))
    return METHODS[settings.method]()


def settings_of(before: Settings, method: dict[str, Any], score: str) -> Settings:
    """The settings that a method's own (`Method.settings`) stand for."""
    name = str(method["method"])
    base = replace(before, score=score, features=(), loaded="", gated=bool(method.get("gated", False)))
    if name in ("clamp", "gated_clamp"):
        strength = {"zero": 1.0, "limit": 1.0}.get(method["action"], 1 - method["gamma"])
        action = "limit" if method["action"] == "limit" else "scale"
        return replace(
            base, method="clamp", action=action, strength=strength, k=method["k"], gated=name == "gated_clamp"
        )
    if name == "diff_means":
        return replace(base, method=name, action=method["action"], strength=method["strength"])
    if name == "sauce":
        return replace(base, method=name, strength=1 - method["gamma"], k=method["k"])
    return replace(base, method=name)


def _clamp(finding: Finding, settings: Settings, features: FeatureSet) -> FeatureClamp:
    del finding
    if settings.action == "limit":
        return FeatureClamp(features.site, features.rows, Action.limit(features.near_mean), strength=settings.strength)
    return FeatureClamp(features.site, features.rows, Action.scale(1 - settings.strength))


def _diff_means(finding: Finding, settings: Settings, features: FeatureSet) -> SubspaceErase | Shift:
    action = settings.action if settings.action in ACTIONS["diff_means"] else "project"
    fitted = _once(
        finding,
        ("diff_means", action),
        lambda: DiffMeans(action=action).fit(finding.model, ForgetRequest(finding.concept), features),  # type: ignore[arg-type]
    )
    return replace(fitted, strength=settings.strength)


def _leace(finding: Finding, settings: Settings, features: FeatureSet) -> Edit:
    del settings
    return _once(finding, ("leace",), lambda: Leace().fit(finding.model, ForgetRequest(finding.concept), features))


def _sauce(finding: Finding, settings: Settings, features: FeatureSet) -> SauceEdit:
    return SauceEdit(finding.site, finding.dictionary, features.indices, 1 - settings.strength)


def _random(finding: Finding, settings: Settings, features: FeatureSet) -> Edit:
    method = RandomFeatures(of=Clamp(k=len(features.indices), gamma=1 - settings.strength))
    key = ("random", tuple(features.indices.tolist()), settings.strength)
    return _once(finding, key, lambda: method.fit(finding.model, ForgetRequest(finding.concept), features))


def _once(finding: Finding, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
    return finding.fitted.get(key, make)


_MAKERS: dict[str, Callable[[Finding, Settings, FeatureSet], Any]] = {
    "clamp": _clamp,
    "diff_means": _diff_means,
    "leace": _leace,
    "sauce": _sauce,
    "random_features": _random,
}
