"""Recipe: edits with everything needed to apply them again, in two files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors
from torch import Tensor

from concept_forget.edits import EDITS, Edit, HookStat, ImageGate, Parts, SiteEdit, applied
from concept_forget.fingerprint import Fingerprint, differing, fingerprint
from concept_forget.provenance import hash_json, hash_tensors, sha256, versions, write_atomic
from concept_forget.sites import Site

if TYPE_CHECKING:
    from concept_forget.methods.base import Method
    from concept_forget.model import HookedModel

SCHEMA = "concept-forget/recipe/1"
YAML, TENSORS = "recipe.yaml", "recipe.safetensors"
PINNED = "fingerprint."
"""What the sampled weights are called among the tensors."""
PASSING = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache", "quantization_config"}
"""Entries of a config, and all that begin with `_attn`, that say how a model was loaded and not which model it is."""


class RecipeError(ValueError):
    """A recipe cannot be used: missing, damaged, tampered with, of an unknown kind, or made for another model."""


def config_hash(model: HookedModel) -> str:
    """Hash of the model's architecture: its config without what loading changes (dtype, path, attention kernel)."""

    def kept(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {k: kept(v) for k, v in value.items() if k not in PASSING and not str(k).startswith("_attn")}

    return hash_json(kept(model.model.config.to_dict()))


@dataclass(frozen=True, eq=False)
class Recipe:
    """Edits that take a concept out of one model: the product of the workbench, for a notebook, the app or a server.

    `save` writes `recipe.yaml` (settings, hashes) and `recipe.safetensors` (tensors); nothing in it is code.
    """

    model: str
    revision: str | None
    config: str
    """`config_hash` of the model it was made for."""
    concept: str
    edits: tuple[Edit, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    """Method, seed and whatever else made the edits: plain values."""
    versions: dict[str, str] = field(default_factory=dict)
    fingerprint: Fingerprint = field(default_factory=dict)
    """A few weights of the model it was made for; empty: only config and revision are checked."""

    @classmethod
    def of(
        cls, model: HookedModel, concept: str, edits: Sequence[Edit], method: Method | None = None, **settings: Any
    ) -> Recipe:
        """The recipe of these edits on this model."""
        # as YAML has them: a tuple comes back as a list
        settings = json.loads(json.dumps((method.settings() if method is not None else {}) | settings, default=str))
        about = model.name, model.revision, config_hash(model), concept
        return cls(*about, tuple(edits), settings, versions(), fingerprint(model))

    def check(self, model: HookedModel) -> None:
        """Raises RecipeError when this is not the model it was made for: other config, revision or weights."""
        if config_hash(model) != self.config:
            raise RecipeError(
                f"The recipe for {self.concept!r} was made for {self.model}, and {model.name} has another config. "
                "Load the model it was made for, or run the removal on this one."
            )
        if self.revision and model.revision and self.revision != model.revision:
            raise RecipeError(
                f"The recipe for {self.concept!r} was made for revision {self.revision} of {self.model}; this is "
                f"revision {model.revision}. Load that revision, or run the removal on this one."
            )
        if other := differing(model, self.fingerprint):
            raise RecipeError(
                f"The recipe for {self.concept!r} was made for {self.model}; {model.name} has the same config, but "
                f"other weights ({len(other)} of {len(self.fingerprint)} sampled tensors differ, {other[0]} among "
                "them): it was trained further, edited or is a twin. Load the model the recipe was made for, or run "
                "the removal on this one."
            )
        for edit in (one for whole in self.edits for one in whole.each()):
            if isinstance(edit, SiteEdit):
                _check_fits(edit, model)

    @contextmanager
    def applied(self, model: HookedModel) -> Iterator[list[HookStat]]:
        """The model under the edits, after `check`."""
        with recipes_applied(model, [self]) as stats:
            yield stats

    def digest(self) -> str:
        """Hex SHA-256 of all that decides what it does: model, edits and their tensors."""
        entries, tensors = [], {}
        for index, edit in enumerate(self.edits):
            entry, named = _written(edit)
            entries.append(entry)
            tensors |= {f"{index}.{name}": tensor for name, tensor in named.items()}
        return hash_json([self.model, self.revision, self.config, self.concept, entries, hash_tensors(tensors)])

    def save(self, folder: str | Path) -> Path:
        """Writes the two files, the YAML last, each whole or not at all. Returns the folder."""
        folder, tensors, entries = Path(folder), {}, []
        for index, edit in enumerate(self.edits):
            entry, named = _written(edit)
            entries.append(entry)
            tensors |= {f"{index}.{name}": tensor.detach().cpu().clone().contiguous() for name, tensor in named.items()}
        tensors |= {f"{PINNED}{name}": values.clone() for name, values in self.fingerprint.items()}
        data = dump_tensors(tensors)
        write_atomic(folder / TENSORS, data)
        body = {
            "schema": SCHEMA,
            "model": {"name": self.model, "revision": self.revision, "config": self.config},
            "concept": self.concept,
            "settings": self.settings,
            "edits": entries,
            "versions": self.versions,
            "tensors": sha256(data),
        }
        body["hash"] = hash_json(body)
        write_atomic(folder / YAML, yaml.dump(body, Dumper=_Dumper, sort_keys=False, allow_unicode=True))
        return folder

    @classmethod
    def load(cls, folder: str | Path, model: HookedModel | None = None) -> Recipe:
        """Reads what `save` wrote and checks it against `model` if given. Raises RecipeError with why."""
        folder = Path(folder)
        body, tensors = _read(folder)
        try:
            _check_types(body, folder)
            edits = [_edit(entry, tensors, index) for index, entry in enumerate(body["edits"])]
            about = body["model"]
            recipe = cls(
                about["name"],
                about["revision"],
                about["config"],
                body["concept"],
                tuple(edits),
                body["settings"],
                body["versions"],
                {name.removeprefix(PINNED): t for name, t in tensors.items() if name.startswith(PINNED)},
            )
        except RecipeError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError, AssertionError, IndexError, RuntimeError) as error:
            raise RecipeError(f"{folder / YAML} lacks or garbles an entry ({error!r}). Make it anew.") from error
        if model is not None:
            recipe.check(model)
        return recipe


@contextmanager
def recipes_applied(model: HookedModel, recipes: Sequence[Recipe]) -> Iterator[list[HookStat]]:
    """The model under several recipes, in this order; all are checked before the first is applied."""
    for recipe in recipes:
        recipe.check(model)
    with applied(model, [edit for recipe in recipes for edit in recipe.edits]) as stats:
        yield stats


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The two files, proved whole and belonging together."""
    for name in (YAML, TENSORS):
        if not (folder / name).is_file():
            raise RecipeError(f"{folder} is not a recipe: there is no {name}. Give a folder that `Recipe.save` wrote.")
    try:
        body = yaml.load((folder / YAML).read_text(encoding="utf-8"), _Plain)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise RecipeError(f"{folder / YAML} is not YAML: {error}") from error
    if not isinstance(body, dict) or body.get("schema") != SCHEMA:
        given = body.get("schema") if isinstance(body, dict) else type(body).__name__
        raise RecipeError(f"{folder / YAML}: schema is {given!r}, this version reads {SCHEMA!r}.")
    try:
        fitting = hash_json({k: v for k, v in body.items() if k != "hash"}) == body.get("hash")
    except (TypeError, ValueError, RecursionError):
        fitting = False
    if not fitting:
        raise RecipeError(f"{folder / YAML} was changed after it was written: its hash does not fit. Make it anew.")
    data = (folder / TENSORS).read_bytes()
    if sha256(data) != body.get("tensors"):
        raise RecipeError(
            f"{folder / TENSORS} is not the file this recipe was written with: changed, truncated or another one's."
        )
    try:
        tensors = load_tensors(data)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise RecipeError(f"{folder / TENSORS} is damaged: {error}") from error
    for name, tensor in tensors.items():
        if bool(tensor.isnan().any()):
            raise RecipeError(f"{folder / TENSORS}: {name} holds values that are not numbers. Make the recipe anew.")
    return body, tensors


class _Plain(yaml.SafeLoader):
    """YAML without references: a few lines of them can stand for more than fits in memory."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it refers to other parts of itself; a recipe never does.")
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """Writes out what stands in several places as often as it stands there."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _check_types(body: dict[str, Any], folder: Path) -> None:
    """Raises RecipeError for entries that are not what `save` writes."""
    about = body["model"]
    wanted = (
        ("model.name", about["name"], str),
        ("model.revision", about["revision"], (str, type(None))),
        ("model.config", about["config"], str),
        ("concept", body["concept"], str),
        ("settings", body["settings"], dict),
        ("versions", body["versions"], dict),
        ("edits", body["edits"], list),
    )
    for name, value, kind in wanted:
        if not isinstance(value, kind):
            raise RecipeError(f"{folder / YAML}: {name} is {value!r}, which it cannot be. Make the recipe anew.")


@torch.no_grad()
def _check_fits(edit: SiteEdit, model: HookedModel) -> None:
    """Raises RecipeError unless the edit works on an activation of its site: its tensors have the right shapes."""
    what = f"The edit at {edit.site}"
    try:
        x = torch.linspace(-1, 1, 2 * model.width(edit.site)).reshape(1, 2, -1)
        new = edit.transform(x)
        if edit.gate is not None and edit.gate.decide(x).shape != x.shape[:2]:
            raise ValueError("its gate does not decide position by position")
    except (ArithmeticError, AttributeError, IndexError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise RecipeError(f"{what} does not fit {model.name}: {error}") from error
    # squared, because every norm behind the site does that
    if new.shape != x.shape or not bool(new.square().sum().isfinite()):
        kept = (
            "values that are not finite, or not when squared" if new.shape == x.shape else f"shape {tuple(new.shape)}"
        )
        raise RecipeError(f"{what} does not fit {model.name}: it makes {kept} of an activation {tuple(x.shape)}.")


def _written(edit: Edit) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The entry of an edit and its tensors, those of its gate under `gate.`."""
    kind = getattr(edit, "kind", None)
    if kind not in EDITS or not isinstance(edit, EDITS[kind]):
        raise RecipeError(f"{type(edit).__name__} cannot go into a recipe; kinds that can: {', '.join(EDITS)}.")
    parts: Parts = edit.to_parts()
    entry: dict[str, Any] = {"kind": kind, "site": None if parts.site is None else str(parts.site)}
    entry["settings"], tensors = parts.settings, dict(parts.tensors)
    if parts.gate is not None:
        if not isinstance(parts.gate, ImageGate):
            raise RecipeError(f"A {type(parts.gate).__name__} cannot go into a recipe; only an ImageGate can.")
        gate = parts.gate.to_parts()
        entry["gate"] = gate.settings
        tensors |= {f"gate.{name}": tensor for name, tensor in gate.tensors.items()}
    return entry, tensors


def _edit(entry: dict[str, Any], tensors: dict[str, Tensor], index: int) -> Edit:
    """The edit of an entry."""
    if entry["kind"] not in EDITS:
        raise RecipeError(f"Unknown kind of edit {entry['kind']!r}; this version knows {', '.join(EDITS)}.")
    start, gate_start = f"{index}.", f"{index}.gate."
    gate = None
    if "gate" in entry:
        own = {name.removeprefix(gate_start): t for name, t in tensors.items() if name.startswith(gate_start)}
        gate = ImageGate.from_parts(Parts(entry["gate"], own))
    own = {
        name.removeprefix(start): t
        for name, t in tensors.items()
        if name.startswith(start) and not name.startswith(gate_start)
    }
    site = None if entry["site"] is None else Site.parse(entry["site"])
    edit: Any = EDITS[entry["kind"]].from_parts(Parts(entry["settings"], own, site, gate))
    return edit
