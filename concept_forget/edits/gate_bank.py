"""Gate bank: many image gates at one place, with every feature they look at read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from concept_forget.directions import FeatureRows
from concept_forget.edits.gate import ImageGate
from concept_forget.edits.parts import working_dtype


@dataclass(frozen=True, eq=False)
class GateBank:
    """score_g = w_g . [mean_t z_t, max_t z_t] - threshold_g for G gates, with z over the union of their features.

    What the gates decide one by one, up to rounding, for one encode of U distinct features: O(t d U) instead of G
    passes over the activation.
    """

    rows: FeatureRows
    """Of the U distinct features."""
    weights: Float[Tensor, "m g"]
    """Of the U means, then of the U maxima; zero for features a gate does not look at."""
    thresholds: Float[Tensor, " g"]

    @classmethod
    def of(cls, gates: Sequence[ImageGate]) -> GateBank:
        """The bank of these gates, in their order."""
        rows, places = merged([gate.rows for gate in gates])
        u = len(rows.bias)
        weights = rows.bias.new_zeros(2 * u, len(gates))
        for number, (gate, place) in enumerate(zip(gates, places, strict=True)):
            mean, top = gate.weights.to(weights).chunk(2)
            # a gate may look at the same feature twice
            weights[:, number].index_add_(0, place, mean).index_add_(0, place + u, top)
        thresholds = torch.tensor([gate.threshold for gate in gates], device=weights.device, dtype=weights.dtype)
        return cls(rows, weights, thresholds)

    @staticmethod
    def takes(gate: object) -> bool:
        """Whether a gate can be in a bank: it judges a picture (text) as a whole, by the means and maxima above."""
        return type(gate) is ImageGate and gate.token_threshold is None

    def decide(self, x: Float[Tensor, "b t d"], eligible: Bool[Tensor, "b t"] | None = None) -> Bool[Tensor, "b g"]:
        """Which gates open for which rows."""
        rows = FeatureRows(*(part.to(x.device, working_dtype(x)) for part in self.rows))
        found = ImageGate.features(rows, x, eligible)
        return found @ self.weights.to(found) > self.thresholds.to(found)


def merged(parts: Sequence[FeatureRows]) -> tuple[FeatureRows, list[Tensor]]:
    """All distinct rows of several sets, and where those of each set are among them."""
    known: dict[bytes, int] = {}
    chosen: list[tuple[int, int]] = []
    places = []
    for number, rows in enumerate(parts):
        columns = torch.cat([part.reshape(len(rows.bias), -1).float() for part in rows], 1).cpu()
        place = []
        for row, key in enumerate(one.contiguous().numpy().tobytes() for one in columns):
            if key not in known:
                known[key] = len(chosen)
                chosen.append((number, row))
            place.append(known[key])
        places.append(torch.tensor(place, dtype=torch.long, device=rows.bias.device))
    made = [torch.stack([parts[number][field][row] for number, row in chosen]) for field in range(4)]
    return FeatureRows(*made), places
