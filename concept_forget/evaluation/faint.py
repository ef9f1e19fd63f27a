"""Pictures that show what they show less plainly: smaller, darker, paler, softer. An edit should hold there too."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from PIL import Image, ImageEnhance, ImageFilter

from concept_forget.concepts import Concept, Example, one_per_group, role
from concept_forget.evaluation.suite import FORGOTTEN


def asked_faintly(concept: Concept, limit: int, copies: int, seed: int = 0) -> tuple[Example, ...]:
    """At most `limit` validation questions of UAd and of UAg, each about its picture and so many faint copies of it.

    A question and its copies are one group: what an edit hides in the picture but not in a copy of it is not hidden.
    Which questions and which copies depends on the seed alone.
    """
    found: list[Example] = []
    for name in FORGOTTEN:
        mine = [example for example in concept.validation.forget if role(example, concept) == name]
        for example in random.Random(seed).sample(mine, min(limit, len(mine))):
            group = f"{example.group}: {example.prompt}"
            found += [replace(example, image=image, group=group) for image in faint_copies(example, copies, seed)]
    return tuple(found)


def with_faint_copies(examples: Sequence[Example], copies: int, seed: int = 0) -> tuple[Example, ...]:
    """The examples, and so many faint copies of every picture among them, each a group of its own."""
    faint_ones = [
        replace(example, image=image, group=f"{example.group}/faint {number}")
        for example in (one_per_group(examples) if copies else ())
        for number, image in enumerate(faint_copies(example, copies, seed)[1:])
    ]
    return (*examples, *faint_ones)


def faint_copies(example: Example, copies: int, seed: int = 0) -> list[Image.Image | None]:
    """The example's picture, and so many faint copies: which changes, and how strong, is drawn by seed and group.

    Of an example without a picture there is no copy.
    """
    if example.image is None:
        return [None]
    rng = random.Random(f"{seed}/{example.group}/faint")
    return [example.image, *(faint(example.image, rng) for _ in range(copies))]


def faint(image: Image.Image, rng: random.Random) -> Image.Image:
    """One of: smaller on a plain ground, other light, other colourfulness, blurred; then maybe a second of them."""
    image = image.convert("RGB")
    for change in rng.sample((_smaller, _light, _colourful, _blurred), rng.choice((1, 2))):
        image = change(image, rng)
    return image


def _smaller(image: Image.Image, rng: random.Random) -> Image.Image:
    share = rng.uniform(0.5, 0.95)
    small = image.resize([max(1, round(side * share)) for side in image.size], Image.Resampling.BICUBIC)
    ground = Image.new("RGB", image.size, image.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0)))
    room = [whole - part for whole, part in zip(image.size, small.size, strict=True)]
    ground.paste(small, (rng.randint(0, room[0]), rng.randint(0, room[1])))
    return ground


def _light(image: Image.Image, rng: random.Random) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(rng.uniform(0.5, 1.5))


def _colourful(image: Image.Image, rng: random.Random) -> Image.Image:
    return ImageEnhance.Color(image).enhance(rng.uniform(0.5, 1.5))


def _blurred(image: Image.Image, rng: random.Random) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.005, 0.02) * min(image.size)))
