"""Sum: several edits at one site that all read the same activation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from concept_forget.directions import FeatureRows
from concept_forget.edits.base import Gate, NotBakeable, SiteEdit
from concept_forget.edits.clamp import FeatureClamp
from concept_forget.edits.gate_bank import GateBank, merged
from concept_forget.edits.nested import digest, nested, unnested
from concept_forget.edits.parts import Parts, working_dtype
from concept_forget.sites import Site


@dataclass(frozen=True, eq=False)
class Sum(SiteEdit):
    """x' = x + sum_c open_c(x) (edit_c(x) - x): every edit, and every gate, reads the same x.

    So no edit sees what another did, and the order does not matter; to have that to the bit the edits are kept in the
    order of their content. A feature that several clamps change is changed once, by the largest of their changes: the
    sum would push it twice as far. Positions at which no edit is open keep every bit. Raises ValueError for edits of
    several sites, and for none.
    """

    edits: tuple[SiteEdit, ...]
    _rows: FeatureRows | None = field(init=False, repr=False, compare=False, default=None)
    """Of every feature that a clamp changes, once."""
    _slots: dict[int, Tensor] = field(init=False, repr=False, compare=False, default_factory=dict)
    """Where the features of a clamp are among them, by its number."""
    _factors: dict[int, Tensor] = field(init=False, repr=False, compare=False, default_factory=dict)
    """What a clamp that multiplies them adds, as a multiple of each; 0 where it does nothing."""
    _bank: GateBank | None = field(init=False, repr=False, compare=False, default=None)

    gate: ClassVar[Gate | None] = None
    kind: ClassVar[str] = "sum"

    def __post_init__(self) -> None:
        if len({edit.site for edit in self.edits}) != 1:
            given = ", ".join(str(edit.site) for edit in self.edits) or "no edit"
            raise ValueError(f"Sum adds edits of one site, and these are at {given}; use Together for several.")
        flat = [one for edit in self.edits for one in (edit.branches() or (edit,))]
        object.__setattr__(self, "edits", tuple(sorted(flat, key=digest)))  # type: ignore[arg-type]
        plain = [edit.gate if edit.tokens() == "all" else None for edit in self.edits]
        object.__setattr__(self, "_bank", GateBank.among(plain))
        self._share()

    @classmethod
    def of(cls, *edits: SiteEdit) -> SiteEdit:
        """These edits as one; a single one stays what it is."""
        return edits[0] if len(edits) == 1 else cls(edits)

    @property
    def site(self) -> Site:  # type: ignore[override]
        return self.edits[0].site

    def branches(self) -> tuple[SiteEdit, ...]:
        """The edits in it."""
        return self.edits

    def gate_bank(self) -> GateBank | None:
        """The gates that can judge together."""
        return self._bank

    def _share(self) -> None:
        """Gives every distinct feature of the clamps one row, and every clamp its places among the rows."""
        clamps = {number: edit for number, edit in enumerate(self.edits) if isinstance(edit, FeatureClamp)}
        if not clamps:
            return
        rows, places = merged([edit.rows for edit in clamps.values()])
        object.__setattr__(self, "_rows", rows)
        for (number, edit), place in zip(clamps.items(), places, strict=True):
            self._slots[number] = place
            if edit.action.kind in ("zero", "scale"):
                gamma = edit.action.gamma if edit.action.kind == "scale" else 0.0
                factor = torch.zeros_like(rows.bias)
                factor[place] = edit.strength * (gamma - 1)
                self._factors[number] = factor

    def transform(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Every position edited by every edit, gates apart."""
        return self.summed(x, dict.fromkeys(range(len(self.edits))))

    def summed(self, x: Float[Tensor, "b t d"], inside: Mapping[int, Tensor | None]) -> Float[Tensor, "b t d"]:
        """x plus the changes of the edits numbered in `inside`, each at its positions (None: everywhere)."""
        dtype = working_dtype(x)
        wide, total = x.to(dtype), torch.zeros_like(x, dtype=dtype)
        changed: Bool[Tensor, "b t 1"] = torch.zeros_like(x[..., :1], dtype=torch.bool)
        for number in sorted(inside):
            edit, mask = self.edits[number], inside[number]
            if not isinstance(edit, FeatureClamp):
                delta = edit.transform(wide) - wide
                delta = delta if mask is None else torch.where(mask[..., None], delta, 0.0)
                total, changed = total + delta, changed | (delta != 0).any(-1, keepdim=True)
        if clamps := [number for number in sorted(inside) if number in self._slots]:
            assert self._rows is not None
            # only the features of those that are open are read, each of them once
            used = torch.cat([self._slots[number] for number in clamps]).unique()
            rows = FeatureRows(*(part[used].to(x.device, dtype) for part in self._rows))
            change = self._strongest(rows.encode(wide), used, {number: inside[number] for number in clamps})
            total, changed = total + change @ rows.decoder, changed | (change != 0).any(-1, keepdim=True)
        return torch.where(changed, x + total.to(x.dtype), x)

    def _strongest(
        self, z: Float[Tensor, "b t u"], used: Int[Tensor, " u"], inside: Mapping[int, Tensor | None]
    ) -> Float[Tensor, "b t u"]:
        """Of every feature, the largest change that one of these clamps makes, each at its positions."""
        factor = z.new_zeros(1, 1, len(used))
        for number in inside.keys() & self._factors.keys():
            factor = _larger(factor, self._factors[number][used].to(z), _rowwise(inside[number]))
        # zero and scale are multiples of z: of many such clamps the largest multiple is found before z is touched
        strongest = factor * z
        for number in sorted(inside.keys() - self._factors.keys()):
            edit = self.edits[number]
            assert isinstance(edit, FeatureClamp)
            slots = torch.searchsorted(used, self._slots[number])
            own = z[..., slots]
            change = edit.strength * (edit.action(own) - own)
            strongest[..., slots] = _larger(strongest[..., slots], change, inside[number])
        return strongest

    def bake(self, model) -> None:  # noqa: ANN001, ARG002
        """No exact form: edits that read the same activation do not follow each other in the weights."""
        raise NotBakeable("Sum has no exact form in the weights. Ship the recipe, or bake its edits one by one.")

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Sum:
        """The same edits on this device, in the same order."""
        moved = tuple(edit.to(device, dtype) for edit in self.edits)
        if all(a is b for a, b in zip(moved, self.edits, strict=True)):
            return self
        made = object.__new__(Sum)
        rows = None if self._rows is None else FeatureRows(*(part.to(device, dtype) for part in self._rows))
        slots = {number: slot.to(device) for number, slot in self._slots.items()}
        factors = {number: factor.to(device, dtype) for number, factor in self._factors.items()}
        bank = None if self._bank is None else self._bank.to(device, dtype)
        # Another type gives other digests: the order of the original is kept.
        values = {"edits": moved, "_rows": rows, "_slots": slots, "_factors": factors, "_bank": bank}
        for name, value in values.items():
            object.__setattr__(made, name, value)
        return made

    def to_parts(self) -> Parts:
        """Settings and tensors, for a recipe."""
        return nested(self.edits)  # type: ignore[arg-type]

    @classmethod
    def from_parts(cls, parts: Parts) -> Sum:
        """The edit that `to_parts` wrote."""
        return cls(unnested(parts))


def _larger(old: Tensor, new: Tensor, mask: Tensor | None) -> Tensor:
    """What is further from zero, where the mask lets it in."""
    better = new.abs() > old.abs()
    return torch.where(better if mask is None else better & mask[..., None], new, old)


def _rowwise(mask: Tensor | None) -> Tensor | None:
    """A mask that says the same of all positions of a row (an image gate's, unless padding is spared), [b, 1]."""
    return mask[:, :1] if mask is not None and mask.stride(1) == 0 else mask
