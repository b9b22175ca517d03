"""What the fields of a record hold: kinds of values, each a function that tells whether a value is one.

A team writes to one store, with different versions of this program, so nothing that is
read is believed before it was held to its shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

Kind = Callable[[Any], bool]
"""Tells whether a value belongs into a field; of a field that is absent, the value is None."""
Shape = Mapping[str, Kind]

LARGEST = 1e12
"""No time, count or size of ours is as large; a larger number would overflow somewhere."""


def text(value: Any) -> bool:
    """Tell whether a value is text."""
    return isinstance(value, str)


def number(value: Any) -> bool:
    """Tell whether a value is a number that one can count with."""
    if not isinstance(value, int | float):
        return False
    # Of a whole number with hundreds of digits Python cannot make a float.
    return abs(value) < LARGEST and math.isfinite(value)


def count(value: Any) -> bool:
    """Tell whether a value is a whole number."""
    return isinstance(value, int) and 0 <= value < LARGEST


def flag(value: Any) -> bool:
    """Tell whether a value is true or false."""
    return isinstance(value, bool)


def maybe(kind: Kind) -> Kind:
    """Return the kind of a field that may be absent, or null."""
    return lambda value: value is None or kind(value)


def list_of(kind: Kind) -> Kind:
    """Return the kind of a list."""
    return lambda value: isinstance(value, list) and all(map(kind, value))


def dict_of(kind: Kind) -> Kind:
    """Return the kind of an object whose names are free, and whose values have one kind."""
    return lambda value: isinstance(value, dict) and all(map(kind, value.values()))


def of_shape(shape: Shape) -> Kind:
    """Return the kind of an object that has at least these fields."""
    return lambda value: isinstance(value, dict) and not misfit(value, shape)


def misfit(record: Mapping[str, Any], shape: Shape) -> str:
    """Say which field is missing, or holds another kind of value than `shape` says; empty where none does."""
    for name, kind in shape.items():
        if kind(record.get(name)):
            continue
        if name not in record:
            return f"it has no `{name}`"
        return f"its `{name}` is not what belongs there"
    return ""
