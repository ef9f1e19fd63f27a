"""Distilling an edit into the weights: LoRA is trained until the plain model does what the hooked one did."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from concept_forget.concepts import Concept, Example, ExampleSet
from concept_forget.edits import Edit, SiteEdit, WeightDelta
from concept_forget.edits.base import NotBakeable
from concept_forget.model import HookedModel
from concept_forget.sites import Site
from concept_forget.tokens import Batch


@dataclass(frozen=True)
class Distil:
    """Settings of the distillation."""

    rank: int = 16
    steps: int = 300
    """At most; it ends earlier when the validation loss is below `enough`."""
    learning_rate: float = 3e-3
    batch_size: int = 16
    """Half of each batch is about the concept, half is to be kept."""
    keep: float = 2.0
    """Weight of what is to be kept against what is to be taken over."""
    enough: float = 0.02
    """Validation loss, in shares of the edit's own effect, at which it is good enough."""
    every: int = 50
    """Steps between looks at validation."""
    seed: int = 0


class Distilled(NamedTuple):
    """How the distillation went; the weights are merged into the student."""

    steps: int
    forget: float
    """Share of the edit's effect on activations that is missing, on validation examples about the concept."""
    retain: float
    """Change of activations on other validation examples, in units of that effect."""
    parameters: int
    """Numbers trained."""


