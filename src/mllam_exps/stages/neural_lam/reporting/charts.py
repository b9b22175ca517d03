"""Curves as SVG, drawn in the colours of the page: in print, by night, and for who sees no red or green."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 560, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 120, 12, 40
COLOURS = (
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
    (128, 128, 128),
)
"""Of lines: Okabe and Ito 2008, told apart by all."""
DASH = 4.0
"""Half the length of a dash that stands for a single point."""
DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 2", "12 4", "1 2", "9 3 2 3 2 3")
"""Lines differ by their dashes, too: a colour alone is nothing in print.

They are one more than the colours: the eighth line is not the first again."""
STEPS = (1, 2, 2.5, 5, 10)
FEW = 8
"""Values along the page that each get a mark."""


def lines(curves: Mapping[str, Points], x: str, y: str, title: str) -> str:
    """Return a chart of some curves, each with its name at its end.

    Parameters
    ----------
    curves : mapping
        Points by name.
    x, y : str
        What the axes are, with units.
    title : str
        Read out to those who do not see it.
    """
    drawn = {
        name: [(a, b) for a, b in points if math.isfinite(b)]
        for name, points in curves.items()
    }
    drawn = {name: points for name, points in drawn.items() if points}
    if not drawn:
        return ""
    xs = [a for points in drawn.values() for a, _ in points]
    ys = [b for points in drawn.values() for _, b in points]
    across = _Axis.over(xs, LEFT, WIDTH - RIGHT)
    if len(few := sorted(set(xs))) <= FEW:
        across.given = few
    up = _Axis.over([0.0, *ys] if min(ys) >= 0 else ys, HEIGHT - BOTTOM, TOP).whole
    parts = [*_frame(across, up, x, y)]
    ends = _apart({name: up(points[-1][1]) for name, points in drawn.items()})
    for number, (name, points) in enumerate(drawn.items()):
        # Of one point a line has no length, and nothing would be seen.
        at = [(across(a), up(b)) for a, b in points]
        if len(at) == 1:
            at = [(at[0][0] - DASH, at[0][1]), (at[0][0] + DASH, at[0][1])]
        where = " ".join(f"{a:.1f},{b:.1f}" for a, b in at)
        style = f'class="line c{number % len(COLOURS)}" stroke-dasharray="{DASHES[number % len(DASHES)]}"'
        parts.append(
            f'<polyline {style} points="{where}"><title>{escape(name)}</title></polyline>'
        )
        place = f'x="{WIDTH - RIGHT + 6}" y="{ends[name] + 4:.1f}"'
        colour = f"name c{number % len(COLOURS)}"
        parts.append(f'<text class="{colour}" {place}>{escape(name[:18])}</text>')
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title, quote=True)}">'
        f"{''.join(parts)}</svg>"
    )


class _Axis:
    """A scale from values to the page, with round marks."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high, self.start, self.end = low, high, start, end
        self.given: list[float] = []

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float) -> _Axis:
        low, high = min(values), max(values)
        if low == high:
            low, high = low - 0.5, high + 0.5
        return cls(low, high, start, end)

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (
            self.end - self.start
        )

    @property
    def whole(self) -> _Axis:
        """The same scale, from one round mark to another: no curve rises above the last."""
        step = self._step
        low = math.floor(self.low / step + 1e-9) * step
        high = math.ceil(self.high / step - 1e-9) * step
        return _Axis(low, high, self.start, self.end)

    @property
    def _step(self) -> float:
        """From one round mark to the next."""
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        return next(one * power for one in STEPS if one * power >= rough * (1 - 1e-9))

    @property
    def marks(self) -> list[float]:
        """The values themselves, where they are few; else round ones, five or so."""
        if self.given:
            return self.given
        step = self._step
        first = math.ceil(self.low / step - 1e-9)
        count = math.floor(self.high / step + 1e-9) - first
        return [(first + number) * step for number in range(count + 1)]


def _frame(across: _Axis, up: _Axis, x: str, y: str) -> list[str]:
    parts = []
    for mark in up.marks:
        at = up(mark)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        )
        parts.append(
            f'<text class="mark" text-anchor="end" x="{LEFT - 6}" y="{at + 4:.1f}">{mark:.4g}</text>'
        )
    for mark in across.marks:
        at = across(mark)
        parts.append(
            f'<text class="mark" text-anchor="middle" x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}">{mark:.4g}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text class="mark" text-anchor="middle" x="{middle}" y="{HEIGHT - 6}">{escape(x)}</text>'
    )
    half = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text class="mark" text-anchor="middle" transform="translate(12 {half}) rotate(-90)">{escape(y)}</text>'
    )
    return parts


def _apart(wanted: Mapping[str, float], least: float = 13) -> dict[str, float]:
    """Move the names at the ends of lines apart, so that each can be read."""
    found: dict[str, float] = {}
    before = -math.inf
    for name, at in sorted(wanted.items(), key=lambda one: one[1]):
        before = max(at, before + least)
        found[name] = before
    over = before - (HEIGHT - BOTTOM)
    return {name: at - max(over, 0) for name, at in found.items()}
