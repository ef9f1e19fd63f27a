"""Whether what is done at a site reaches the answer: proved by effect, never assumed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from concept_forget import preparing
from concept_forget.edits.base import hook
from concept_forget.sites import Site

if TYPE_CHECKING:
    from concept_forget.model import HookedModel


class DeadSiteError(ValueError):
    """Nothing done at this site reaches the answer."""


@dataclass(frozen=True)
class Liveness:
    change: float
    """Largest change of a next-token logit under noise as large as the activation itself; inf where they overflow."""
    scale: float
    """Standard deviation of the logits: what a change is measured against."""

    @property
    def is_live(self) -> bool:
        return self.change > 1e-4 * self.scale


def measured(model: HookedModel, site: Site) -> Liveness:
    """The effect of noise at a site, on a noise picture and a prompt of its own. The random state stays as it is."""
    batch = preparing.noise_batch(model)
    before = model.run(batch).logits.float()
    if not bool(before.isfinite().all()):
        raise ValueError(f"The logits of {model.name} are not finite even unedited. Check weights and dtype.")
    handle = hook(*model.module(site), _noisy, first=True)
    try:
        after = model.run(batch).logits.float()
    finally:
        handle.remove()
    # Zeros instead of noise give NaN in CLIP, and NaN > 0 is False: an effect must never look like none.
    change = float((after - before).abs().max()) if bool(after.isfinite().all()) else float("inf")
    return Liveness(change, float(before.std()))


def explained(model: HookedModel, site: Site, found: Liveness) -> str:
    """Why a site is dead and which are not, for the error."""
    if site.tower != "text" and model.anatomy.closed_gates():
        return (
            f"{site} cannot reach the answers of {model.name}: the gates of its cross-attention layers are closed, so "
            "the model sees no pictures at all. Train it, or open the gates; the site itself is not at fault."
        )
    near = {model.reading_site: 0, Site("text", len(model.anatomy.text) // 2, "resid"): 0}
    return (
        f"{site} is dead in {model.name}: noise there changes no logit (largest change {found.change:.1g}), so an edit "
        f"would do nothing. Live are for example {' and '.join(str(one) for one in near if one != site)}."
    )


def _noisy(x: Tensor) -> Tensor:
    generator = torch.Generator(device=x.device).manual_seed(0)
    noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=torch.float32)
    scale = x.float().std()
    return (x + noise * torch.where(scale > 0, scale, 1.0)).to(x.dtype)
