"""How numbers and the axes of charts are written, for people."""

from __future__ import annotations

import math

LEAD_TIME = "lead time in hours"


def number_of(value: float) -> str:
    """Return a value of a field as a number for people, in four digits at least."""
    whole = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return signed(whole, value)


def signed(text: str, value: float) -> str:
    """Return a number with a minus sign that is one; a dash for what is none."""
    return "–" if math.isnan(value) else text.replace("-", "−")


def with_units(name: str, units: str) -> str:
    """Return what something is, with its units where it has some."""
    return f"{name} in {units}" if units else name
