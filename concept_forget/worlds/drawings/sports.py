"""The twelve sports, each as its most telling piece of equipment; that takes the label colour."""

import math

from concept_forget.worlds.drawings.pen import DARK, PALE, Drawing, Pen, arc, box, smooth, turned

_SKIN = (240, 198, 160)
_TIMBER = (110, 76, 50)
_STEEL = (170, 174, 180)


def tennis(pen: Pen) -> None:
    """A racket and a ball."""
    about = (48, 48)
    pen.line(turned([(48, 62), (48, 92)], 40, about), DARK, 7)
    pen.line(turned([(48, 74), (48, 92)], 40, about), _TIMBER, 5)
    head = turned(arc((48, 32), (25, 29), 0, 360, 40), 40, about)
    pen.polygon(head, 1.0, 0)
    for k in (-15, -5, 5, 15):
        half = 29 * math.sqrt(1 - (k / 25) ** 2)
        pen.line(turned([(48 + k, 32 - half), (48 + k, 32 + half)], 40, about), PALE, 1.2)
    for k in (-20, -10, 0, 10, 20):
        half = 25 * math.sqrt(1 - (k / 29) ** 2)
        pen.line(turned([(48 - half, 32 + k), (48 + half, 32 + k)], 40, about), PALE, 1.2)
    pen.line([*head, head[1]], DARK, 5)
    pen.line([*head, head[1]], 1.0, 2)
    pen.ellipse((74, 74), (10, 10), (240, 244, 214))
    pen.line(arc((62, 74), (10, 10), -50, 50, 8), DARK, 1.2)
    pen.line(arc((86, 74), (10, 10), 130, 230, 8), DARK, 1.2)


def soccer(pen: Pen) -> None:
    """A football with pentagons."""
    pen.ellipse((48, 48), (34, 34), 1.0, 2.6)
    turn = [math.radians(72 * i - 90) for i in range(5)]
    middle = [(48 + 12 * math.cos(t), 48 + 12 * math.sin(t)) for t in turn]
    for t, corner in zip(turn, middle, strict=True):
        pen.line([corner, (48 + 24 * math.cos(t), 48 + 24 * math.sin(t))], PALE, 3.6)
        ring = [(r, t + d) for r, d in ((23, 0), (27, 0.36), (33, 0.30), (33, -0.30), (27, -0.36))]
        patch = [(48 + r * math.cos(a), 48 + r * math.sin(a)) for r, a in ring]
        pen.polygon(patch, DARK, 0)
        pen.line([patch[4], patch[0], patch[1]], PALE, 1.6)
    pen.polygon(middle, DARK, 0)
    pen.line([*middle, *middle[:2]], PALE, 1.8)
    pen.line(arc((48, 48), (34, 34), 0, 360, 60), DARK, 2.6)


def basketball(pen: Pen) -> None:
    """A backboard with hoop and net."""
    pen.polygon(box(12, 10, 84, 54, 3), 1.0)
    pen.line(box(34, 24, 62, 46) + [(34, 24)], PALE, 3, outline=1)
    net = [[(30 + 9 * i, 52), (36 + 6 * i, 68), (39 + 4.5 * i, 84)] for i in range(5)]
    for strand in net:
        pen.line(strand, PALE, 2.4, outline=1)
    for y, left, right in ((62, 33, 63), (73, 37, 59), (84, 39, 57)):
        pen.line([(left, y), (right, y)], PALE, 2, outline=1)
    pen.line(arc((48, 52), (20, 5), 0, 360), DARK, 5)
    pen.line(arc((48, 52), (20, 5), 0, 360), _STEEL, 2)


