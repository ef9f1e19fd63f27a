"""Running only the rest of a model: blocks below a layer answer from memory, many rows at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from analysis.tracing.corruption import Question
from concept_forget.edits.base import hook
from concept_forget.model import HookedModel
from concept_forget.sites import Site

STREAMS = ("resid", "attn", "mlp")
Tower = Literal["text", "vision"]


class CannotReplay(ValueError):
    """This tower cannot be run from the middle."""


@dataclass(frozen=True, eq=False)
class Recording:
    """Everything one row computed: what it takes to start again at any block."""

    question: Question
    entry: Float[Tensor, "1 t d"]
    """What went into the first block."""
    states: dict[Site, Float[Tensor, "1 t d"]]
    """What came out at every site of the tower."""
    call: tuple[tuple, dict[str, Any]] | None
    """What the decoder was called with (text); None for the vision tower."""
    logits: Float[Tensor, " vocabulary"]
    """Of the token after the prompt."""


@dataclass(frozen=True, eq=False)
class Patch:
    """In each row, the positions of a site that take the value of another recording."""

    site: Site
    mask: Bool[Tensor, "rows t"]
    sources: tuple[Float[Tensor, "1 t d"], ...]
    """One per base recording."""


@dataclass(eq=False)
class Replay:
    """Records rows of a model and runs copies of them again from a block, with patches.

    A block below the start is not computed: it hands out what it did when the row was recorded. The decoder is called
    with what it was called with then, so positions, masks and cross-attention states are right in any architecture;
    the model's own code computes everything after the last block. For the vision tower the model runs as a whole, with
    the lower blocks of the tower answering from memory.
    """

    model: HookedModel
    tower: Tower = "text"
    blocks: list[nn.Module] = field(init=False)
    sites: tuple[Site, ...] = field(init=False)
    passes: int = 0
    rows: int = 0
    """Row-forwards: rows that went through at least the head of the model."""
    work: float = 0.0
    """Rows weighted by the share of the tower's blocks that were run."""
    _tuples: bool = False

    def __post_init__(self) -> None:
        self.blocks = getattr(self.model.anatomy, self.tower)
        if not self.blocks:
            raise CannotReplay(f"{self.model.name} has no vision tower to trace. Trace tower='text'.")
        self.sites = tuple(site for site in self.model.sites() if site.tower == self.tower)

    def record(self, question: Question) -> Recording:
        """One clean or spoilt row, run once. Raises CannotReplay for a tower that has no batch dimension."""
        found: dict[str, Any] = {}
        handles = [hook(self.blocks[0], "in", partial(_keep, found, "entry"), first=False)]
        handles.append(self.blocks[0].register_forward_hook(lambda _m, _a, out: found.update(form=type(out))))
        if self.tower == "text":
            decoder = self.model.model.get_decoder()
            handles.append(
                decoder.register_forward_pre_hook(
                    lambda _m, args, named: found.update(call=(args, dict(named))), prepend=True, with_kwargs=True
                )
            )
        try:
            with question.noise.applied() if question.noise else nullcontext():
                run = self.model.run(question.batch, read=self.sites)
        finally:
            for handle in handles:
                handle.remove()
        if found["entry"].dim() != 3 or len(found["entry"]) != 1:
            raise CannotReplay(
                f"The vision tower of {self.model.name} runs pictures as one sequence, {tuple(found['entry'].shape)}; "
                "its cells cannot be batched. Trace tower='text', where the picture's tokens are columns too."
            )
        self._tuples = found["form"] is not Tensor and issubclass(found["form"], tuple)
        self._count(1, 0)
        return Recording(question, found["entry"], run.activations, found.get("call"), run.logits[0])

    @torch.no_grad()
    def run(
        self, base: Sequence[Recording], copies: int, first: int, patches: Sequence[Patch]
    ) -> Float[Tensor, "rows vocabulary"]:
        """Logits after the prompt of `copies` rows of every base recording (base by base), blocks from `first` on.

        Patches of `resid` just below `first` change what that block hands out; all others are set while it runs.
        """
        below = [Site(self.tower, layer, "resid") for layer in range(first)]
        remembered = {site: [recording.states[site] for recording in base] for site in below}
        rows = {site: _rows(states, copies) for site, states in remembered.items()}
        live = []
        for patch in patches:
            if patch.site in rows:
                rows[patch.site] = _patched(rows[patch.site], patch)
            else:
                live.append(patch)
        with ExitStack() as stack:
            stack.enter_context(remembering(self.blocks, [rows[site] for site in below], self._tuples))
            if first == 0:
                entry = _rows([recording.entry for recording in base], copies)
                stack.callback(hook(self.blocks[0], "in", lambda _x: entry, first=True).remove)
            for patch in live:
                act = partial(_patched, patch=patch)
                stack.callback(hook(*self.model.module(patch.site), act, first=True).remove)
            logits = self._whole(base, copies) if self.tower == "vision" else self._decoder(base, copies, stack)
        self._count(len(base) * copies, first)
        return logits

    def _decoder(self, base: Sequence[Recording], copies: int, stack: ExitStack) -> Tensor:
        called = expanded([recording.call for recording in base], copies)
        decoder = self.model.model.get_decoder()
        handle = decoder.register_forward_pre_hook(lambda _m, _a, _k: called, prepend=True, with_kwargs=True)
        stack.callback(handle.remove)
        shape = base[0].question.batch.inputs["input_ids"].shape
        # The decoder gets what it was called with before; these only have the right shape.
        ids = torch.zeros(len(base) * copies, shape[1], dtype=torch.long, device=self.model.device)
        options = {"logits_to_keep": 1} if "logits_to_keep" in self.model._accepts else {}
        return self.model.model(input_ids=ids, use_cache=False, **options).logits[:, -1]

    def _whole(self, base: Sequence[Recording], copies: int) -> Tensor:
        batches = [recording.question.batch for recording in base]
        _, inputs = expanded([((), batch.inputs) for batch in batches], copies)
        return self.model.run(replace(batches[0], inputs=inputs)).logits

    def _count(self, rows: int, first: int) -> None:
        self.passes += 1
        self.rows += rows
        self.work += rows * (1 - first / len(self.blocks))


