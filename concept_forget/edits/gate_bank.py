"""Gate bank: many image gates at one place, with every feature they look at read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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

    numbers: tuple[int, ...]
    """Whose gates these are: places in what `among` was given."""
    rows: FeatureRows
    """Of the U distinct features."""
    weights: Float[Tensor, "m g"]
    """Of the U means, then of the U maxima; zero for features a gate does not look at."""
    thresholds: Float[Tensor, " g"]

    @classmethod
    def among(cls, gates: Sequence[object]) -> GateBank | None:
        """The bank of those that judge a picture (text) as a whole, by means and maxima; None for fewer than two."""
        plain = {
            number: gate
            for number, gate in enumerate(gates)
            if type(gate) is ImageGate and gate.token_threshold is None
        }
        if len(plain) < 2:
            return None
        rows, places = merged([gate.rows for gate in plain.values()])
        u = len(rows.bias)
        weights = rows.bias.new_zeros(2 * u, len(plain))
        for column, (gate, place) in enumerate(zip(plain.values(), places, strict=True)):
            mean, top = gate.weights.to(weights).chunk(2)
            # a gate may look at the same feature twice
            weights[:, column].index_add_(0, place, mean).index_add_(0, place + u, top)
        thresholds = torch.tensor([gate.threshold for gate in plain.values()]).to(weights)
        return cls(tuple(plain), rows, weights, thresholds)

    def decide(self, x: Float[Tensor, "b t d"], eligible: Bool[Tensor, "b t"] | None = None) -> Bool[Tensor, "b g"]:
        """Which gates open for which rows."""
        bank = self.to(x.device, working_dtype(x))
        return ImageGate.features(bank.rows, x, eligible) @ bank.weights > bank.thresholds

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> GateBank:
        """The same bank with its tensors on this device."""
        rows = FeatureRows(*(part.to(device, dtype) for part in self.rows))
        return replace(
            self, rows=rows, weights=self.weights.to(device, dtype), thresholds=self.thresholds.to(device, dtype)
        )


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
