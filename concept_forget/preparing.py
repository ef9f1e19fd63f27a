"""From words and pictures to a batch: chat template, picture tokens, padding, answers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from concept_forget.edits.base import Edit
from concept_forget.tokens import Batch, TokenMap

if TYPE_CHECKING:
    from concept_forget.model import HookedModel


def prepare(
    model: HookedModel,
    prompts: Sequence[str],
    images: Sequence[Image.Image | None] | None = None,
    edits: Sequence[Edit] = (),
    answers: Sequence[str] | None = None,
) -> Batch:
    """See `HookedModel.prepare`."""
    prompts, images = [prompts] if isinstance(prompts, str) else list(prompts), _pictures(model, prompts, images)
    if not prompts:
        raise ValueError("There are no prompts. Give at least one.")
    if answers is not None and len(answers) != len(prompts):
        raise ValueError(f"{len(prompts)} prompts but {len(answers)} answers: give one answer per prompt.")
    if model.tokenizer is None:
        raise ValueError(f"{model.name} has no tokenizer, so it cannot read prompts. Load it with its processor.")
    for edit in edits:
        prompts = [edit.prompt(prompt) for prompt in prompts]
    inputs = processed(model, [written(model, prompt, bool(images)) for prompt in prompts], images)
    answer_mask = None
    if answers is not None:
        ids = [model.tokenizer(f" {answer.strip()}", add_special_tokens=False)["input_ids"] for answer in answers]
        inputs, answer_mask = continued(inputs, ids, model.tokenizer.pad_token_id)
    inputs = {name: value.to(model.device) for name, value in inputs.items()}
    if "pixel_values" in inputs:
        inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
    tokens = TokenMap.of(
        inputs,
        model.tokenizer.all_special_ids,
        image_token_id(model),
        _layout(model, inputs) if images else None,
        None if answer_mask is None else answer_mask.to(model.device),
    )
    return Batch(inputs, tokens, tuple(edit for edit in edits if type(edit).prompt is not Edit.prompt))


def noise_batch(model: HookedModel) -> Batch:
    """A noise picture (if the model sees) and a prompt, always the same: what liveness is measured on."""
    picture = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    return prepare(model, ["What is shown here?"], [Image.fromarray(picture)] if model.has_vision else None)


def _pictures(model: HookedModel, prompts: Sequence[str], images: Sequence[Any] | None) -> list[Image.Image] | None:
    if images is None or all(image is None for image in images):
        return None
    if not model.has_vision:
        raise ValueError(f"{model.name} reads text only. Leave the pictures out, or load an image-text-to-text model.")
    if len(images) != len(prompts):
        raise ValueError(f"{len(prompts)} prompts but {len(images)} pictures: give one picture per prompt.")
    if any(image is None for image in images):
        raise ValueError("Some prompts have a picture and some have none. Prepare them as two batches.")
    return [image.convert("RGB") for image in images]


def written(model: HookedModel, prompt: str, picture: bool) -> str:
    """The user's turn and the beginning of the answer, or image token and prompt where there is no chat template."""
    token = _image_token(model)
    if token is not None and token in prompt:
        raise ValueError(f"The prompt holds the model's own picture token {token!r}. Leave it out; it is added here.")
    speaker = model.processor if getattr(model.processor, "chat_template", None) else model.tokenizer
    if getattr(speaker, "chat_template", None):
        parts: Any = [{"type": "image"}] * picture + [{"type": "text", "text": prompt}]
        # A text-only model's template takes plain strings.
        content = parts if model.has_vision else prompt
        message = [{"role": "user", "content": content}]
        return speaker.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
    return f"{token}{prompt}" if picture else prompt


def processed(model: HookedModel, texts: list[str], images: list[Image.Image] | None) -> dict[str, Tensor]:
    """Tokens (and pixels) of written prompts, padded on the left; a beginning-of-text token stands there once."""
    tokenizer = model.tokenizer
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    options = {"padding": True, "padding_side": "left", "return_tensors": "pt"}
    if images is None:
        read = partial(tokenizer, texts, **options)
    else:
        # Every picture in a list of its own: Mllama counts pictures per prompt.
        read = partial(model.processor, text=texts, images=[[image] for image in images], **options)
    if tokenizer.bos_token and tokenizer.bos_token in texts[0]:
        # The template has written it already; the tokenizer must not write it again.
        inputs = read(add_special_tokens=False)
    else:
        inputs = read()
        # Neither may the tokenizer of a processor that writes it (Mllama).
        begins = (inputs["input_ids"] == tokenizer.bos_token_id) & (inputs["attention_mask"] == 1)
        if tokenizer.bos_token_id is not None and int(begins.sum(1).min()) > 1:
            inputs = read(add_special_tokens=False)
    wanted = model._accepts | {"token_type_ids"} if images else model._accepts
    return {name: value for name, value in inputs.items() if isinstance(value, Tensor) and name in wanted - {"labels"}}


def continued(inputs: dict[str, Tensor], answers: list[list[int]], pad: int) -> tuple[dict[str, Tensor], Tensor]:
    """The rows with their answers behind them, again padded on the left, and where the answers stand."""
    rows, length = inputs["input_ids"].shape
    longest = max(map(len, answers))
    counts = torch.tensor([len(ids) for ids in answers])
    # Position p of the new row is position p - (longest - count) of [old row, answer]; before it there is padding.
    source = torch.arange(length + longest)[None] - (longest - counts)[:, None]
    answer_mask = source >= length
    flat = torch.tensor([token for ids in answers for token in ids], dtype=torch.long)
    out = {}
    for name, value in inputs.items():
        if value.shape[:2] != (rows, length):
            out[name] = value
            continue
        index = source.clamp(0, length - 1).view(rows, -1, *[1] * (value.dim() - 2)).expand(-1, -1, *value.shape[2:])
        moved = value.gather(1, index)
        moved[source < 0] = pad if name == "input_ids" else 0
        if name == "input_ids":
            moved[answer_mask] = flat.to(moved)
        elif name == "token_type_ids":
            # PaliGemma reads type 0, the prompt, in both directions: as part of it the answer would give itself away.
            moved[answer_mask] = 1
        elif name == "mm_token_type_ids":
            moved[answer_mask] = 0
        out[name] = moved
    return out, answer_mask


def _image_token(model: HookedModel) -> str | None:
    token = getattr(model.processor, "image_token", None) or getattr(model.tokenizer, "image_token", None)
    return token if model.has_vision else None


def image_token_id(model: HookedModel) -> int | None:
    token = _image_token(model)
    return None if token is None else model.tokenizer.convert_tokens_to_ids(str(token))


def _layout(model: HookedModel, inputs: dict[str, Tensor]):
    if "image_grid_thw" in inputs:
        _, rows, columns = inputs["image_grid_thw"][0].tolist()
        patch = model.anatomy.tower.config.patch_size
        return model.anatomy.layout(rows * patch, columns * patch)
    return model.anatomy.layout(*inputs["pixel_values"].shape[-2:])
