"""A sparse dictionary at a site, with everything folded into plain tensors."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from concept_forget.directions import FeatureRows
from concept_forget.sites import Site
from saes.store import write_atomic

WEIGHTS, CONFIG, PLACE = "sae_weights.safetensors", "cfg.json", "site.json"
FOLDABLE = ("standard", "jumprelu")


class SaeDictionary:
    """`z = act(x W_enc^T + b)`, `x_hat = z W_dec + b_dec`, with input centring and scaling folded into W_enc, b, W_dec.

    `act(p) = p (p > threshold)`: ReLU and JumpReLU are exact, row by row (BatchTopK is a JumpReLU at inference).
    Other SAELens kinds (TopK, gated) encode through SAELens and have no exact rows. Activations are computed in the
    dictionary's own dtype (float32), whatever the model's.
    """

    def __init__(self, sae: Any, site: Site, name: str = "") -> None:
        """Wrap an SAELens inference SAE. Raises ValueError for one that reads reshaped heads (`hook_z`)."""
        kind, cfg = sae.cfg.architecture(), sae.cfg
        if cfg.reshape_activations != "none":
            raise ValueError(
                f"An SAE on reshaped activations ({cfg.reshape_activations}) has no site; use a resid, attn or mlp one."
            )
        exact = kind in FOLDABLE and cfg.normalize_activations in ("none", "expected_average_only_in")
        state = {key: value.detach() for key, value in sae.state_dict().items()}
        rows, b_dec = fold(state, bool(cfg.apply_b_dec_to_input)) if exact else (None, state["b_dec"])
        self._set(rows, b_dec, site, name or str(cfg.metadata.hook_name or ""), None if exact else sae)

    @classmethod
    def from_rows(cls, rows: FeatureRows, b_dec: Float[Tensor, " d"], site: Site, name: str = "") -> SaeDictionary:
        """A dictionary from its folded tensors."""
        made = cls.__new__(cls)
        made._set(rows, b_dec, site, name, None)
        return made

    def _set(self, rows: FeatureRows | None, b_dec: Tensor, site: Site, name: str, sae: Any) -> None:
        self._rows, self._sae, self.b_dec, self.site, self.name = rows, sae, b_dec, site, name
        self.d_in = b_dec.shape[0]
        self.d_sae = len(rows.bias) if rows else sae.cfg.d_sae

    def __repr__(self) -> str:
        return f"SaeDictionary({self.site}, d_in={self.d_in}, d_sae={self.d_sae})"

    @property
    def device(self) -> torch.device:
        return self.b_dec.device

    @property
    def decoder(self) -> Float[Tensor, "f d"]:
        """The direction each feature writes."""
        return self._rows.decoder if self._rows else self._sae.W_dec.detach()

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> SaeDictionary:
        """The same dictionary elsewhere; this one stays as it is (an SAE without exact rows is moved)."""
        if self._rows is None:
            moved = SaeDictionary.__new__(SaeDictionary)
            sae = self._sae.to(device=device or self.device, dtype=dtype or self.b_dec.dtype)
            moved._set(None, sae.b_dec.detach(), self.site, self.name, sae)
            return moved
        rows = FeatureRows(*(part.to(device=device, dtype=dtype) for part in self._rows))
        return SaeDictionary.from_rows(rows, self.b_dec.to(device=device, dtype=dtype), self.site, self.name)

    def encode(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... f"]:
        """All feature activations of raw activations."""
        x = x.to(self.b_dec.dtype)
        return self._rows.encode(x) if self._rows else self._sae.encode(x)

    def decode(self, z: Float[Tensor, "... f"]) -> Float[Tensor, "... d"]:
        """The activations that these feature activations stand for."""
        return z @ self._rows.decoder + self.b_dec if self._rows else self._sae.decode(z)

    def rows(self, features: Int[Tensor, " k"]) -> FeatureRows:
        """The exact rows of these features. Raises LookupError for an unknown one, ValueError where none exist."""
        features = torch.as_tensor(features, dtype=torch.long, device=self.device).flatten()
        if features.numel() and not 0 <= int(features.min()) <= int(features.max()) < self.d_sae:
            bad = features[(features < 0) | (features >= self.d_sae)][:5].tolist()
            raise LookupError(f"No such features: {bad}. {self.site} has features 0..{self.d_sae - 1}.")
        if self._rows is None:
            raise ValueError(
                f"A {self._sae.cfg.architecture()} SAE (normalisation {self._sae.cfg.normalize_activations}) has no "
                "exact single-feature rows; use a ReLU, JumpReLU or BatchTopK one, or the plain-decode method."
            )
        return FeatureRows(*(part[features] for part in self._rows))

    def save(self, folder: Path | str) -> Path:
        """Write `cfg.json`, `sae_weights.safetensors` (as SAELens does) and `site.json`; each is whole or not there."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if self._rows is None:
            self._sae.save_model(folder)
        else:
            jump = bool((self._rows.threshold != 0).any())
            state = {
                "W_enc": self._rows.encoder.T,
                "b_enc": self._rows.bias,
                "W_dec": self._rows.decoder,
                "b_dec": self.b_dec,
            } | ({"threshold": self._rows.threshold} if jump else {})
            config = {
                "architecture": "jumprelu" if jump else "standard",
                "d_in": self.d_in,
                "d_sae": self.d_sae,
                "dtype": str(self.b_dec.dtype).removeprefix("torch."),
                "device": "cpu",
                "apply_b_dec_to_input": False,
                "normalize_activations": "none",
                "reshape_activations": "none",
                "metadata": {"hook_name": self.name or str(self.site)},
            }
            write_atomic(folder / WEIGHTS, save({key: value.cpu().contiguous() for key, value in state.items()}))
            write_atomic(folder / CONFIG, json.dumps(config, indent=1).encode())
        write_atomic(folder / PLACE, json.dumps({"site": str(self.site), "name": self.name}).encode())
        return folder

    @classmethod
    def load(cls, folder: Path | str, device: str = "cpu", site: Site | None = None) -> SaeDictionary:
        """The dictionary in a folder of SAELens files. Raises ValueError naming the file that is missing or damaged."""
        folder = Path(folder)
        config = read_json(folder / CONFIG)
        place = read_json(folder / PLACE) if (folder / PLACE).is_file() else {}
        if site is None:
            site = Site.parse(place["site"]) if place else site_of_config(config, folder)
        state = read_tensors(folder / WEIGHTS, device)
        normal = config.get("normalize_activations", "none") == "none"
        if not (
            config.get("architecture") in FOLDABLE and normal and config.get("reshape_activations", "none") == "none"
        ):
            return cls(_sae_lens(folder, device), site, place.get("name", ""))
        try:
            rows, b_dec = fold(state, bool(config.get("apply_b_dec_to_input", True)))
        except KeyError as missing:
            raise ValueError(
                f"{folder / WEIGHTS} has no tensor {missing}: it is not a whole SAE. Copy or train it again."
            ) from None
        if tuple(rows.encoder.shape) != (config["d_sae"], config["d_in"]) or rows.decoder.shape != rows.encoder.shape:
            raise ValueError(
                f"{folder / WEIGHTS} holds {tuple(rows.encoder.shape)} features x inputs, {CONFIG} says otherwise."
            )
        return cls.from_rows(rows, b_dec, site, place.get("name", ""))


