"""Where models come from: the zoo, a folder, the hub."""

from __future__ import annotations

import importlib.util
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
    _, sees = _config(source, revision)
    if quantize is not None:
        if quantize not in ("int8", "int4"):
            raise ValueError(f"quantize={quantize!r}: give 'int8', 'int4' or nothing.")
        if importlib.util.find_spec("bitsandbytes") is None:
            raise ValueError(
                f"quantize={quantize!r} needs the package bitsandbytes, which is not installed here: pip install "
                "bitsandbytes, or load the model unquantised (bfloat16)."
            )
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_8bit=quantize == "int8", load_in_4bit=quantize == "int4", bnb_4bit_compute_dtype=torch.bfloat16
        )
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    device = device or (accelerator.type if accelerator else "cpu")
    kind: Any = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    if device != "cpu":
        options["device_map"] = device
    try:
        model, found = kind.from_pretrained(folder, dtype=_dtype(dtype), output_loading_info=True, **options)
        reader = AutoProcessor if sees else AutoTokenizer
        processor = reader.from_pretrained(folder, revision=revision or "main", trust_remote_code=False)
    except OSError as error:
        raise LookupError(f"The files of {source!r} are not complete: {_first_line(error)}") from error
    if absent := sorted(found["missing_keys"]):
        # transformers fills them at random and only warns: an encoder loads as a language model that babbles.
        raise LookupError(
            f"{len(absent)} weights of a {type(model).__name__} are not in {source!r}, such as {absent[0]}: it would "
            "answer at random. Give a complete checkpoint of a causal language model or an image-text-to-text model."
        )
    table: Any = model.get_input_embeddings()
    tokens, embedded = len(getattr(processor, "tokenizer", processor)), len(table.weight)
    if tokens > embedded:
        raise LookupError(
            f"The tokenizer of {source!r} knows {tokens} tokens and the model {embedded}: they do not belong together."
        )
    return model, processor


def shell(source: str, revision: str | None = None) -> tuple[PreTrainedModel, Any]:
    """The model of a name on the meta device, without weights, and its processor if there is one.

    Needs only a config: for planning. Raises LookupError as `load`.
    """
    config, sees = _config(source, revision)
    kind: Any = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    with torch.device("meta"):
        model = kind.from_config(config, dtype=config.dtype or torch.float32)
    reader = AutoProcessor if sees else AutoTokenizer
    try:
        processor = reader.from_pretrained(_folder(source), revision=revision or "main", trust_remote_code=False)
    except (OSError, ValueError, ImportError, TypeError, KeyError):
        processor = None
    return model, processor


def _config(source: str, revision: str | None) -> tuple[Any, bool]:
    """The config of a model and whether it sees."""
    try:
        config = AutoConfig.from_pretrained(_folder(source), revision=revision or "main", trust_remote_code=False)
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
    return config, sees


def number_type(name: str, otherwise: torch.dtype) -> torch.dtype:
    """The number type of that name; `otherwise` for "auto" or none. Raises ValueError for another word."""
    found = _dtype(name or None)
    return otherwise if found == "auto" else found


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
