"""The twelve objects; their body takes the label colour."""

import math

from concept_forget.worlds.drawings.pen import DARK, PALE, Drawing, Pen, arc, box, smooth, turned

_GLASS = (206, 226, 238)
_TIMBER = (110, 76, 50)
_STEEL = (170, 174, 180)


def cup(pen: Pen) -> None:
    """A mug with its handle to the right."""
    pen.line(arc((64, 52), (15, 14), -100, 100), 1.0, 7, outline=2)
    pen.polygon([(18, 28), (65, 28), *arc((56, 74), (8, 9), 0, 90, 6), *arc((27, 74), (8, 9), 90, 180, 6)], 1.0)
    pen.polygon([(52, 34), (61, 34), (58, 74), (50, 78)], 0.78, outline=0)
    pen.ellipse((41.5, 28), (23.5, 8), 1.0)
    pen.ellipse((41.5, 29), (18, 5), (74, 48, 34), outline=1.5)
    for x in (34, 47):
        pen.line([(x, 17), (x - 2, 14), (x + 2, 10), (x, 7)], PALE, 2.6)


def car(pen: Pen) -> None:
    """A saloon from the side."""
    pen.polygon([(22, 50), (33, 25), (63, 25), (77, 50)], 1.0)
    pen.polygon([(32, 47), (38, 32), (47, 32), (47, 47)], _GLASS, 1.5)
    pen.polygon([(52, 47), (52, 32), (59, 32), (67, 47)], _GLASS, 1.5)
    pen.polygon(box(9, 46, 87, 71, 9), 1.0)
    pen.polygon(box(11, 64, 85, 69, 2), 0.75, 0)
    pen.line([(49.5, 49), (49.5, 62)], DARK, 1.2)
    pen.ellipse((81, 54), (3.5, 3.5), (255, 244, 190), 1.2)
    for x in (27, 69):
        pen.ellipse((x, 71), (10, 10), DARK)
        pen.ellipse((x, 71), (5, 5), _STEEL, 0)


def house(pen: Pen) -> None:
    """A house with a pitched roof and a chimney."""
    pen.polygon(box(62, 17, 71, 38), 0.84)
    pen.polygon(box(22, 44, 74, 83), 1.0)
    pen.polygon([(11, 47), (48, 12), (85, 47)], 0.84)
    pen.polygon(box(43, 60, 56, 83), (96, 66, 46), 1.5)
    pen.ellipse((53, 72), (1.2, 1.2), PALE, 0)
    for x in (27, 60):
        pen.polygon(box(x, 55, x + 10, 67), _GLASS, 1.5)
        pen.line([(x + 5, 55), (x + 5, 67)], DARK, 1)
        pen.line([(x, 61), (x + 10, 61)], DARK, 1)


def tree(pen: Pen) -> None:
    """A broadleaf tree."""
    pen.polygon([(42, 56), (54, 56), (56, 78), (62, 86), (34, 86), (40, 78)], _TIMBER)
    crown = [((30, 46), 16), ((66, 46), 16), ((36, 28), 17), ((60, 28), 17), ((48, 44), 18)]
    for centre, r in crown:
        pen.ellipse(centre, (r + 1, r + 1), DARK, 0)
    for centre, r in crown:
        pen.ellipse(centre, (r - 1, r - 1), 1.0, 0)
    for centre in ((38, 50), (58, 52), (48, 34)):
        pen.line(arc(centre, (7, 6), 20, 160, 8), 0.65, 2.5)


def fish(pen: Pen) -> None:
    """A fish that swims to the left."""
    pen.polygon([(62, 48), (84, 28), (79, 48), (84, 68)], 1.0)
    pen.polygon(smooth([(40, 30), (50, 18), (62, 24), (58, 36)]), 0.8)
    pen.polygon(smooth([(11, 49), (24, 33), (44, 28), (62, 38), (71, 48), (62, 58), (44, 68), (24, 64)]), 1.0)
    pen.line(arc((24, 48), (12, 18), -55, 55), DARK, 1.8)
    for x, y in ((46, 40), (46, 56), (55, 48)):
        pen.line(arc((x, y), (5, 6), -70, 70, 8), 0.6, 2.2)
    pen.ellipse((23, 44), (5, 5), PALE, 1.5)
    pen.ellipse((22, 44), (2.4, 2.4), DARK, 0)


def cat(pen: Pen) -> None:
    """A sitting cat from the front."""
    pen.line([(64, 78), (78, 76), (83, 64), (80, 52), (84, 45)], 1.0, 7, outline=2)
    pen.polygon(smooth([(36, 48), (60, 48), (70, 72), (64, 86), (32, 86), (26, 72)]), 1.0)
    for side in (-1, 1):
        pen.polygon([(48 + 22 * side, 10), (48 + 22 * side, 34), (48 + 4 * side, 20)], 1.0)
        pen.polygon([(48 + 19 * side, 16), (48 + 19 * side, 27), (48 + 11 * side, 21)], (244, 176, 176), 0)
    pen.ellipse((48, 35), (23, 19), 1.0)
    pen.ellipse((48, 70), (10, 12), PALE, 0)
    for side in (-1, 1):
        pen.ellipse((48 + 9 * side, 32), (5, 5.5), PALE, 1.2)
        pen.ellipse((48 + 9 * side, 32), (1.8, 4.5), DARK, 0)
        pen.line([(48 + 10 * side, 42), (48 + 27 * side, 39)], DARK, 1.2)
        pen.line([(48 + 10 * side, 44), (48 + 27 * side, 46)], DARK, 1.2)
        pen.ellipse((48 + 8 * side, 85), (7, 4), 1.0, 1.5)
    pen.polygon([(45, 40), (51, 40), (48, 44)], (226, 120, 130), 1)


