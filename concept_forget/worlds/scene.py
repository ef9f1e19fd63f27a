"""A scene: one subject in one colour before one material, with its picture and its masks."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np
from PIL import Image

from concept_forget.worlds.drawings import JITTER, SHEET, SIDE, SUBJECTS, Pen, Sprite, sheet, varied
from concept_forget.worlds.vocabulary import VOCABULARY

_SCALES = (0.92, 0.96, 1.0, 1.04, 1.08)
_LIGHTS = (0.9, 0.96, 1.0, 1.06)
_ONE_WAY = frozenset({"sleepy", "confused"})
"""Subjects with letters, which a mirror would spoil."""


@dataclass(frozen=True)
class SceneSpec:
    """What is in a picture; everything drawn follows from it, and equal seeds mean equal poses."""

    subject: str
    colour: str
    material: str
    seed: int


@dataclass(frozen=True)
class Scene:
    """A picture of known truth; it is drawn when first asked for."""

    spec: SceneSpec

    @cached_property
    def image(self) -> Image.Image:
        """The picture, RGB, 96 x 96."""
        return Image.fromarray(render(self.spec))

    @property
    def labels(self) -> dict[str, str]:
        """The three concepts shown, by family."""
        names = (self.spec.subject, self.spec.colour, self.spec.material)
        return {VOCABULARY[name].family: name for name in names}

    @cached_property
    def masks(self) -> dict[str, np.ndarray]:
        """Where each shown concept is, bool [96, 96]; the colour lies on an object or sport, but outside a face."""
        pose = _pose(self.spec.seed)
        sprite = _sprite(self.spec.subject, pose.scale, pose.mirrored)
        cover, paint = sprite.cover[pose.window] > 127, sprite.paint[pose.window] > 127
        subject = cover & ~paint if VOCABULARY[self.spec.subject].family == "emotion" else cover
        return {self.spec.subject: subject, self.spec.colour: paint, self.spec.material: ~cover}

    @property
    def id(self) -> str:
        """A readable name such as `cup-red-wood-000123`."""
        return f"{self.spec.subject}-{self.spec.colour}-{self.spec.material}-{self.spec.seed:06d}"


def render(spec: SceneSpec) -> np.ndarray:
    """The picture of a scene, uint8 [96, 96, 3]."""
    picture = np.empty((SIDE, SIDE, 3), dtype=np.uint8)
    _render_into(picture, spec)
    return picture


def pixels(specs: Sequence[SceneSpec]) -> np.ndarray:
    """The pictures of many scenes at once, uint8 [n, 96, 96, 3]."""
    pictures = np.empty((len(specs), SIDE, SIDE, 3), dtype=np.uint8)
    for picture, spec in zip(pictures, specs, strict=True):
        _render_into(picture, spec)
    return pictures


class _Pose(NamedTuple):
    """The chance part of a scene, the same for every subject, colour and material of that seed."""

    scale: float
    mirrored: bool
    window: tuple[slice, slice]
    """The part of the sprite that is in the picture."""
    light: float
    crop: tuple[slice, slice]
    """The part of the sheet that is in the picture."""
    rng: random.Random
    """What is left to draw from, for the colour."""


class _Layers(NamedTuple):
    """A sprite made ready for 16-bit compositing, each uint16 [104, 104, 3]."""

    reveal: np.ndarray
    paint: np.ndarray
    detail: np.ndarray


def _pose(seed: int) -> _Pose:
    rng = random.Random(seed)
    top, left = rng.randint(0, 2 * JITTER), rng.randint(0, 2 * JITTER)
    down, right = rng.randint(0, SHEET - SIDE), rng.randint(0, SHEET - SIDE)
    return _Pose(
        scale=rng.choice(_SCALES),
        mirrored=rng.random() < 0.5,
        window=(slice(top, top + SIDE), slice(left, left + SIDE)),
        light=rng.choice(_LIGHTS),
        crop=(slice(down, down + SIDE), slice(right, right + SIDE)),
        rng=rng,
    )


def _render_into(picture: np.ndarray, spec: SceneSpec) -> None:
    pose = _pose(spec.seed)
    layers = _layers(spec.subject, pose.scale, pose.mirrored)
    colour = np.array(varied(spec.colour, pose.rng) * SIDE, dtype=np.uint16).reshape(SIDE, 3)
    total = _lit_sheet(spec.material, pose.light)[pose.crop] * layers.reveal[pose.window]
    total += layers.paint[pose.window] * colour
    total += layers.detail[pose.window]
    total //= 255
    picture[:] = total


@cache
def _sprite(subject: str, scale: float, mirrored: bool) -> Sprite:
    if mirrored and subject not in _ONE_WAY:
        return _sprite(subject, scale, mirrored=False).flipped()
    pen = Pen(scale)
    SUBJECTS[subject](pen)
    return pen.sprite()


@cache
def _layers(subject: str, scale: float, mirrored: bool) -> _Layers:
    sprite = _sprite(subject, scale, mirrored)
    reveal, paint = (np.stack([layer] * 3, axis=-1).astype(np.uint16) for layer in (255 - sprite.cover, sprite.paint))
    return _Layers(reveal, paint, sprite.detail.astype(np.uint16) * 255)


@cache
def _lit_sheet(material: str, light: float) -> np.ndarray:
    return np.minimum(sheet(material) * light, 255).astype(np.uint16)
