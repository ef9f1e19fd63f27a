"""Pictures that show what they show less plainly: smaller, darker, paler, softer. An edit should hold there too."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace

from PIL import Image, ImageEnhance, ImageFilter

from concept_forget.concepts import Concept, Example, role
from concept_forget.evaluation.suite import FORGOTTEN


def asked_faintly(concept: Concept, seed: int = 0) -> Concept:
    """The concept with its validation questions of UAd and UAg asked twice: about the picture and about a faint copy.

    Choosing on it prefers edits that hold where the concept is shown less plainly too. Train and test stay as they are.
    """
    forget = concept.validation.forget
    again = faint_copies((example for example in forget if role(example, concept) in FORGOTTEN), seed)
    return replace(concept, validation=concept.validation._replace(forget=(*forget, *again)))


def faint_copies(examples: Iterable[Example], seed: int = 0) -> tuple[Example, ...]:
    """The examples that have a picture, asked about a faint copy of it, which is a group of its own.

    Which change, and how strong, is drawn by seed and group: questions about one picture get the same copy.
    """
    made: dict[str, Image.Image] = {}
    found = []
    for number, example in enumerate(examples):
        if example.image is not None:
            group = f"{example.group or number} faint"
            if group not in made:
                made[group] = faint(example.image, random.Random(f"{seed}/{group}"))
            found.append(replace(example, image=made[group], group=group))
    return tuple(found)


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
