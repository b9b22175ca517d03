"""How two environments differ."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mllam_exps.stages.packages import FACTS, Environment, Package

ABSENT = "absent"
SHORT = 12
"""Digits of a commit that are told."""


@dataclass(frozen=True)
class Difference:
    """One thing in which they differ.

    Parameters
    ----------
    what : str
        Python, the system, a package.
    first, second : str
        What each has.
    """

    what: str
    first: str
    second: str


def differences(one: Environment, other: Environment) -> Iterator[Difference]:
    """Yield what differs, packages by name."""
    for what in FACTS:
        first, second = getattr(one, what), getattr(other, what)
        if first != second:
            yield Difference(what, first or ABSENT, second or ABSENT)
    mine, theirs = by_name(one), by_name(other)
    for name in sorted(mine | theirs):
        first, second = told(mine.get(name)), told(theirs.get(name))
        if first != second:
            yield Difference(name, first, second)
        elif _patch(mine, name) != _patch(theirs, name):
            yield Difference(name, first, f"{second}, with other changes")


def by_name(one: Environment) -> dict[str, Package]:
    """Return packages by their names, as PEP 503 makes those of one package one."""
    return {normal(package.name): package for package in one.packages}


def normal(name: str) -> str:
    """Return a package's name as PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def told(package: Package | None) -> str:
    """Return which package it is, in a few words."""
    if package is None:
        return ABSENT
    changed = ", with changes" if package.patch or package.lacks else ""
    if package.commit:
        return f"{package.version} at {package.commit[:SHORT]}{changed}"
    return f"{package.version}{changed}"


def _patch(packages: dict[str, Package], name: str) -> str:
    return packages[name].patch if name in packages else ""
