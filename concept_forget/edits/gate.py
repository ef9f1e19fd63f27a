"""The gate of an edit: does this picture (text) show the concept at all?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from concept_forget.directions import FeatureRows
from concept_forget.edits.parts import Parts, working_dtype


class GateFit(NamedTuple):
    """A calibrated linear decision on gate features: open where `features @ weights > threshold`."""

    weights: Float[Tensor, " m"]
    threshold: float
    recall: float
    """Share of the validation positives that open it."""
    false_fire: float
    """Share of the validation negatives that open it."""


def fit_gate(
    features: Float[Tensor, "n m"],
    labels: Bool[Tensor, " n"],
    validation: Float[Tensor, "v m"],
    validation_labels: Bool[Tensor, " v"],
    false_fire: float = 0.01,
    regularisation: float = 1.0,
) -> GateFit:
    """Fits an L2 logistic regression on standardised features and calibrates its threshold on validation (`calibrate`).

    Raises ValueError when a split lacks one of the classes.
    """
    from sklearn.linear_model import LogisticRegression

    for name, which in (("training", labels), ("validation", validation_labels)):
        if not which.any() or which.all():
            raise ValueError(
                f"A gate needs {name} pictures (texts) that have the concept and some that do not; "
                f"there are {int(which.sum())} with and {int((~which).sum())} without."
            )
    features, validation = features.double().cpu(), validation.double().cpu()
    mean, std = features.mean(0), features.std(0, correction=0)
    scale = torch.where(std > 1e-12, 1 / std.clamp_min(1e-12), 0.0)
    model = LogisticRegression(C=1 / regularisation, class_weight="balanced", max_iter=2000)
    model.fit(((features - mean) * scale).numpy(), labels.cpu().numpy())
    # The intercept and the centring move every score alike, so the threshold takes them up.
    weights = (torch.from_numpy(model.coef_[0]) * scale).float()
    scores, positive = validation.float() @ weights, validation_labels.cpu()
    yes, no = scores[positive], scores[~positive]
    threshold = calibrate(yes, no, false_fire)
    return GateFit(weights, threshold, float((yes > threshold).float().mean()), float((no > threshold).float().mean()))


def calibrate(yes: Float[Tensor, " p"], no: Float[Tensor, " q"], false_fire: float = 0.01) -> float:
    """The score from which a gate opens, given validation scores with the concept and without it.

    The 1 - false_fire quantile of `no`, so at most that share opens; where the two do not overlap the middle between
    them. Raises ValueError for a share outside [0, 1).
    """
    if not 0 <= false_fire < 1:
        raise ValueError(f"false_fire={false_fire}: give the share of negatives that may open the gate, in [0, 1).")
    if yes.min() > no.max():
        return float((no.max() + yes.min()) / 2)
    return float(torch.quantile(no, 1 - false_fire, interpolation="higher"))


@dataclass(frozen=True, eq=False)
class ImageGate:
    """Opens all positions of a picture (text) whose score exceeds a calibrated threshold, else none.

    score = w . [mean_t z_t, max_t z_t] over the positions an edit may touch, with z the activations of k features
    (or of k plain directions: `ImageGate.directions`). The idea is DSG's (Muhamed et al. 2025): decide per sequence,
    calibrated on data to be retained. With `token_threshold`, of an open picture only the tokens at which some
    z_i > token_threshold_i are open.
    """

    rows: FeatureRows
    weights: Float[Tensor, " m"]
    """Of the k means, then of the k maxima."""
    threshold: float
    recall: float
    """Share of the validation pictures with the concept that open it."""
    false_fire: float
    """Share of those without it that do."""
    token_threshold: Float[Tensor, " k"] | None = None

    @staticmethod
    def directions(vectors: Float[Tensor, "k d"]) -> FeatureRows:
        """Plain directions as gate rows: z = x @ vectors.T, without a threshold."""
        nothing = torch.zeros(len(vectors), dtype=vectors.dtype)
        return FeatureRows(vectors, nothing, torch.full_like(nothing, -torch.inf), vectors)

    @staticmethod
    def features(
        rows: FeatureRows, x: Float[Tensor, "b t d"], eligible: Bool[Tensor, "b t"] | None = None
    ) -> Float[Tensor, "b m"]:
        """Mean and max over the eligible positions of every feature's activation, [b, 2k]. No position: zeros."""
        z = rows.encode(x.to(working_dtype(x)))
        if eligible is None:
            return torch.cat([z.mean(1), z.amax(1)], -1)
        inside = eligible.to(z.device)[..., None]
        mean = torch.where(inside, z, 0.0).sum(1) / inside.sum(1).clamp_min(1)
        top = torch.where(inside, z, -torch.inf).amax(1)
        return torch.cat([mean, torch.where(inside.any(1), top, 0.0)], -1)

    def score(self, x: Float[Tensor, "b t d"], eligible: Bool[Tensor, "b t"] | None = None) -> Float[Tensor, " b"]:
        """How far above the threshold each row is; open where positive."""
        gate = self.to(x.device, working_dtype(x))
        return self.features(gate.rows, x, eligible) @ gate.weights - self.threshold

    def decide(self, x: Float[Tensor, "b t d"], eligible: Bool[Tensor, "b t"] | None = None) -> Bool[Tensor, "b t"]:
        """The open positions."""
        open_rows = (self.score(x, eligible) > 0)[:, None].expand(x.shape[:2])
        if self.token_threshold is None:
            return open_rows
        gate = self.to(x.device, working_dtype(x))
        assert gate.token_threshold is not None
        return open_rows & (gate.rows.encode(x.to(working_dtype(x))) > gate.token_threshold).any(-1)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> ImageGate:
        """The same gate with its tensors on this device; itself where they already are."""
        rows = FeatureRows(*(part.to(device, dtype) for part in self.rows))
        weights = self.weights.to(device, dtype)
        token = None if self.token_threshold is None else self.token_threshold.to(device, dtype)
        same = weights is self.weights and token is self.token_threshold
        if same and all(a is b for a, b in zip(rows, self.rows, strict=True)):
            return self
        return replace(self, rows=rows, weights=weights, token_threshold=token)

    def to_parts(self) -> Parts:
        """Settings and tensors, for a recipe."""
        tensors = {f"rows.{name}": part for name, part in self.rows._asdict().items()} | {"weights": self.weights}
        if self.token_threshold is not None:
            tensors["token_threshold"] = self.token_threshold
        return Parts({"threshold": self.threshold, "recall": self.recall, "false_fire": self.false_fire}, tensors)

    @classmethod
    def from_parts(cls, parts: Parts) -> ImageGate:
        """The gate that `to_parts` wrote."""
        s, t = parts.settings, parts.tensors
        rows = FeatureRows(*(t[f"rows.{name}"] for name in FeatureRows._fields))
        made = (rows, t["weights"], s["threshold"], s["recall"], s["false_fire"], t.get("token_threshold"))
        if s.get("kind") != "share":
            return cls(*made)
        # Here, because that gate is one of these.
        from concept_forget.edits.share_gate import ShareGate

        return ShareGate(*made, count=s["count"])
