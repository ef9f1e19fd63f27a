"""The optimiser of the zoo: Muon for the matrices inside blocks, AdamW for everything else, one schedule."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn


class Optimiser:
    """Muon (Jordan 2024; updates scaled to AdamW's, Liu et al. 2025) beside AdamW: warm-up, plateau, decay."""

    def __init__(self, modules: Iterable[nn.Module], rate: float, steps: int, warmup: int = 100) -> None:
        named = [pair for module in modules for pair in module.named_parameters()]
        inside = [p for name, p in named if p.ndim == 2 and "layers." in name]
        chosen = {id(p) for p in inside}
        outside = [p for _, p in named if id(p) not in chosen]
        self.parameters = inside + outside
        self.parts = [
            torch.optim.Muon(inside, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(outside, lr=rate, weight_decay=0.01, betas=(0.9, 0.98)),
        ]
        self.rate, self.steps, self.warmup, self.done = rate, steps, min(warmup, steps // 4 + 1), 0

    def step(self) -> None:
        """Clip, step at the scheduled rate, clear the gradients."""
        decay = min(1.0, 2 * (1 - self.done / self.steps)) * 0.98 + 0.02
        rate = self.rate * min(1.0, (self.done + 1) / self.warmup) * decay
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()
            part.zero_grad()
        self.done += 1

    def state_dict(self) -> dict[str, object]:
        return {"done": self.done, "parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: dict) -> None:
        self.done = state["done"]
        for part, saved in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(saved)