def key(pen: Pen) -> None:
    """An old door key, its bow to the upper left."""
    about = (48, 48)
    pen.line(turned([(34, 48), (88, 48)], 35, about), 1.0, 9, outline=2)
    for x in (70, 84):
        pen.line(turned([(x, 48), (x, 64)], 35, about), 1.0, 7, outline=2)
    pen.line(turned([(34, 48), (88, 48)], 35, about), 1.0, 9)
    (bow,) = turned([(22, 48)], 35, about)
    pen.ellipse(bow, (21, 21), 1.0)
    pen.line(arc(bow, (15, 15), 0, 360), 0.75, 2)
    (hole,) = turned([(18, 48)], 35, about)
    pen.ellipse(hole, (8, 8), DARK)


def chair(pen: Pen) -> None:
    """A dining chair."""
    for x, y in ((31, 66), (65, 66)):
        pen.line([(x, 50), (x, y + 10)], _TIMBER, 4, outline=1.5)
    for x in (25, 71):
        pen.line([(x, 62), (x, 87)], _TIMBER, 5, outline=1.8)
    pen.polygon(box(25, 9, 71, 49, 9), 1.0)
    for x in (36, 48, 60):
        pen.line([(x, 18), (x, 40)], 0.6, 3)
    pen.polygon([(28, 50), (68, 50), (77, 64), (19, 64)], 1.0)
    pen.polygon(box(19, 63, 77, 69, 2), 0.7)


def umbrella(pen: Pen) -> None:
    """An open umbrella with a crook."""
    pen.line([(48, 46), (48, 79), *arc((55, 79), (7, 7), 180, 20, 10)], _TIMBER, 4, outline=1.6)
    scallops = [p for x in (72.5, 56.5, 39.5, 23.5) for p in arc((x, 50), (8.2, 6), 0, -180, 8)]
    pen.polygon([*arc((48, 50), (33.5, 36), 180, 360, 30), *scallops], 1.0)
    for x in (31.5, 64.5):
        pen.line([(48, 14), (48 + (x - 48) * 0.75, 27), (x, 48)], 0.55, 2)
    pen.line([(48, 14), (48, 48)], 0.55, 2)
    pen.line([(48, 13), (48, 8)], DARK, 3)


def guitar(pen: Pen) -> None:
    """An acoustic guitar, its neck to the upper right."""
    about = (48, 48)
    pen.polygon(turned(box(43.5, 0, 52.5, 40), 38, about), _TIMBER)
    pen.polygon(turned(box(41, -3, 55, 9, 2), 38, about), DARK)
    body = [(48, 25), (63, 28), (67, 38), (63, 48), (71, 59), (74, 72), (65, 85), (48, 88)]
    body += [(96 - x, y) for x, y in body[-2:0:-1]]
    pen.polygon(turned(smooth(body), 38, about), 1.0)
    (hole,) = turned([(48, 47)], 38, about)
    pen.ellipse(hole, (7.5, 7.5), DARK, 0)
    pen.line(turned([(38, 71), (58, 71)], 38, about), _TIMBER, 3.5, outline=1.2)
    for x in (46, 48, 50):
        pen.line(turned([(x, 3), (x, 70)], 38, about), (225, 220, 205), 0.8)


def star(pen: Pen) -> None:
    """A five-pointed star."""
    radii = (38, 17)
    tips = [
        (48 + radii[i % 2] * math.sin(math.pi * i / 5), 51 - radii[i % 2] * math.cos(math.pi * i / 5))
        for i in range(10)
    ]
    pen.polygon(tips, 1.0, 0)
    for i in range(0, 10, 2):
        pen.polygon([(48, 51), tips[i], tips[i + 1]], 0.86, 0)
    pen.line([*tips, tips[0], tips[1]], DARK, 2.4)


def rocket(pen: Pen) -> None:
    """A rocket that takes off."""
    pen.polygon([(39, 72), (57, 72), (52, 80), (48, 88), (44, 80)], (255, 214, 120), 1.6)
    for side in (-1, 1):
        pen.polygon([(48 + 12 * side, 50), (48 + 29 * side, 68), (48 + 28 * side, 80), (48 + 10 * side, 72)], 0.75)
    hull = [(48, 7), (59, 18), (66, 34), (66, 54), (60, 72)]
    pen.polygon(smooth([*hull, *((96 - x, y) for x, y in hull[:0:-1])]), 1.0)
    pen.polygon([(40, 17), (44, 11), (48, 7), (52, 11), (56, 17)], DARK, 1)
    pen.ellipse((48, 35), (9, 9), DARK, 0)
    pen.ellipse((48, 35), (6.5, 6.5), _GLASS, 0)
    pen.line([(36, 60), (60, 60)], 0.6, 3)


OBJECTS: dict[str, Drawing] = {
    "cup": cup,
    "car": car,
    "house": house,
    "tree": tree,
    "fish": fish,
    "cat": cat,
    "key": key,
    "chair": chair,
    "umbrella": umbrella,
    "guitar": guitar,
    "star": star,
    "rocket": rocket,
}
