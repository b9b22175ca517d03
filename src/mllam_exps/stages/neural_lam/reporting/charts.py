"""Curves as SVG, drawn in the colours of the page: in print, by night, and for who sees no red or green."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from mllam_exps.stages.neural_lam.reporting import wording

Points = Sequence[tuple[float, float]]
Reach = Sequence[tuple[float, float, float]]
"""Where something may lie: from which value to which, at each place along the page."""

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
    across, up = _axes(xs, ys)
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
        parts.append(_beside(name[:18], ends[name]))
    return _svg(parts, title)


def intervals(
    points: Points, reaches: Sequence[Reach], x: str, y: str, title: str
) -> str:
    """Return a chart of differences, with a bar for each interval: no colour says which is which, but the width.

    Parameters
    ----------
    points : sequence
        The differences. Below zero is better.
    reaches : sequence
        The intervals by level, the widest first, whose bars are the thinnest.
    x, y, title : str
        As of `lines`.
    """
    known = [(a, b) for a, b in points if math.isfinite(b)]
    if not known:
        return ""
    bars = [
        [(a, low, high) for a, low, high in reach if math.isfinite(low + high)]
        for reach in reaches
    ]
    ends = [end for reach in bars for _, *both in reach for end in both]
    across, up = _axes([a for a, _ in points], [0.0, *ends, *(b for _, b in known)])
    parts = _frame(across, up, x, y)
    zero = up(0.0)
    parts.append(f'<path class="zero" d="M{LEFT} {zero:.1f}H{WIDTH - RIGHT}"/>')
    for number, reach in enumerate(bars):
        drawn = "".join(
            f"M{across(a):.1f} {up(low):.1f}V{up(high):.1f}" for a, low, high in reach
        )
        parts.append(f'<path class="reach r{number}" d="{drawn}"/>' if drawn else "")
    at = [f"{across(a):.1f} {up(b):.1f}" for a, b in known]
    parts.append(f'<path class="mean" d="M{"L".join(at)}"/>')
    parts.append(f'<path class="dots" d="{"".join(f"M{one}h0" for one in at)}"/>')
    parts += [_beside("▲ worse", zero - 9), _beside("▼ better", zero + 9)]
    return _svg(parts, title)


def _beside(text: str, height: float) -> str:
    """Write something to the right of the frame."""
    place = f'x="{WIDTH - RIGHT + 6}" y="{height + 4:.1f}"'
    return f'<text class="name" {place}>{escape(text)}</text>'


def _svg(parts: Sequence[str], title: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title, quote=True)}">'
        f"{''.join(parts)}</svg>"
    )


def _axes(xs: Sequence[float], ys: Sequence[float]) -> tuple[_Axis, _Axis]:
    """Return the scales along and up the page of some points."""
    across = _Axis.over(xs, LEFT, WIDTH - RIGHT)
    if len(few := sorted(set(xs))) <= FEW:
        across.given = few
    up = _Axis.over([0.0, *ys] if min(ys) >= 0 else ys, HEIGHT - BOTTOM, TOP)
    return across, up.whole


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
        at, said = up(mark), wording.signed(f"{mark:.4g}", mark)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        )
        parts.append(
            f'<text class="mark" text-anchor="end" x="{LEFT - 6}" y="{at + 4:.1f}">{said}</text>'
        )
    for mark in across.marks:
        at, said = across(mark), wording.signed(f"{mark:.4g}", mark)
        parts.append(
            f'<text class="mark" text-anchor="middle" x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}">{said}</text>'
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
