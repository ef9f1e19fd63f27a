"""Forgetting against keeping, as points that can be pressed."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from analysis.figures import pareto_front
from app.ui.judging import Point
from app.ui.sessions import Settings

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 520, 330, 62, 42, 10


def pareto(points: Sequence[Point], now: Settings) -> str:
    """The sweep as an SVG with one button per point, and as a list: what the eye, the mouse and the keyboard need."""
    if not points:
        return ""
    middle = (HEIGHT - BOTTOM) / 2
    best = max(range(len(points)), key=lambda i: points[i].score)
    ticks = "".join(_tick(share) for share in (0, 0.25, 0.5, 0.75, 1))
    front = pareto_front([(point.keep, point.forget) for point in points])
    line = " ".join(f"{_x(keep):.1f},{_y(forget):.1f}" for keep, forget in _stairs(front))
    upwards = sorted(range(len(points)), key=lambda i: (i == best, points[i].score))
    dots = "".join(_dot(number, points[number], number == best) for number in upwards)
    order = sorted(range(len(points)), key=lambda i: -points[i].score)
    rows = "".join(_line(number, points[number], number == best, points[number].settings == now) for number in order)
    return (
        f'<div class="cf-pareto"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="group" aria-label="Forgotten against kept">'
        f'{ticks}<polyline class="front" points="{line}"/>{dots}'
        f'<text x="{(WIDTH + LEFT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">kept (the least of the three)</text>'
        f'<text x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">forgotten</text>'
        f"</svg><ol>{rows}</ol></div>"
    )


def _stairs(front: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    corners: list[tuple[float, float]] = []
    for keep, forget in front:
        if corners:
            corners.append((corners[-1][0], forget))
        corners.append((keep, forget))
    return corners


def _x(share: float) -> float:
    return LEFT + 12 + share * (WIDTH - LEFT - 28)


def _y(share: float) -> float:
    return TOP + 6 + (1 - share) * (HEIGHT - BOTTOM - TOP - 12)


def _tick(share: float) -> str:
    x, y = _x(share), _y(share)
    return (
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - 4}" y1="{y}" y2="{y}"/>'
        f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{share:.0%}</text>'
        f'<text x="{x}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{share:.0%}</text>'
    )


def _dot(number: int, point: Point, best: bool) -> str:
    title = f"{point.label}: forgets {point.forget:.0%}, keeps {point.keep:.0%}"
    return (
        f'<g data-act="load" data-arg="{number}" class="{"best" if best else ""}"><title>{escape(title)}</title>'
        f'<circle cx="{_x(point.keep):.1f}" cy="{_y(point.forget):.1f}" r="{7 if best else 6}"/></g>'
    )


def _line(number: int, point: Point, best: bool, now: bool) -> str:
    tag = " · best" if best else ""
    tag += " · current" if now else ""
    return (
        f'<li><button type="button" data-act="load" data-arg="{number}" aria-pressed="{str(now).lower()}">'
        f"{escape(point.label)}"
        f"<small>forgets {point.forget:.0%} · keeps {point.keep:.0%}{tag}</small></button></li>"
    )
