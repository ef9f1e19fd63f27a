"""The twelve emotions, as faces under a hat; the hat takes the label colour."""

import math

from concept_forget.worlds.drawings.pen import DARK, PALE, Drawing, Ink, Pen, Point, arc, box, smooth

_SKIN = (255, 226, 158)
_BLUSH = (244, 140, 130)
_TEAR = (120, 196, 246)
_MOUTH = (120, 34, 44)
_TONGUE = (238, 112, 122)
_LEFT, _RIGHT = (36.0, 53.0), (60.0, 53.0)


def happy(pen: Pen) -> None:
    """A broad smile."""
    _head(pen)
    _dots(pen)
    pen.line(arc((48, 62), (17, 15), 12, 168), DARK, 4)
    for x in (26, 70):
        pen.ellipse((x, 64), (4.5, 3.5), _BLUSH, 0)


def sad(pen: Pen) -> None:
    """Raised inner brows, and the corners of the mouth hang."""
    _head(pen)
    for side in (-1, 1):
        pen.line([(48 + 5 * side, 45), (48 + 21 * side, 52)], DARK, 3.4)
        pen.ellipse((48 + 13 * side, 58), (4, 4.5), DARK, 0)
    pen.line(arc((48, 84), (16, 13), 200, 340), DARK, 4)


def angry(pen: Pen) -> None:
    """Brows drawn down, bared teeth, a flushed skin."""
    _head(pen, (250, 168, 142))
    for side in (-1, 1):
        pen.line([(48 + 4 * side, 56), (48 + 22 * side, 47.5)], DARK, 5.5)
        pen.ellipse((48 + 12 * side, 59), (4, 4), DARK, 0)
    pen.polygon(box(31, 67, 65, 80, 4), PALE, 2.6)
    pen.line([(31, 73.5), (65, 73.5)], DARK, 1.8)
    for x in (39.5, 48, 56.5):
        pen.line([(x, 67), (x, 80)], DARK, 1.8)


def surprised(pen: Pen) -> None:
    """Wide eyes and a round open mouth."""
    _head(pen)
    for x, y in (_LEFT, _RIGHT):
        pen.ellipse((x, y + 1), (9.5, 9.5), PALE)
        pen.ellipse((x, y + 1), (2.8, 2.8), DARK, 0)
    pen.ellipse((48, 74.5), (8, 9), _MOUTH)


def scared(pen: Pen) -> None:
    """A pale face, chattering zigzag mouth, sweat."""
    _head(pen, (214, 230, 244))
    for side in (-1, 1):
        pen.ellipse((48 + 11 * side, 54), (7, 8.5), PALE)
        pen.ellipse((48 + 9 * side, 57), (2.4, 2.4), DARK, 0)
    zigzag = [(27 + 6 * i, 70 if i % 2 else 79) for i in range(8)]
    pen.line(zigzag, DARK, 4)
    _drop(pen, (81, 58), 6)
    _drop(pen, (15, 64), 6)


def disgusted(pen: Pen) -> None:
    """A greenish face with its tongue out."""
    _head(pen, (208, 222, 150))
    for side in (-1, 1):
        pen.line([(48 + 20 * side, 50), (48 + 6 * side, 54), (48 + 20 * side, 58)], DARK, 3.2)
    pen.line([(28, 70), (37, 65), (48, 68), (59, 65), (68, 70)], DARK, 3.6)
    pen.polygon(smooth([(40, 67), (56, 67), (58, 82), (48, 88), (38, 82)]), _TONGUE)
    pen.line([(48, 69), (48, 82)], _MOUTH, 1.8)


def sleepy(pen: Pen) -> None:
    """Closed eyes, an open snoring mouth, and Zs."""
    _head(pen)
    for x, y in (_LEFT, _RIGHT):
        pen.line(arc((x, y + 1), (8, 6), 15, 165, 12), DARK, 3.4)
    pen.ellipse((48, 75), (5, 5), _MOUTH)
    for x, y, size in ((80, 20, 7), (72, 8, 10)):
        pen.line([(x, y), (x + size, y), (x, y + size), (x + size, y + size)], DARK, 3.8)


def loving(pen: Pen) -> None:
    """Hearts for eyes."""
    _head(pen)
    for x, y in (_LEFT, _RIGHT):
        pen.polygon(_heart((x, y + 3), 11), (226, 40, 66), 1.8)
    pen.polygon([*arc((48, 70), (13, 13), 0, 180)], _MOUTH)