@contextmanager
def remembering(blocks: Sequence[nn.Module], outputs: Sequence[Tensor], tuples: bool) -> Iterator[None]:
    """The first blocks hand out these tensors instead of computing. Their hooks still run; accelerate's come back."""
    before: list[tuple[nn.Module, Callable | None]] = []
    try:
        for block, output in zip(blocks, outputs, strict=False):
            before.append((block, block.__dict__.get("forward")))
            block.__dict__["forward"] = partial(_hand_out, (output, None) if tuples else output)
        yield
    finally:
        for block, forward in before:
            if forward is None:
                del block.__dict__["forward"]
            else:
                block.__dict__["forward"] = forward


def expanded(calls: Sequence[Any], copies: int) -> Any:
    """The calls of batches of one as the call of one batch: `copies` rows of the first, then of the second, ...

    Every tensor of two or more axes holds one row of a batch (Mllama's cross-attention states: as many as tiles).
    Position ids of three axes have the batch second (Qwen2-VL).
    """
    flat = [tree_flatten(call) for call in calls]
    leaves = [_leaf([leaves[i] for leaves, _ in flat], copies) for i in range(len(flat[0][0]))]
    return tree_unflatten(leaves, flat[0][1])


def _leaf(values: list[Any], copies: int) -> Any:
    first = values[0]
    if not isinstance(first, Tensor) or first.dim() < 2:
        return first
    if first.dim() == 3 and not first.is_floating_point() and first.shape[0] in (3, 4) and first.shape[1] == 1:
        return torch.cat([value.expand(-1, copies, -1) for value in values], 1)
    rows = [value[None].expand(copies, *value.shape).flatten(0, 1) for value in values]
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def _rows(states: Sequence[Tensor], copies: int) -> Tensor:
    rows = [state.expand(copies, -1, -1) for state in states]
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def _patched(x: Tensor, patch: Patch) -> Tensor:
    """x [base * rows, t, d] with the patch's positions taken from its sources."""
    shape = x.shape
    x = x.reshape(len(patch.sources), len(patch.mask), -1, shape[-1])
    source = torch.stack(patch.sources).to(x)
    return torch.where(patch.mask[None, :, :, None].to(x.device), source, x).view(shape)


def _hand_out(output: Any, *_args: Any, **_named: Any) -> Any:
    return output


def _keep(found: dict[str, Any], name: str, x: Tensor) -> None:
    found[name] = x
