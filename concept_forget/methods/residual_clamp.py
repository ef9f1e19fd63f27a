"""Feature clamp with an eraser on what the dictionary does not reconstruct."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from concept_forget.concepts import ForgetRequest
from concept_forget.directions import Dictionary, FeatureSet
from concept_forget.edits import FeatureClamp, ImageGate, ResidualErase, SiteEdit, Sum
from concept_forget.methods.base import Method, action_for, content_tokens, gate_tables, ranked
from concept_forget.model import HookedModel

Eraser = Literal["leace", "diff_means"]
Affine = tuple[Float[Tensor, "d r"], Float[Tensor, "r d"], Float[Tensor, " d"]]
"""L, R and the mean of e' = e - L R (e - mean)."""


@dataclass(frozen=True)
class ResidualClamp(Method):
    """The clamp of k features and, beside it, linear erasure in the residual e = x - decode(encode(x)).

    "leace" guards the token's label linearly with the least change (Belrose et al. 2023); "diff_means" takes out the
    one direction between the residual means of the concept's pictures and of all others. Both read the x the clamp
    reads. Needs the dictionary.
    """

    k: int = 16
    """Number of clamped features; all that are ranked where there are fewer."""
    action: Literal["zero", "scale", "limit"] = "scale"
    """g: 0, gamma z, or min(z, its mean over the neighbours)."""
    gamma: float = -1.0
    """Of `scale`."""
    eraser: Eraser = "leace"
    strength: float = 1.0
    """Of the eraser: 1 removes the direction, 2 reflects it."""
    gated: bool = True
    """Both behind one image gate on the ranked features."""
    gate_k: int = 32
    """Number of features the gate looks at."""
    false_fire: float = 0.01
    """Share of validation pictures without the concept that may open the gate."""

    name: ClassVar[str] = "residual_clamp"

    def fit(self, model: HookedModel, request: ForgetRequest, where: FeatureSet | None) -> SiteEdit:
        """The edit. Raises ValueError without ranked features or their dictionary."""
        return next(self.fitted(model, request, where, (self,)))[1]

    def grid(self) -> tuple[ResidualClamp, ...]:
        """Few and many features, limited, zeroed and negated, with either eraser."""
        others = [
            replace(self, k=k, action=action, gamma=gamma, eraser=eraser)
            for eraser in ("leace", "diff_means")
            for k in (8, 16, 32)
            for action, gamma in (("limit", 0.0), ("scale", -1.0), ("scale", -3.0))
        ]
        return (self, *(other for other in others if other != self))

    def fit_grid(
        self, model: HookedModel, request: ForgetRequest, where: FeatureSet | None
    ) -> Iterator[tuple[ResidualClamp, SiteEdit]]:
        """Every member of the grid with its edit; the gate and the erasers are fitted once."""
        yield from self.fitted(model, request, where, self.grid())

    def fitted(
        self,
        model: HookedModel,
        request: ForgetRequest,
        where: FeatureSet | None,
        methods: tuple[ResidualClamp, ...],
    ) -> Iterator[tuple[ResidualClamp, SiteEdit]]:
        """These methods with their edits; the gate's readings are made once, every gate and eraser is fitted once.

        All look at this one's `gate_k` features.
        """
        best = ranked(self, where, self.gate_k)
        dictionary = best.dictionary
        if dictionary is None:
            raise ValueError("The residual is what a dictionary leaves out; these features came without it.")
        tables = cache(lambda: gate_tables(model, request.concept, best.site, best.rows))
        gate = cache(lambda false_fire: tables().gate(false_fire))
        eraser = cache(lambda kind: residual_eraser(model, request, dictionary, kind))
        for method in methods:
            behind = gate(method.false_fire) if method.gated else None
            yield method, method._edit(where, dictionary, eraser(method.eraser), behind)

    def _edit(
        self, where: FeatureSet | None, dictionary: Dictionary, eraser: Affine | None, gate: ImageGate | None
    ) -> SiteEdit:
        best = ranked(self, where, self.k)
        clamp = FeatureClamp(best.site, best.rows, action_for(self.action, self.gamma, best), gate)
        if eraser is None:
            return clamp
        return Sum.of(clamp, ResidualErase.of(dictionary, *eraser, gate=gate, strength=self.strength))


def residual_eraser(model: HookedModel, request: ForgetRequest, dictionary: Dictionary, kind: Eraser) -> Affine | None:
    """Fitted on the residual of the training tokens; None where nothing linear tells the concept there."""
    from concept_erasure import LeaceFitter

    train, site, width = request.concept.train, dictionary.site, dictionary.d_in
    sums, counts = torch.zeros(2, width, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    fitter = LeaceFitter(width, 1, dtype=torch.float64, svd_tol=1e-6) if kind == "leace" else None
    for label, examples in ((1, train.forget), (0, train.without)):
        for tokens in content_tokens(model, examples, site):
            rest = (tokens - dictionary.decode(dictionary.encode(tokens))).detach().cpu()
            sums[label] += rest.double().sum(0)
            counts[label] += len(rest)
            if fitter is not None:
                fitter.update(rest, torch.full((len(rest), 1), float(label)))
    if fitter is not None:
        eraser = fitter.eraser
        left, right, mean = eraser.proj_left, eraser.proj_right, fitter.mean_x
    else:
        forget, mean = sums[1] / counts[1].clamp_min(1), sums[0] / counts[0].clamp_min(1)
        vector = forget - mean
        right = (vector / vector.norm().clamp_min(1e-12))[None]
        left = right.T
    left, right, mean = (part.float().cpu() for part in (left, right, mean))
    return (left, right, mean) if left.abs().sum() > 0 and right.abs().sum() > 0 else None
