"""Feature clamp: error-preserving, everywhere."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from concept_forget.concepts import ForgetRequest
from concept_forget.directions import FeatureSet
from concept_forget.edits import FeatureClamp
from concept_forget.methods.base import Method, action_for, ranked
from concept_forget.model import HookedModel


@dataclass(frozen=True)
class Clamp(Method):
    """x' = x + sum_i (g(z_i) - z_i) d_i over the k best features: the reconstruction error stays as it is."""

    k: int = 16
    """Number of features; all that are ranked where there are fewer."""
    action: Literal["zero", "scale", "limit"] = "scale"
    """g: 0, gamma z, or min(z, its mean over the neighbours)."""
    gamma: float = -1.0
    """Of `scale`."""

    name: ClassVar[str] = "clamp"

    def fit(self, model: HookedModel, request: ForgetRequest, where: FeatureSet | None) -> FeatureClamp:  # noqa: ARG002
        """The edit. Raises ValueError without ranked features."""
        best = ranked(self, where, self.k)
        return FeatureClamp(best.site, best.rows, action_for(self.action, self.gamma, best))

    def grid(self) -> tuple[Clamp, ...]:
        """Few and many features; limited, zeroed and negated."""
        others = [
            replace(self, k=k, action=action, gamma=gamma)
            for k in (4, 16, 64)
            for action, gamma in (("limit", 0.0), ("zero", 0.0), ("scale", -1.0))
        ]
        return (self, *(other for other in others if other != self))
