"""Where models come from: the zoo, a folder, the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
)


def load(
    source: str,
    *,
    revision: str | None = None,
    device: str | None = None,
    dtype: str | torch.dtype | None = None,
    quantize: Literal["int8", "int4"] | None = None,
) -> tuple[PreTrainedModel, Any]:
    """See `HookedModel.load`."""
    folder = _folder(source)
    options: dict[str, Any] = {"revision": revision or "main", "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(folder, **options)
    except (OSError, ValueError) as error:
        raise LookupError(
            f"There is no model {source!r}. Give a name of the zoo ({', '.join(_zoo_names())}), a folder with a "
            f"config.json, or the id of a model on the hub that can be reached from here. ({_first_line(error)})"
        ) from error
    sees = type(config) in AutoModelForImageTextToText._model_mapping
    if not sees and type(config) not in AutoModelForCausalLM._model_mapping:
        raise LookupError(
            f"{source!r} is a {config.model_type} model. Give a causal language model or an image-text-to-text model."
        )
    if quantize is not None:
        if quantize not in ("int8", "int4"):
            raise ValueError(f"quantize={quantize!r}: give 'int8', 'int4' or nothing.")
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_8bit=quantize == "int8", load_in_4bit=quantize == "int4", bnb_4bit_compute_dtype=torch.bfloat16
        )
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    device = device or (accelerator.type if accelerator else "cpu")
    kind = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    if device != "cpu":
        options["device_map"] = device
    try:
        model = kind.from_pretrained(folder, dtype=_dtype(dtype), **options)
        reader = AutoProcessor if sees else AutoTokenizer
        processor = reader.from_pretrained(folder, revision=revision or "main", trust_remote_code=False)
    except OSError as error:
        raise LookupError(f"The files of {source!r} are not complete: {_first_line(error)}") from error
    return model, processor


def _folder(source: str) -> str:
    if source in _zoo_names():
        from concept_forget import zoo

        return str(zoo.folder(source))
    return str(Path(source).expanduser()) if Path(source).expanduser().is_dir() else source


def _zoo_names() -> tuple[str, ...]:
    # Late, because the zoo trains HookedModels.
    from concept_forget import zoo

    return tuple(zoo.NAMES)


def _dtype(dtype: str | torch.dtype | None) -> Any:
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype or "auto"
    if dtype != "auto" and not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise ValueError(f"dtype={dtype!r} is not a number type. Give auto, float32, bfloat16 or float16.")
    return dtype if dtype == "auto" else getattr(torch, dtype)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