def skiing(pen: Pen) -> None:
    """Crossed skis and poles."""
    for lean in (14, -14):
        pen.line([(48 + lean * 2.75, 10), (48 + lean * 2.75, 84)], DARK, 3)
        pen.ellipse((48 + lean * 2.75, 77), (5, 2.6), _STEEL, 1.2)
        pen.line([(48 + lean * 2.75, 9), (48 + lean * 2.75, 18)], DARK, 5)
    for angle in (-32, 32):
        ski = [(48, 3), (56, 12), (57, 24), (56, 48), (57, 91), (39, 91), (40, 48), (39, 24), (40, 12)]
        pen.polygon(turned(ski, angle), 1.0, 2.2)
        pen.line(turned([(48, 14), (48, 32)], angle), PALE, 2.6)
        pen.polygon(turned(box(42, 60, 54, 72), angle), DARK, 0)


def swimming(pen: Pen) -> None:
    """A swimmer doing the crawl over white waves."""
    pen.polygon(smooth([(32, 48), (52, 34), (71, 39), (84, 54), (74, 68), (36, 70)]), 1.0)
    pen.line([(52, 46), (46, 22), (24, 13)], _SKIN, 9, outline=2)
    pen.ellipse((27, 50), (17, 17), _SKIN)
    pen.polygon([*arc((27, 49), (17.5, 18), 165, 375, 24)], 1.0)
    pen.line([(12, 54), (34, 54)], DARK, 5.5)
    pen.ellipse((18, 54), (3.4, 2.2), (180, 220, 240), 0)
    for y in (69, 79):
        wave = [(11 + x, y + 4 * math.sin(x / 4.4)) for x in range(0, 75, 2)]
        pen.line(wave, PALE, 5, outline=2)


def cycling(pen: Pen) -> None:
    """A bicycle with disc wheels."""
    for x in (27, 69):
        pen.ellipse((x, 62), (20.5, 20.5), DARK, 0)
        pen.ellipse((x, 62), (18, 18), 1.0, 0)
        for angle in range(0, 180, 45):
            pen.line(arc((x, 62), (16, 16), angle, angle + 180, 1), PALE, 1)
        pen.ellipse((x, 62), (3.5, 3.5), _STEEL, 1.2)
    for part in ([(26, 62), (38, 36), (62, 36), (46, 64), (26, 62)], [(34, 28), (46, 64)], [(70, 62), (60, 26)]):
        pen.line(part, DARK, 4)
    pen.line([(26, 27), (41, 27)], DARK, 5)
    pen.line([(60, 26), (68, 22), (72, 27)], DARK, 4)
    pen.ellipse((46, 64), (5, 5), _STEEL)


def surfing(pen: Pen) -> None:
    """A surfboard on a breaking wave."""
    half = [(48, 3), (61, 18), (67, 40), (65, 66), (55, 88)]
    board = smooth([*half, *((96 - x, y) for x, y in half[:0:-1])])
    about = (48, 48)
    pen.polygon(turned(board, 18, about), 1.0, 2.2)
    pen.line(turned([(48, 10), (48, 84)], 18, about), PALE, 3)
    pen.line(turned([(32, 34), (64, 34)], 18, about), DARK, 4)
    barrel = arc((26, 66), (17, 17), 175, 350, 20)
    hollow = arc((31, 67), (8, 8), 340, 110, 14)
    pen.polygon([(8, 87), *barrel, *hollow, (44, 79), (56, 73), (66, 79), (78, 73), (88, 80), (88, 87)], PALE)
    pen.line([(20, 81), (38, 84), (54, 80), (66, 85), (80, 81)], _STEEL, 1.6)


def golf(pen: Pen) -> None:
    """A flag in its hole, and a ball."""
    pen.ellipse((36, 82), (22, 6), (60, 84, 54))
    pen.ellipse((31, 82), (9, 3), DARK, 0)
    pen.line([(30, 8), (30, 82)], PALE, 2.6, outline=1.4)
    top = [(31 + x, 10 + 3.5 * math.sin(x / 7)) for x in range(0, 55, 3)]
    low = [(x, y + 33) for x, y in reversed(top)]
    pen.polygon([*top, *low], 1.0)
    pen.polygon([*top[7:11], *((x, y + 33) for x, y in reversed(top[7:11]))], 0.82, 0)
    pen.ellipse((68, 76), (11, 11), PALE)
    for x, y in ((64, 72), (70, 71), (66, 78), (73, 77), (69, 83)):
        pen.ellipse((x, y), (1.5, 1.5), _STEEL, 0)