def distil(
    teacher: HookedModel,
    edits: Sequence[Edit],
    student: HookedModel,
    concept: Concept,
    settings: Distil | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Distilled:
    """Trains LoRA on `student`, a copy of `teacher`, to compute without hooks what `teacher` computes under `edits`.

    loss = mean_forget |s - t|^2 / E + keep mean_retain |s - t|^2 / E + KL(t || s) of the next token, with s, t the
    activations behind the edits (projector.out for pictures, the last edited text block), E = mean_forget |t - b|^2 the
    edit's own effect and b the bare activation. The KL is left out where the edits are on the picture side: then the
    text side is not run at all. LoRA stands on every Linear before that place; it is merged at the end. Raises
    NotBakeable for edits without a place (prompts, decoding rules) and ValueError where the edit has no effect.
    """
    from peft import LoraConfig, get_peft_model

    settings = settings or Distil()
    place, names = _places(student, edits)
    reader = _Reader(teacher, student, list(edits), place)
    sets = {name: _parts(part, place) for name, part in (("train", concept.train), ("validation", concept.validation))}
    effect = reader.effect(sets["validation"][0][:64])
    if not effect > 0:
        raise ValueError(f"The edits change nothing at {place} on the pictures (texts) of {concept.name!r}.")
    torch.manual_seed(settings.seed)
    config = LoraConfig(r=settings.rank, lora_alpha=2 * settings.rank, target_modules=names, lora_dropout=0.0)
    original = student.model
    wrapped: Any = get_peft_model(original, config)
    trained = [p for p in wrapped.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.learning_rate, settings.steps, pct_start=0.1)
    best, kept, step = (float("inf"), float("inf")), [p.detach().clone() for p in trained], 0
    draws = _batches(*sets["train"], settings)
    try:
        for step in range(1, settings.steps + 1):
            forget, retain = reader.losses(next(draws), effect)
            loss = forget + settings.keep * retain
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimiser.step()
            schedule.step()
            if progress:
                progress(step, settings.steps)
            if step % settings.every == 0 or step == settings.steps:
                found = reader.measure(sets["validation"], effect)
                if sum(found) < sum(best):
                    best, kept = found, [p.detach().clone() for p in trained]
                if sum(best) < settings.enough:
                    break
    finally:
        with torch.no_grad():
            for parameter, value in zip(trained, kept, strict=True):
                parameter.copy_(value)
        wrapped.merge_and_unload()
        original.requires_grad_(False)
    return Distilled(step, *best, sum(p.numel() for p in trained))


def distilled(
    model: HookedModel,
    edits: Sequence[Edit],
    concept: Concept,
    settings: Distil | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> WeightDelta:
    """What `distil` teaches a copy of the model, as a weight edit of the model itself, which stays as it was.

    Raises as `distil` does. Holds the model twice while it learns.
    """
    copy = HookedModel(deepcopy(model.model), model.processor, model.name, model.revision)
    distil(model, edits, copy, concept, settings, progress)
    before = dict(model.model.named_parameters())
    learned = {name: p.detach() - before[name].detach() for name, p in copy.model.named_parameters()}
    return WeightDelta({name: delta for name, delta in learned.items() if bool((delta != 0).any())})


class _Reader:
    """What teacher and student compute at the place that counts."""

    def __init__(self, teacher: HookedModel, student: HookedModel, edits: list[Edit], place: Site) -> None:
        self.teacher, self.student, self.edits, self.place = teacher, student, edits, place
        self.logits: Any = "last" if place.tower == "text" else None

    def losses(self, parts: Sequence[Sequence[Example]], effect: float) -> list[Tensor]:
        """The loss of each part; all are read in one pass where all have a picture or none has."""
        if len(parts) > 1 and len({example.image is None for part in parts for example in part}) > 1:
            return [loss for part in parts for loss in self.losses([part], effect)]
        batch = self._prepared([example for part in parts for example in part])
        wanted, said, inside = self._read(self.teacher, batch, self.edits)
        got, spoken, _ = self._read(self.student, batch, [], grad=torch.is_grad_enabled())
        found, start = [], 0
        for part in parts:
            rows = slice(start, start := start + len(part))
            loss = (got[rows] - wanted[rows])[inside[rows]].square().mean() / effect
            if said is not None and spoken is not None:
                t, s = said[rows].float().log_softmax(-1), spoken[rows].float().log_softmax(-1)
                loss = loss + (t.exp() * (t - s)).sum(-1).mean()
            found.append(loss)
        return found

    @torch.no_grad()
    def effect(self, examples: Sequence[Example]) -> float:
        batch = self._prepared(examples)
        wanted, _, inside = self._read(self.teacher, batch, self.edits)
        bare, _, _ = self._read(self.teacher, batch, [])
        return float((wanted - bare)[inside].square().mean())

    @torch.no_grad()
    def measure(self, parts: tuple[list[Example], list[Example]], effect: float) -> tuple[float, float]:
        def mean(examples: list[Example]) -> float:
            chunks = [examples[i : i + 32] for i in range(0, min(len(examples), 96), 32)]
            return sum(float(self.losses([c], effect)[0]) * len(c) for c in chunks) / sum(map(len, chunks))

        return mean(parts[0]), mean(parts[1])

    def _prepared(self, examples: Sequence[Example]) -> Batch:
        images = [example.image for example in examples]
        return self.teacher.prepare([e.prompt for e in examples], images if images[0] is not None else None)

    def _read(self, model: HookedModel, batch: Batch, edits: list[Edit], grad: bool = False) -> Any:
        run = model.run(batch, read=[self.place], edits=edits, logits=self.logits, grad=grad)
        x = run.activations[self.place].float()
        inside = run.tokens.eligible(self.place)
        inside = torch.ones(x.shape[:2], dtype=torch.bool) if inside is None else inside
        return x, run.logits, inside.to(x.device)


def _places(model: HookedModel, edits: Sequence[Edit]) -> tuple[Site, list[str]]:
    """Where to compare, and the Linear modules before it."""
    flat = [one for edit in edits for one in edit.each()]
    sites = [edit.site for edit in flat if isinstance(edit, SiteEdit)]
    if len(sites) != len(flat) or not sites:
        kinds = ", ".join(sorted({type(edit).__name__ for edit in flat if not isinstance(edit, SiteEdit)}))
        raise NotBakeable(f"{kinds or 'No edit'}: only edits of activations can be distilled. Ship the recipe.")
    roots: list[nn.Module] = []
    anatomy = model.anatomy
    text = [site.layer for site in sites if site.tower == "text" and site.layer is not None]
    vision = [site.layer for site in sites if site.tower == "vision" and site.layer is not None]
    if len(text) < len(sites):
        deepest = max(vision, default=-1)
        if any(site.tower == "projector" for site in sites):
            deepest = len(anatomy.vision) - 1
        roots += [*anatomy.vision[: deepest + 1], anatomy.projector]
    if text:
        roots += anatomy.text[: max(text) + 1]
    linears = {id(part) for root in roots for part in root.modules() if isinstance(part, nn.Linear)}
    names = [name for name, part in model.model.named_modules() if id(part) in linears]
    place = Site("text", max(text), "resid") if text else Site("projector", None, "out")
    return place, names


def _parts(examples: ExampleSet, place: Site) -> tuple[list[Example], list[Example]]:
    """About the concept, and to be kept. For pictures one question each will do: the place does not see the words."""

    def chosen(part: Sequence[Example]) -> list[Example]:
        groups: dict[str, Example] = {}
        for index, example in enumerate(part):
            groups.setdefault(example.group if place.tower != "text" else str(index), example)
        return list(groups.values())

    forget, retain = chosen(examples.forget), chosen(examples.without)
    if not forget or not retain:
        raise ValueError("Distillation needs examples about the concept and others.")
    return forget, retain


def _batches(
    forget: list[Example], retain: list[Example], settings: Distil
) -> Iterator[tuple[list[Example], list[Example]]]:
    rng, half = random.Random(settings.seed), max(1, settings.batch_size // 2)
    while True:
        yield rng.sample(forget, min(half, len(forget))), rng.sample(retain, min(half, len(retain)))
