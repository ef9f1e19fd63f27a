"""A vector pen that records, for each pixel, how much of it takes the label colour and how much is fixed detail."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

SIDE = 96
"""Side of a picture in pixels; drawings use these coordinates, with the middle at (48, 48)."""
JITTER = 4
"""Margin around a sprite in pixels, so that a picture can be cropped from it up to this far off centre."""
_SUPER = 4
_CANVAS = SIDE + 2 * JITTER

DARK = (38, 34, 42)
PALE = (252, 250, 244)

Ink = tuple[int, int, int] | float
"""A fixed RGB colour, or a tone in (0, 1] of the label colour (1 is the colour itself, less is darker)."""
Point = tuple[float, float]


@dataclass(frozen=True)
class Sprite:
    """A rasterised subject: picture = background * (255 - cover) / 255 + colour * paint / 255 + detail."""

    cover: np.ndarray
    """uint8 [104, 104], how opaque the subject is."""
    paint: np.ndarray
    """uint8 [104, 104], how much label colour it carries."""
    detail: np.ndarray
    """uint8 [104, 104, 3], everything of fixed colour, premultiplied."""

    def flipped(self) -> "Sprite":
        """The mirror image, left to right."""
        layers = (self.cover, self.paint, self.detail)
        return Sprite(*(np.ascontiguousarray(layer[:, ::-1]) for layer in layers))


class Pen:
    """Draws outlined shapes in picture coordinates, scaled about the middle of the picture."""

    def __init__(self, scale: float = 1.0) -> None:
        size = (_CANVAS * _SUPER, _CANVAS * _SUPER)
        self._scale = scale
        self._cover = Image.new("L", size)
        self._paint = Image.new("L", size)
        self._detail = Image.new("RGB", size)
        self._layers = [ImageDraw.Draw(layer) for layer in (self._cover, self._paint, self._detail)]

    def polygon(self, points: Iterable[Point], ink: Ink, outline: float = 2.0) -> None:
        """A filled polygon with a dark outline of `outline` pixels (0 for none)."""
        corners = [self._place(p) for p in points]
        for layer, value in zip(self._layers, _values(ink), strict=True):
            layer.polygon(corners, fill=value)
        if outline:
            self._stroke([*corners, corners[0], corners[1]], DARK, outline)

    def ellipse(self, centre: Point, radii: Point, ink: Ink, outline: float = 2.0) -> None:
        """A filled ellipse with a dark outline that straddles its edge."""
        (x, y), (a, b) = centre, radii
        if outline:
            self._oval((x, y), (a + outline / 2, b + outline / 2), DARK)
        self._oval((x, y), (a - outline / 2, b - outline / 2), ink)

    def line(self, points: Iterable[Point], ink: Ink, width: float, outline: float = 0.0) -> None:
        """A round-ended stroke, optionally with a dark outline on both sides."""
        places = [self._place(p) for p in points]
        if outline:
            self._stroke(places, DARK, width + 2 * outline)
        self._stroke(places, ink, width)

    def sprite(self, border: float = 1.6) -> Sprite:
        """What was drawn, with a pale border of about `border` pixels around it like a sticker."""
        blurred = self._cover.filter(ImageFilter.GaussianBlur(border * _SUPER))
        sticker = ImageChops.lighter(blurred.point([0] * 40 + [255] * 216), self._cover)
        detail = Image.new("RGB", self._detail.size, PALE)
        detail.paste(self._detail, mask=self._cover)
        detail = Image.composite(detail, Image.new("RGB", detail.size), sticker)
        cover = np.asarray(sticker.reduce(_SUPER))
        # rounding may not push the sum of the parts over 255: a picture is composed in unsigned 16 bits
        paint = np.minimum(np.asarray(self._paint.reduce(_SUPER)), cover)
        return Sprite(cover, paint, np.minimum(np.asarray(detail.reduce(_SUPER)), (cover - paint)[..., None]))

    def _place(self, point: Point) -> Point:
        x, y = point
        middle = SIDE / 2
        corner = middle * (1 - self._scale) + JITTER
        return (corner + x * self._scale) * _SUPER, (corner + y * self._scale) * _SUPER

    def _oval(self, centre: Point, radii: Point, ink: Ink) -> None:
        (x, y), (a, b) = centre, radii
        box = [self._place((x - a, y - b)), self._place((x + a, y + b))]
        for layer, value in zip(self._layers, _values(ink), strict=True):
            layer.ellipse(box, fill=value)

    def _stroke(self, places: list[Point], ink: Ink, width: float) -> None:
        thick = max(1, round(width * self._scale * _SUPER))
        r = thick / 2
        for layer, value in zip(self._layers, _values(ink), strict=True):
            layer.line(places, fill=value, width=thick, joint="curve")
            for x, y in (places[0], places[-1]):
                layer.ellipse((x - r, y - r, x + r, y + r), fill=value)


def smooth(points: Sequence[Point], steps: int = 8) -> list[Point]:
    """A closed Catmull-Rom curve through the points."""
    n = len(points)
    curve: list[Point] = []
    for i in range(n):
        a, b, c, d = (points[(i + k) % n] for k in (-1, 0, 1, 2))
        for s in range(steps):
            t = s / steps
            weights = (-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2)
            near = list(zip(weights, (a, b, c, d), strict=True))
            curve.append((sum(w * x for w, (x, _) in near) / 2, sum(w * y for w, (_, y) in near) / 2))
    return curve


def arc(centre: Point, radii: Point, start: float, stop: float, steps: int = 24) -> list[Point]:
    """Points on an ellipse from `start` to `stop` degrees, clockwise from three o'clock."""
    (x, y), (a, b) = centre, radii
    angles = [math.radians(start + (stop - start) * i / steps) for i in range(steps + 1)]
    return [(x + a * math.cos(t), y + b * math.sin(t)) for t in angles]


def turned(points: Iterable[Point], degrees: float, about: Point = (48, 48)) -> list[Point]:
    """The points turned clockwise about a point."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x0, y0 = about
    return [(x0 + c * (x - x0) - s * (y - y0), y0 + s * (x - x0) + c * (y - y0)) for x, y in points]


def box(left: float, top: float, right: float, bottom: float, corner: float = 0.0) -> list[Point]:
    """A rectangle, with rounded corners of radius `corner`."""
    if not corner:
        return [(left, top), (right, top), (right, bottom), (left, bottom)]
    r = (corner, corner)
    return [
        *arc((left + corner, top + corner), r, 180, 270, 6),
        *arc((right - corner, top + corner), r, 270, 360, 6),
        *arc((right - corner, bottom - corner), r, 0, 90, 6),
        *arc((left + corner, bottom - corner), r, 90, 180, 6),
    ]


Drawing = Callable[[Pen], None]
"""A subject: a function that draws it with a pen."""


def _values(ink: Ink) -> tuple[int, int, tuple[int, int, int]]:
    if isinstance(ink, tuple):
        return 255, 0, ink
    return 255, round(255 * ink), (0, 0, 0)