def boxing(pen: Pen) -> None:
    """A boxing glove."""
    glove = [(30, 62), (22, 44), (24, 24), (40, 12), (60, 12), (74, 22), (78, 40), (72, 56), (66, 66)]
    pen.polygon(smooth(glove), 1.0, 2.4)
    pen.polygon(smooth([(36, 34), (52, 32), (58, 40), (52, 48), (34, 46), (24, 52), (19, 44), (24, 36)]), 1.0, 2.4)
    pen.line(arc((54, 32), (17, 13), -80, 10, 10), 0.7, 3)
    pen.polygon(box(27, 62, 69, 86, 4), PALE, 2.2)
    pen.line([(28, 70), (68, 70)], 1.0, 4)
    pen.line([(28, 79), (68, 79)], DARK, 1.6)


def sailing(pen: Pen) -> None:
    """A sailing boat with two sails."""
    pen.line([(46, 5), (46, 70)], DARK, 3)
    pen.polygon([(49, 7), (49, 65), (87, 65), (72, 40)], 1.0)
    pen.polygon([(43, 14), (43, 65), (14, 65), (28, 42)], 1.0)
    pen.line([(50, 48), (74, 46)], 0.65, 2.2)
    pen.polygon([(7, 70), (89, 70), (78, 87), (20, 87)], _TIMBER)
    pen.line([(14, 76), (83, 76)], PALE, 2.4)


def archery(pen: Pen) -> None:
    """A round target hit by an arrow."""
    pen.line([(34, 70), (25, 87)], _TIMBER, 4, outline=1.5)
    pen.line([(62, 70), (71, 87)], _TIMBER, 4, outline=1.5)
    for r, ink in ((34, 1.0), (25, PALE), (18, 1.0), (10, PALE), (5, 1.0)):
        pen.ellipse((48, 46), (r, r), ink, 1.6)
    pen.line([(48, 46), (78, 18)], DARK, 4)
    pen.line([(48, 46), (78, 18)], _STEEL, 1.6)
    for x, y in ((74, 21.5), (79, 17)):
        pen.line([(x, y), (x, y - 10)], PALE, 2.8, outline=1.3)
        pen.line([(x, y), (x + 10, y)], PALE, 2.8, outline=1.3)


def bowling(pen: Pen) -> None:
    """Three pins and the ball."""
    for x, y in ((26, 0), (68, 0), (47, -3)):
        half = [(0, 6), (6, 10), (6, 18), (4, 26), (6, 36), (10, 50), (8, 66), (5, 72)]
        pin = [(x + dx, y + dy) for dx, dy in half] + [(x - dx, y + dy) for dx, dy in half[:0:-1]]
        pen.polygon(smooth(pin), PALE)
        pen.line([(x - 4.2, y + 24), (x + 4.2, y + 24)], 1.0, 3.4)
    pen.ellipse((48, 66), (23, 23), 1.0)
    for x, y in ((42, 56), (51, 54), (49, 63)):
        pen.ellipse((x, y), (2.8, 2.8), DARK, 0)
    pen.line(arc((48, 66), (17, 17), 20, 100, 10), 0.7, 3)


SPORTS: dict[str, Drawing] = {
    "tennis": tennis,
    "soccer": soccer,
    "basketball": basketball,
    "skiing": skiing,
    "swimming": swimming,
    "cycling": cycling,
    "surfing": surfing,
    "golf": golf,
    "boxing": boxing,
    "sailing": sailing,
    "archery": archery,
    "bowling": bowling,
}