def fold(state: dict[str, Tensor], centred: bool) -> tuple[FeatureRows, Tensor]:
    """Rows of a standard or JumpReLU state dict: `W_enc (x - b_dec) + b_enc = W_enc x + (b_enc - W_enc b_dec)`."""
    encoder, b_dec = state["W_enc"].T.contiguous(), state["b_dec"].contiguous()
    bias = state["b_enc"] - encoder @ b_dec if centred else state["b_enc"]
    # A JumpReLU SAE applies ReLU as well, so a negative threshold acts as 0.
    threshold = state["threshold"].clamp_min(0) if "threshold" in state else torch.zeros_like(bias)
    return FeatureRows(encoder, bias.contiguous(), threshold.contiguous(), state["W_dec"].contiguous()), b_dec


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file. Raises ValueError naming it when it is missing or damaged."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: {path.parent} holds no SAE (it needs {CONFIG} and {WEIGHTS}).") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}). Copy or train it again.") from None


def read_tensors(path: Path, device: str = "cpu") -> dict[str, Tensor]:
    """A safetensors file. Raises ValueError naming it when it is missing, truncated or damaged."""
    if not path.is_file():
        raise ValueError(f"{path} is missing: {path.parent} holds no whole SAE (it needs {CONFIG} and {WEIGHTS}).")
    try:
        return load_file(path, device=device)
    except (SafetensorError, OSError) as error:
        size = os.path.getsize(path)
        raise ValueError(f"{path} ({size} bytes) is truncated or damaged: {error}. Copy or train it again.") from None


def site_of_config(config: dict[str, Any], folder: Path) -> Site:
    """The site named by an SAELens config's hook name. Raises ValueError when it names none."""
    from saes.pretrained import site_of

    name = (config.get("metadata") or {}).get("hook_name") or config.get("hook_name")
    if not name:
        raise ValueError(
            f"{folder} does not say where its SAE reads (no {PLACE}, no hook_name in {CONFIG}); give a site."
        )
    return site_of(name)


def _sae_lens(folder: Path, device: str) -> Any:
    from sae_lens import SAE  # takes 7 s to import

    return SAE.load_from_disk(folder, device=device)
