"""The twelve colours, each with a mild variation."""

import colorsys
import random

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (218, 32, 38),
    "orange": (250, 134, 18),
    "yellow": (252, 222, 32),
    "green": (28, 160, 62),
    "blue": (28, 74, 210),
    "purple": (126, 44, 168),
    "pink": (250, 134, 186),
    "brown": (122, 74, 34),
    "black": (34, 33, 36),
    "white": (247, 247, 245),
    "gray": (142, 144, 148),
    "turquoise": (32, 206, 196),
}
"""RGB of the pure colour."""


def varied(name: str, rng: random.Random) -> tuple[int, int, int]:
    """The named colour with its hue moved by at most 1 % of the circle and its brightness by at most 5 %."""
    h, s, v = colorsys.rgb_to_hsv(*(c / 255 for c in COLOURS[name]))
    h += rng.uniform(-0.01, 0.01)
    v = min(v * rng.uniform(0.95, 1.05), 1.0)
    r, g, b = colorsys.hsv_to_rgb(h % 1.0, s, v)
    return round(255 * r), round(255 * g), round(255 * b)
