"""What an edit is, and the engine that applies edits to a running model and takes them off again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from concept_forget.architecture import tokens_of
from concept_forget.edits.held import HeldWeights
from concept_forget.edits.places import Doorways, Places, union
from concept_forget.sites import Site
from concept_forget.tokens import real_tiles

if TYPE_CHECKING:
    from concept_forget.edits.gate_bank import GateBank
    from concept_forget.model import HookedModel


class NotBakeable(ValueError):
    """This edit has no exact form in the weights."""


@runtime_checkable
class Gate(Protocol):
    """Says which positions an edit may change."""

    def decide(self, x: Float[Tensor, "b t d"], eligible: Bool[Tensor, "b t"] | None = None) -> Bool[Tensor, "b t"]:
        """The open positions. `eligible` are those that are not padding (None: all); judge by these alone.

        Padding may be among the open ones: in a picture it reaches the answer too (`Engine._editable`).
        """
        ...


class Stat(Protocol):
    """Proof that an edit bites, as it stands in results.json."""

    edit: str
    """Kind of edit."""

    def to_json(self) -> dict[str, Any]: ...

    def plus(self, other: Any) -> Stat:
        """This and the proof of another run under the same edit as one."""
        ...


class Edit:
    """A frozen, reversible change of what a model computes."""

    def applied(self, model: HookedModel) -> AbstractContextManager[list[Any]]:
        """Under this context the model computes with the edit; afterwards it is bit for bit what it was."""
        return applied(model, [self])

    def attached(self, model: HookedModel) -> AbstractContextManager[Stat | None]:  # noqa: ARG002
        """What an edit that is no `SiteEdit` does to the model while it is applied, and undoes: nothing by default.

        Yields the proof that it bites, if it has one.
        """
        return nullcontext()

    def prompt(self, text: str) -> str:
        """The user's words as this edit has them."""
        return text

    def each(self) -> tuple[Edit, ...]:
        """The edits it consists of, in the order in which they are applied: itself, unless it is `Together`."""
        return (self,)

    def bake(self, model: HookedModel) -> None:  # noqa: ARG002
        """Writes the edit into the weights for good. Raises NotBakeable where that is not exactly possible."""
        raise NotBakeable(
            f"{type(self).__name__} has no exact form in the weights. Ship the recipe and apply it while the model "
            "runs, or use an edit that is linear in the activation (SubspaceErase, Shift)."
        )


