"""`export`: a recipe as a checkpoint that stock code loads, compared with the hooked model and badged honestly."""

from __future__ import annotations

import gc
import json
import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from app.export_card import card
from concept_forget.concepts import Concept, one_per_group
from concept_forget.distil import Distil, distil
from concept_forget.edits import NoEdit, NotBakeable
from concept_forget.evaluation import AnswerBook, evaluate
from concept_forget.model import HookedModel
from concept_forget.preparing import noise_batch
from concept_forget.provenance import CannotWriteError, versions, write_atomic
from concept_forget.recipe import Recipe

Badge = Literal["exact", "approximate", "hook only"]
Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""
EXPORT, CARD = "export.json", "README.md"
KEPT, SPILL = 0.5, 0.25
"""Approximate: at least this share of the edit's effect (KL) is there, and at most that where nothing should be."""
QUESTIONS = 60
"""Test questions per metric."""


@dataclass(frozen=True)
class Export:
    """What became of a recipe, as it stands in export.json."""

    folder: Path
    """The checkpoint (exact, approximate), or a copy of the recipe with how to serve it (hook only)."""
    badge: Badge
    error: float | None
    """Largest difference of a next-token logit from the hooked model on the probe batch; None for hook only."""
    kl: float | None
    """Mean KL(hooked || exported) of the next token on the probe batch, in nats; None for hook only."""
    reason: str = ""
    """Why it is not exact; empty where it is."""
    numbers: dict[str, Any] = field(default_factory=dict)
    """Everything else that was measured: KL to the untouched model, share of the effect kept, metrics, steps."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**vars(self), "folder": str(self.folder)}


def export(
    model: HookedModel,
    recipe: Recipe,
    out: Path,
    progress: Progress | None = None,
    *,
    concept: Concept | None = None,
    exact_only: bool = False,
    distilling: Distil | None = None,
) -> Export:
    """Write the recipe into a checkpoint at `out`; the model itself stays bit for bit what it was.

    Exact where the edits have an exact form in the weights; otherwise LoRA distillation on the examples of `concept`
    (without it, or with `exact_only`: hook only). The folder is reloaded by stock code and compared with the hooked
    model before it is badged. Raises RecipeError for another model's recipe, ValueError for a folder that holds
    something else, and CannotWriteError.
    """
    out = Path(out)
    recipe.check(model)
    if out.exists() and (not out.is_dir() or any(out.iterdir()) and not (out / EXPORT).is_file()):
        raise ValueError(f"{out} holds something else than an export. Give an empty or a new folder.")
    move = progress or (lambda *_: None)
    work = out.with_name(f".{out.name}.{os.getpid()}.{secrets.token_hex(3)}")
    try:
        made = _Exporting(model, recipe, work, concept, exact_only, distilling or Distil(), move).work()
        if out.exists():
            shutil.rmtree(out)
        os.replace(work, out)
        return Export(out, *made)
    except OSError as error:
        raise CannotWriteError(f"Cannot write {out}: {error.strerror or error}. Nothing was changed there.") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


@dataclass
class _Exporting:
    """One export under way, in a folder of its own."""

    model: HookedModel
    recipe: Recipe
    folder: Path
    concept: Concept | None
    exact_only: bool
    distilling: Distil
    move: Progress

    def work(self) -> tuple[Badge, float | None, float | None, str, dict[str, Any]]:
        self.probe = self._probes()
        with self.recipe.applied(self.model):
            self.hooked = [self.model.run(batch).logits.float().cpu() for batch in self.probe]
        self.bare = [self.model.run(batch).logits.float().cpu() for batch in self.probe]
        effect = [_kl(h, b) for h, b in zip(self.hooked, self.bare, strict=True)]
        numbers: dict[str, Any] = {
            "effect": [round(value, 6) for value in effect],
            "probes": [len(h) for h in self.hooked],
        }
        reason = self._baked()
        if not reason:
            error, kl = self._compared(numbers)
            half = self.model.dtype in (torch.float16, torch.bfloat16)
            if error <= (0.1 if half else 1e-3) * float(torch.cat(self.hooked).std()):
                return self._finished("exact", error, kl, "", numbers)
            reason = f"The baked weights do not give the hooked model's logits (largest difference {error:.3g})."
        reason = self._distilled(reason, numbers)
        if "distilled" not in numbers:
            return self._finished("hook only", None, None, reason, numbers)
        error, kl = self._compared(numbers)
        missing, spill = numbers["kl_parts"][0], max(numbers["kl_parts"][1:], default=0.0)
        numbers["effect_kept"] = round(1 - missing / max(effect[0], 1e-9), 4)
        if numbers["effect_kept"] < KEPT or spill > max(SPILL * effect[0], 0.01):
            kept = f"{numbers['effect_kept']:.0%} of the effect (asked for {KEPT:.0%})"
            reason += f" Distilled, it keeps {kept} and changes other answers by {spill:.3g} nats: not good enough."
            return self._finished("hook only", None, None, reason, numbers)
        return self._finished("approximate", error, kl, reason, numbers)

    def _probes(self) -> list[Any]:
        """Batches to compare on: questions about the concept where it is shown, and what does not show it.

        Without a concept noise and a few words. Questions about something else do not tell whether an edit is there.
        """
        model = self.model
        if self.concept is None:
            words = ["What is shown here?", "Tell me something.", "Yes or no?", "Which one is it?"]
            return [noise_batch(model), model.prepare(words)]
        made = []
        shown, without = self.concept.validation.forget, self.concept.validation.without
        about = tuple(example for example in shown if example.about == self.concept.name)
        for part in (about or shown, without):
            chosen = one_per_group(part)[:24]
            images = [example.image for example in chosen]
            prompts = [example.prompt for example in chosen]
            made.append(model.prepare(prompts, images if images[0] is not None else None))
        return made

    def _copy(self) -> HookedModel:
        """The model again, from what it writes to the disk: what becomes of it does not touch the one in use."""
        self.move("copying the model", 0, 1)
        config = self.model.model.config
        before = dict(vars(config))
        try:
            self.model.model.save_pretrained(self.folder)
        finally:
            # saving writes the class and the number type into the config
            vars(config).clear()
            vars(config).update(before)
        return self._loaded()

    def _loaded(self) -> HookedModel:
        """The folder as stock code loads it."""
        kind = type(self.model.model)
        net = kind.from_pretrained(self.folder, dtype=self.model.dtype, trust_remote_code=False).to(self.model.device)
        # every text comes from the one processor: what is compared is the weights
        return HookedModel(net, self.model.processor, self.model.name, self.model.revision)

    def _saved(self, baked: HookedModel) -> None:
        shutil.rmtree(self.folder)
        baked.model.save_pretrained(self.folder)
        if self.model.processor is not None:
            self.model.processor.save_pretrained(self.folder)

    def _baked(self) -> str:
        """Writes the edits into a copy and saves it. Returns why that is not possible, or nothing."""
        if getattr(self.model.model, "is_quantized", False):
            return f"{self.model.name} is loaded quantised; weights can only be edited unquantised."
        if any(type(edit).prompt is not NoEdit.prompt for edit in self.recipe.edits):
            return "The recipe changes the prompt, and weights cannot."
        copy = self._copy()
        try:
            for edit in (one for whole in self.recipe.edits for one in whole.each()):
                if not isinstance(edit, NoEdit):
                    edit.bake(copy)
        except NotBakeable as error:
            return str(error)
        self._saved(copy)
        return ""

    def _distilled(self, reason: str, numbers: dict[str, Any]) -> str:
        """Trains the edits into a copy and saves it. Returns why it is not exact."""
        if self.exact_only or self.concept is None or not self.folder.is_dir():
            if self.concept is None and not self.exact_only:
                reason += " Distillation needs examples: give the concept."
            return reason
        copy = self._copy()
        try:
            edits = list(self.recipe.edits)
            found = distil(
                self.model,
                edits,
                copy,
                self.concept,
                self.distilling,
                lambda done, total: self.move("distilling into LoRA", done, total),
            )
        except NotBakeable as error:
            return f"{reason} {error}"
        numbers["distilled"] = {name: round(float(value), 5) for name, value in found._asdict().items()}
        self._saved(copy)
        return reason

    def _compared(self, numbers: dict[str, Any]) -> tuple[float, float]:
        """The folder, reloaded by stock code, against the hooked model."""
        self.move("reloading and comparing", 0, 1)
        gc.collect()
        loaded = self._loaded()
        said = [loaded.run(batch).logits.float().cpu() for batch in self.probe]
        error = max(float((a - b).abs().max()) for a, b in zip(said, self.hooked, strict=True))
        kls = [_kl(h, s) for h, s in zip(self.hooked, said, strict=True)]
        numbers["kl_parts"] = [round(value, 6) for value in kls]
        if self.concept is not None:
            self.move("asking the test questions", 0, 1)
            book = AnswerBook(self.model)
            asked = {"before": book, "limit": QUESTIONS}
            hooked = evaluate(self.model, self.concept, self.recipe.edits, **asked)
            # hooks off: nothing is applied to the reloaded checkpoint
            without = evaluate(loaded, self.concept, [NoEdit()], **asked)
            numbers["metrics"] = {
                name: {
                    "untouched": without.metrics[name].to_json()["before"],
                    "hooked": hooked.metrics[name].to_json()["after"],
                    "exported": without.metrics[name].to_json()["after"],
                }
                for name in without.metrics
                if name in hooked.metrics
            }
        weights = [len(h) for h in self.hooked]
        return error, sum(k * w for k, w in zip(kls, weights, strict=True)) / sum(weights)

    def _finished(
        self, badge: Badge, error: float | None, kl: float | None, reason: str, numbers: dict[str, Any]
    ) -> tuple[Badge, float | None, float | None, str, dict[str, Any]]:
        if badge == "hook only":
            shutil.rmtree(self.folder, ignore_errors=True)
        self.recipe.save(self.folder / "recipe")
        about = {
            "schema": "concept-forget/export/1",
            "model": self.model.name,
            "revision": self.model.revision,
            "concept": self.recipe.concept,
            "recipe": self.recipe.digest(),
            "badge": badge,
            "error": error,
            "kl": kl,
            "reason": reason,
            **numbers,
            "versions": versions("peft"),
        }
        write_atomic(self.folder / EXPORT, json.dumps(about, indent=1, ensure_ascii=False))
        write_atomic(self.folder / CARD, card(about, self.recipe))
        return badge, error, kl, reason, numbers


def _kl(p: torch.Tensor, q: torch.Tensor) -> float:
    """Mean KL(p || q) of rows of logits, in nats."""
    a, b = p.double().log_softmax(-1), q.double().log_softmax(-1)
    return float((a.exp() * (a - b)).sum(-1).mean().clamp_min(0))
