"""The one training loop: a loss, some weights, some steps; what was learned at the steps asked for."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from concept_forget.concepts import ForgetRequest
from concept_forget.edits import LowRank
from concept_forget.methods.training.material import Material, drawn, evenly
from concept_forget.methods.training.reading import Reader, Step
from concept_forget.methods.training.trained import trained
from concept_forget.model import HookedModel
from concept_forget.sites import Site

if TYPE_CHECKING:
    from concept_forget.methods.training.base import WeightMethod

Deltas = dict[str, "torch.Tensor | LowRank"]
WATCHER: ContextVar[Callable[[str, int, int], None] | None] = ContextVar("watcher", default=None)


class DivergedError(ValueError):
    """A training went to infinity."""


@contextmanager
def watched(watcher: Callable[[str, int, int], None] | None) -> Iterator[None]:
    """Under this context trainings call watcher(stage, step, steps); whatever it raises ends them, all put back."""
    token = WATCHER.set(watcher)
    try:
        yield
    finally:
        WATCHER.reset(token)


def train(
    model: HookedModel,
    method: WeightMethod,
    request: ForgetRequest,
    sites: Sequence[Site] | None,
    checkpoints: Sequence[int],
) -> list[Deltas]:
    """What `method.loss` teaches, as it stands after each of the steps in `checkpoints`; the model stays as it was.

    AdamW at a constant rate after a short warm-up, gradients clipped to norm 1, through accelerate. The schedule does
    not know the last step, so a training of 40 steps passes through all shorter ones: choosing the number of steps on
    validation costs one training. Half-precision models compute in their own type and learn in float32. Everything
    random is drawn from the request's seed. Raises DivergedError when the loss stops being finite, and what `trained`
    and `Material` raise.
    """
    from accelerate import Accelerator

    material, watcher = Material.of(request.concept), WATCHER.get()
    if method.keeps and not material.keep:
        raise ValueError(f"Method {method.name!r} needs examples to keep, and there are none. Give some to retain.")
    device, kind = model.device, model.dtype
    half = kind in (torch.float16, torch.bfloat16)
    devices = [device] if device.type != "cpu" else []
    found: list[Deltas] = []
    memory: dict[str, Any] = {}
    with torch.random.fork_rng(devices, device_type=device.type if devices else "cuda"):
        torch.manual_seed(request.seed)
        with trained(model, sites, method.lora) as learning, torch.enable_grad():
            accelerator = Accelerator(gradient_accumulation_steps=method.accumulate, device_placement=False)
            adam = torch.optim.AdamW(learning.parameters, lr=method.rate, weight_decay=0.0)
            rising = torch.optim.lr_scheduler.LambdaLR(adam, lambda done: min(1.0, (done + 1) / (method.warmup + 1)))
            optimizer, schedule = accelerator.prepare(adam, rising)
            batches = _batches(method, material, request.seed)
            last, done = max(checkpoints), 0
            for number, examples in enumerate(batches):
                if watcher:
                    watcher(f"training ({method.name})", done, last)
                epoch = number * method.batch // len(material.forget)
                step = Step(done, epoch, examples, Reader(model), learning.untouched, memory)
                # Casts are not remembered: the untouched weights are read in between, under the same names.
                computing = torch.autocast(device.type, kind, cache_enabled=False) if half else nullcontext()
                with accelerator.accumulate():
                    with computing:
                        loss = method.loss(step)
                    if not bool(torch.isfinite(loss)):
                        raise DivergedError(
                            f"Method {method.name!r} diverged at step {done} (loss {float(loss.detach()):g}): lower "
                            f"the rate ({method.rate:g}) or take fewer steps."
                        )
                    accelerator.backward(loss)
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(learning.parameters, 1.0)
                    optimizer.step()
                    schedule.step()
                    optimizer.zero_grad()
                done += accelerator.sync_gradients
                if accelerator.sync_gradients and done in checkpoints:
                    with torch.no_grad():
                        found.append(learning.deltas())
                if done == last:
                    break
    return found


def _batches(method: WeightMethod, material: Material, seed: int) -> Iterator[dict[str, list]]:
    """The pairs of every step: to forget (their kinds in turn), as many to keep, and the former with other answers."""
    rng = random.Random(f"{seed}/{material.concept.name}")
    forget = evenly(material.forget, method.batch, rng)
    keep = drawn(material.keep, method.batch, rng) if material.keep else None
    for chosen in forget:
        examples = {"forget": chosen, "keep": next(keep) if keep else []}
        examples["instead"] = [replace(e, answer=method.answer(e, material, rng)) for e in chosen]
        yield examples