def crying(pen: Pen) -> None:
    """Streams of tears from shut eyes, and a wailing mouth."""
    _head(pen)
    for side in (-1, 1):
        x = 48 + 13 * side
        pen.polygon([(x - 5.5, 54), (x + 5.5, 54), (x + 7, 84), (x - 7, 84)], _TEAR, 1.6)
        pen.line([(x - 8, 53), (x + 8, 53)], DARK, 4)
        pen.line([(48 + 4 * side, 44), (48 + 20 * side, 47)], DARK, 2.6)
    pen.polygon(arc((48, 79), (7, 14), 180, 360), _MOUTH)


def confused(pen: Pen) -> None:
    """One brow up, a crooked mouth, and a question mark."""
    _head(pen)
    pen.line([(27, 52), (43, 52)], DARK, 4)
    pen.ellipse((36, 58), (4, 4), DARK, 0)
    pen.ellipse((60, 56), (8.5, 9), PALE)
    pen.ellipse((60, 56), (3, 3), DARK, 0)
    pen.line([(34, 79), (42, 74), (50, 77), (63, 69)], DARK, 4)
    pen.line([*arc((81, 13), (6, 6), 190, 410, 16), (81, 20), (81, 22)], DARK, 3.4)
    pen.ellipse((81, 27), (2.2, 2.2), DARK, 0)


def embarrassed(pen: Pen) -> None:
    """Deep blushes and eyes that look away."""
    _head(pen)
    for side in (-1, 1):
        pen.ellipse((48 + 17 * side, 66), (11, 8), (238, 92, 92), 0)
        pen.ellipse((48 + 12 * side, 51), (7, 5.5), PALE, 1.8)
        pen.ellipse((52 + 12 * side, 51), (3, 3.2), DARK, 0)
        for k in (-5, 0, 5):
            x = 48 + 17 * side + k
            pen.line([(x + 1.5, 62), (x - 1.5, 70)], (160, 30, 50), 1.6)
    pen.line([(40, 79), (44, 76), (48, 79), (52, 76), (56, 79)], DARK, 3)


def laughing(pen: Pen) -> None:
    """Squeezed eyes and a huge open mouth."""
    _head(pen)
    for side in (-1, 1):
        pen.line([(48 + 20 * side, 47), (48 + 7 * side, 52.5), (48 + 20 * side, 58)], DARK, 3.6)
    mouth = arc((48, 62), (20, 20), 0, 180)
    pen.polygon(mouth, _MOUTH, 0)
    pen.polygon(arc((48, 79), (11, 8), 190, 350) + arc((48, 62), (20, 20), 60, 120, 10), _TONGUE, 0)
    pen.polygon([(28.5, 62), (67.5, 62), (66, 68), (30, 68)], PALE, 0)
    pen.line([*mouth, mouth[0], mouth[1]], DARK, 2.4)


def _head(pen: Pen, skin: Ink = _SKIN) -> None:
    pen.ellipse((48, 59), (30, 27), skin, 2.2)
    pen.polygon(arc((48, 38), (29, 28), 180, 360, 30), 1.0, 2.2)
    pen.line(arc((48, 38), (13, 28), 180, 360, 20), 0.72, 2)
    pen.polygon(box(14, 30, 82, 44, 5), 1.0, 2.2)
    pen.ellipse((48, 11), (6, 4.5), 1.0, 2)


def _dots(pen: Pen) -> None:
    for x, y in (_LEFT, _RIGHT):
        pen.ellipse((x, y + 1), (4.2, 6), DARK, 0)
        pen.ellipse((x + 1.2, y - 1.5), (1.4, 1.6), PALE, 0)


def _drop(pen: Pen, centre: Point, size: float) -> None:
    x, y = centre
    pen.polygon([(x, y - 1.8 * size), *arc((x, y), (size, size), -20, 200, 16)], _TEAR, 1.6)


def _heart(centre: Point, size: float) -> list[Point]:
    x, y = centre
    angles = [math.tau * i / 40 for i in range(40)]
    return [
        (
            x + size * math.sin(t) ** 3,
            y - size / 16 * (13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)),
        )
        for t in angles
    ]


FACES: dict[str, Drawing] = {
    "happy": happy,
    "sad": sad,
    "angry": angry,
    "surprised": surprised,
    "scared": scared,
    "disgusted": disgusted,
    "sleepy": sleepy,
    "loving": loving,
    "crying": crying,
    "confused": confused,
    "embarrassed": embarrassed,
    "laughing": laughing,
}
