"""SAUCE mode: plain decode, negative gamma, no gate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from concept_forget.concepts import ForgetRequest
from concept_forget.directions import FeatureSet
from concept_forget.edits import SauceEdit
from concept_forget.methods.base import Method, ranked
from concept_forget.model import HookedModel


@dataclass(frozen=True)
class Sauce(Method):
    """z_i <- gamma z_i for the k best features, then plain decode (SAUCE, Geng, Li et al., ICCV 2025).

    The paper's k and gamma are not known; its reproduction uses k = 128, gamma = -0.5.
    """

    k: int = 128
    """Number of features; all that are ranked where there are fewer."""
    gamma: float = -0.5

    name: ClassVar[str] = "sauce"

    def fit(self, model: HookedModel, request: ForgetRequest, where: FeatureSet | None) -> SauceEdit:  # noqa: ARG002
        """The edit. Raises ValueError without ranked features or without their dictionary."""
        best = ranked(self, where, self.k)
        if best.dictionary is None:
            raise ValueError(
                "SAUCE mode decodes the whole dictionary; these features came without it, so rank them anew."
            )
        return SauceEdit(best.site, best.dictionary, best.indices, self.gamma)

    def grid(self) -> tuple[Sauce, ...]:
        """Few and many features, weak and strong negation."""
        return (self, *(replace(self, k=k, gamma=gamma) for k in (4, 16, 64) for gamma in (-0.5, -2.0)))