class SiteEdit(Edit, ABC):
    """An edit of the activation at one site: x' = transform(x) where the gate is open, x elsewhere."""

    site: Site
    gate: Gate | None

    def branches(self) -> tuple[SiteEdit, ...]:
        """Edits that all read the same x, each behind its own gate: none, unless it is `Sum`."""
        return ()

    def gate_bank(self) -> GateBank | None:
        """Of an edit with branches: those of their gates that can judge together."""
        return None

    def tokens(self) -> Literal["all", "image", "text"]:
        """Which positions of a prompt it is for, at a text site: everything, unless it is `OnTokens`."""
        return "all"

    @abstractmethod
    def transform(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Every position edited; a pure function of the activation. The gate is the engine's business."""

    def summed(self, x: Float[Tensor, "b t d"], inside: Mapping[int, Tensor | None]) -> Float[Tensor, "b t d"]:  # noqa: ARG002
        """x plus the changes of the branches numbered in `inside`, each at its positions (None: everywhere).

        An edit without branches is its own only one, and the engine keeps it to its positions.
        """
        return self.transform(x)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> SiteEdit:  # noqa: ARG002
        """The same edit with its tensors on this device."""
        return self


@dataclass(eq=False)
class HookStat:
    """Proof that an edit bites. Reading a number waits for the device; counting does not."""

    site: Site
    edit: str
    """Kind of edit."""
    calls: int = 0
    """Times the site came by."""
    _tokens: Tensor | int = field(default=0, repr=False)
    _moved: Tensor | float = field(default=0.0, repr=False)

    @property
    def tokens(self) -> int:
        """Positions at which the edit was let in."""
        return int(self._tokens)

    @property
    def mean_abs_delta(self) -> float:
        """Mean |x' - x| over these positions and all coordinates; 0 where there were none."""
        return float(self._moved) / self.tokens if self.tokens else 0.0

    def to_json(self) -> dict[str, Any]:
        """As it stands in results.json."""
        numbers = {"calls": self.calls, "tokens": self.tokens, "mean_abs_delta": self.mean_abs_delta}
        return {"site": str(self.site), "edit": self.edit, **numbers}

    def plus(self, other: HookStat) -> HookStat:
        """Counts added up, mean |delta| weighted by tokens."""
        moved = self.mean_abs_delta * self.tokens + other.mean_abs_delta * other.tokens
        return HookStat(self.site, self.edit, self.calls + other.calls, self.tokens + other.tokens, moved)

    @torch.no_grad()
    def count(self, x: Tensor, new: Tensor, inside: Tensor | None) -> None:
        moved = torch.linalg.vector_norm(new - x, ord=1, dim=-1, dtype=torch.float32) / x.shape[-1]
        self._tokens += moved.numel() if inside is None else inside.sum()
        self._moved += (moved if inside is None else torch.where(inside, moved, 0.0)).sum()


@dataclass(eq=False)
class Pass:
    """What the forward pass under way is about, noted as it enters the model."""

    mask: Tensor | None = None
    """Attention mask [b, everything so far]."""
    tiles: Tensor | None = None
    ids: Tensor | None = None
    """Token ids [b, those that are new]."""
    continuing: bool = False
    """A later step of a generation: gates keep what they decided at the prompt."""


@dataclass(eq=False)
class Engine:
    """The hooks on one model: one per site, however many edits and contexts share it, plus one at the entrance."""

    model: HookedModel
    at: Pass = field(default_factory=Pass)
    running: dict[Site, list[_Running]] = field(default_factory=dict)
    handles: dict[Site | None, RemovableHandle] = field(default_factory=dict)
    steps: int | None = None
    """Forward passes so far in the generation under way; None outside `HookedModel.generate`."""
    paused: bool = False
    rules: list[Any] = field(default_factory=list)
    """The decoding rules applied, with their proofs (`edits.decoding.RunningRule`)."""
    weights: HeldWeights = field(default_factory=HeldWeights)

    def add(self, running: _Running) -> None:
        """Lets an edit run after those already at its site."""
        site = running.edit.site
        module, end = self.model.module(site)
        if None not in self.handles:
            self.handles[None] = self.model.model.register_forward_pre_hook(self._enter, prepend=True, with_kwargs=True)
        if site not in self.handles:
            self.handles[site] = hook(module, end, lambda x: self._run(site, x), first=True)
        self.running.setdefault(site, []).append(running)

    def remove(self, running: _Running) -> None:
        """Takes an edit off, and the hooks nothing needs any more."""
        site = running.edit.site
        if running in self.running.get(site, []):
            self.running[site].remove(running)
        if not self.running.get(site):
            self.running.pop(site, None)
            if site in self.handles:
                self.handles.pop(site).remove()
        if not self.running and None in self.handles:
            self.handles.pop(None).remove()
            self.at = Pass()

    def _enter(self, _module: nn.Module, _args: tuple, inputs: dict[str, Any]) -> None:
        mask, cache = inputs.get("attention_mask"), inputs.get("past_key_values")
        cached = cache is not None and hasattr(cache, "get_seq_length") and int(cache.get_seq_length()) > 0
        if not isinstance(mask, Tensor) or mask.dim() != 2:
            mask = None
        ids = inputs.get("input_ids")
        self.at = Pass(mask, real_tiles(inputs.get("aspect_ratio_mask")), ids, cached or bool(self.steps))
        if self.steps is not None:
            self.steps += 1

    def _run(self, site: Site, x: Tensor) -> Tensor | None:
        if self.paused:
            return None
        tokens = new = tokens_of(x, self._rows(x))
        places = Places(self._eligible(site, tokens), self._editable(site, tokens), self._pictures(site, tokens))
        for running in self.running[site]:
            new = running(new, places, self.at.continuing)
        return None if new is tokens else new.reshape(x.shape)

    def _rows(self, x: Tensor) -> int | None:
        return len(self.at.mask) if x.dim() == 2 and self.at.mask is not None else None

    def _eligible(self, site: Site, x: Tensor) -> Tensor | None:
        """What is there: gates judge by it."""
        b, t, _ = x.shape
        if site.tower == "text":
            mask = self.at.mask
            if mask is None or mask.shape[1] < t or len(mask) != b:
                return None
            # The mask covers the whole past, the activation only what is new.
            return mask[:, -t:].to(x.device).bool()
        layout = self.model.layout
        mask = layout.eligible(site, self.at.tiles) if layout else None
        return mask.to(x.device) if mask is not None and mask.shape == (b, t) else None

    def _editable(self, site: Site, x: Tensor) -> Tensor | None:
        """What an edit may change: all but padding in the text, everything in a picture.

        Mllama's padded tiles are a way round an edit that spares them: in the tower real and padded patches attend to
        each other, and words before the picture attend to every tile (their mask row is all padding, so it is lifted).
        """
        return self._eligible(site, x) if site.tower == "text" else None

    def _pictures(self, site: Site, x: Tensor) -> Tensor | None:
        token, ids = self.model.image_token, self.at.ids
        if site.tower != "text" or token is None or ids is None or ids.shape != x.shape[:2]:
            return None
        return (ids == token).to(x.device)


@dataclass(eq=False)
class _Running:
    """A site edit under application: its proof and what its gates decided. The edit itself stays frozen."""

    edit: SiteEdit
    stat: HookStat
    doors: Doorways | None = None
    """One per branch, or the edit's own."""
    placed: SiteEdit | None = None

    def __call__(self, x: Tensor, places: Places, continuing: bool) -> Tensor:
        self.stat.calls += 1
        if self.placed is None:
            half = x.dtype in (torch.float16, torch.bfloat16)
            self.placed = self.edit.to(x.device, torch.float32 if half else x.dtype)
            self.doors = Doorways(self.placed.branches() or (self.placed,), self.placed.gate_bank())
        assert self.doors is not None
        insides = self.doors(x, places, continuing)
        if not insides:
            return x
        inside = union(list(insides.values()))
        new = self.placed.summed(x, insides)
        if new.shape != x.shape:
            kind, shapes = type(self.edit).__name__, f"{tuple(x.shape)} into {tuple(new.shape)}"
            raise ValueError(f"{kind} at {self.edit.site} turned {shapes}; an edit must keep the shape.")
        new = new.to(x.dtype)
        if inside is not None:
            new = torch.where(inside[..., None], new, x)
        self.stat.count(x, new, inside)
        return new


def hook(module: nn.Module, end: str, act: Callable[[Tensor], Tensor | None], first: bool) -> RemovableHandle:
    """Lets `act` see, and replace unless it returns None, the tensor that goes "in" or comes "out" of a module.

    `first` puts it before all other hooks. transformers collects `hidden_states`, which LLaVA reads, with hooks of its
    own from the first forward pass on: an edit that ran after them would change nothing.
    """
    if end == "in":

        def before(_module: nn.Module, args: tuple, named: dict[str, Any]) -> tuple[tuple, dict] | None:
            if args:
                new = act(args[0])
                return None if new is None else ((new, *args[1:]), named)
            name = next(key for key, value in named.items() if isinstance(value, Tensor))
            new = act(named[name])
            return None if new is None else (args, {**named, name: new})

        return module.register_forward_pre_hook(before, prepend=first, with_kwargs=True)

    def after(_module: nn.Module, _args: tuple, output: Any) -> Any:
        if isinstance(output, Tensor):
            return act(output)
        new = act(output[0])
        return None if new is None else (new, *output[1:])

    return module.register_forward_hook(after, prepend=first)


@contextmanager
def applied(model: HookedModel, edits: Sequence[Edit]) -> Iterator[list[Any]]:
    """Runs the model with these edits, in this order at a shared site, and restores it, also when the body raises.

    Yields one HookStat per site edit, then the proofs (`Stat`) of other edits that have one; contexts nest, the outer
    edits first. Raises LookupError for a site the model does not have and DeadSiteError for one that cannot reach the
    answer (not asked of a model on the meta device).
    """
    edits = [one for edit in edits for one in edit.each()]
    running = [_Running(edit, HookStat(edit.site, type(edit).__name__)) for edit in edits if isinstance(edit, SiteEdit)]
    if model.device.type != "meta":
        for site in dict.fromkeys(one.edit.site for one in running):
            model.require_live(site)
    with ExitStack() as stack:
        for one in running:
            stack.callback(model.engine.remove, one)
            model.engine.add(one)
        stats: list[Any] = [one.stat for one in running]
        for edit in edits:
            if not isinstance(edit, SiteEdit) and (stat := stack.enter_context(edit.attached(model))) is not None:
                stats.append(stat)
        yield stats
