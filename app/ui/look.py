"""Where in a picture (or text) something is: activations laid back over what the model sees."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageFile, UnidentifiedImageError

from app.ui.sessions import Sample
from concept_forget.concepts import Example, one_per_group
from concept_forget.directions import FeatureRows
from concept_forget.model import HookedModel
from concept_forget.sites import Site
from concept_forget.tokens import Batch

PIXELS = 50_000_000
"""Uploads with more are refused before they are decoded."""
LONGEST = 1024


class BadPicture(ValueError):
    """An upload that is no picture, or too large a one."""


class Seen(NamedTuple):
    """A picture as the model sees it, with one number per patch."""

    image: Image.Image
    heat: np.ndarray
    """[rows, columns]"""


class Read(NamedTuple):
    """A text as the model reads it, with one number per token."""

    tokens: list[str]
    heat: np.ndarray


def upload(path: str) -> Image.Image:
    """A picture from a file of a stranger: decoded, turned upright by nothing but its pixels, scaled down, RGB.

    Only pixels are taken over: no metadata, no second frame. Raises BadPicture saying what to do.
    """
    before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        with Image.open(path) as opened:
            if opened.width * opened.height > PIXELS:
                raise BadPicture(
                    f"The picture has {opened.width} x {opened.height} pixels. Scale it down to at most "
                    f"{PIXELS // 1_000_000} million; the model reads a few hundred a side."
                )
            opened.draft("RGB", (LONGEST, LONGEST))
            image = opened.convert("RGB")
    except BadPicture:
        raise
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadPicture(
            "This file is not a picture that can be read: it is damaged or of another kind. PNG, JPEG and WebP work."
        ) from error
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before
    image.thumbnail((LONGEST, LONGEST))
    return image


def feature_on(model: HookedModel, site: Site, rows: FeatureRows, sample: Sample, question: str) -> Seen | Read:
    """The summed activation of these features at every patch of the sample's picture, or token of its text."""
    batch = model.prepare([question], [sample.image] if sample.image else None)
    x = model.run(batch, read=[site], logits=None).activations[site]
    z = rows.encode(x.float().cpu()).sum(-1)
    return laid(model, batch, site, z)[0]


def features_on_examples(
    model: HookedModel, site: Site, rows: FeatureRows, examples: Sequence[Example], which: Sequence[Sequence[int]]
) -> list[list[Seen | Read]]:
    """For each feature, its activation on the examples with these numbers. Every example is read once."""
    wanted = sorted({number for some in which for number in some})
    found: dict[int, torch.Tensor] = {}
    batches: dict[int, tuple[Batch, int]] = {}
    for start in range(0, len(wanted), 16):
        part = wanted[start : start + 16]
        chosen = [examples[number] for number in part]
        images = [example.image for example in chosen if example.image is not None]
        batch = model.prepare([example.prompt for example in chosen], images or None)
        x = model.run(batch, read=[site], logits=None).activations[site].float().cpu()
        for row, number in enumerate(part):
            found[number], batches[number] = x[row], (batch, row)
    out = []
    for feature, some in enumerate(which):
        row_of = FeatureRows(*(part[feature : feature + 1] for part in rows))
        shown = []
        for number in some:
            batch, row = batches[number]
            z = torch.zeros(batch.size, len(found[number]))
            z[row] = row_of.encode(found[number])[:, 0]
            shown.append(laid(model, batch, site, z, [row])[0])
        out.append(shown)
    return out


def laid(
    model: HookedModel, batch: Batch, site: Site, values: torch.Tensor, rows: Sequence[int] | None = None
) -> list[Seen | Read]:
    """Values [b, t] at a site over the picture the model sees; at a text site over its words."""
    rows = range(batch.size) if rows is None else rows
    if site.tower == "text" or batch.tokens.layout is None:
        return [_words(model, batch, values[row], row) for row in rows]
    places = batch.tokens.patches(site).cpu()
    return [_seen(model, batch, values[row][places].numpy(), row) for row in rows]


def groups_of(examples: Sequence[Example]) -> list[Example]:
    """One example per picture or text."""
    return one_per_group(examples)


def spotlight(seen: Seen, side: int = 288, top: float | None = None) -> Image.Image:
    """The picture with the active patches as they are and the rest grey and pale: no colour is needed to read it."""
    scale = max(1, round(side / max(seen.image.size)))
    image = seen.image.resize((seen.image.width * scale, seen.image.height * scale), Image.Resampling.NEAREST)
    if image.width > 2 * side:
        image.thumbnail((side, side))
    top = float(seen.heat.max()) if top is None else top
    share = np.clip(seen.heat / top, 0, 1) if top > 0 else np.zeros_like(seen.heat)
    mask = Image.fromarray((255 * share**0.7).astype(np.uint8)).resize(image.size, Image.Resampling.BICUBIC)
    pale = Image.blend(image.convert("L").convert("RGB"), Image.new("RGB", image.size, (128, 132, 138)), 0.62)
    return Image.composite(image, pale, mask)


def uri(image: Image.Image, side: int | None = None) -> str:
    """A small picture as a data URI."""
    if side and max(image.size) > side:
        image = image.copy()
        image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "WEBP", quality=86, method=2)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _words(model: HookedModel, batch: Batch, values: torch.Tensor, row: int) -> Read:
    keep = batch.tokens.text_mask[row].cpu()
    ids = batch.inputs["input_ids"][row].cpu()[keep].tolist()
    return Read([model.tokenizer.decode([token]) for token in ids], values[keep].float().numpy())


def _seen(model: HookedModel, batch: Batch, values: np.ndarray, row: int) -> Seen:
    rows, columns = batch.tokens.grid or (1, len(values))
    pixels = batch.inputs["pixel_values"][row].float().cpu()
    tiles = pixels.reshape(-1, *pixels.shape[-3:])
    down, across = _tiling(model, batch, row)
    tiles, values = tiles[: down * across], values[: down * across * rows * columns]
    heat = values.reshape(down, across, rows, columns).transpose(0, 2, 1, 3).reshape(down * rows, across * columns)
    _, channels, height, width = tiles.shape
    picture = tiles.reshape(down, across, channels, height, width).permute(0, 3, 1, 4, 2)
    picture = picture.reshape(down * height, across * width, channels).numpy()
    reader = getattr(model.processor, "image_processor", None)
    mean = np.array(getattr(reader, "image_mean", None) or [0.5] * channels)
    std = np.array(getattr(reader, "image_std", None) or [0.5] * channels)
    return Seen(Image.fromarray((255 * np.clip(picture * std + mean, 0, 1)).round().astype(np.uint8)), heat)


def _tiling(model: HookedModel, batch: Batch, row: int) -> tuple[int, int]:
    """Tiles down and across (Mllama); one elsewhere."""
    ids = batch.inputs.get("aspect_ratio_ids")
    allowed = getattr(getattr(model.model.config, "vision_config", None), "supported_aspect_ratios", None)
    if ids is None or not allowed:
        return 1, 1
    down, across = allowed[int(ids[row].flatten()[0]) - 1]
    return int(down), int(across)
