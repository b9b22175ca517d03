"""How two environments differ."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mllam_exps.base.errors import some_of
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
        first, second = _as_they_differ(mine.get(name), theirs.get(name))
        if first != second:
            yield Difference(name, first, second)


def _as_they_differ(one: Package | None, other: Package | None) -> tuple[str, str]:
    """Return which two packages these are; where both are changed, in which files not alike."""
    if one and other and one.patch and other.patch and _bare(one) == _bare(other):
        unlike = _changes(one).items() ^ _changes(other).items()
        files = some_of(sorted({file for file, _ in unlike}))
        bare = _bare(one)
        if files:
            first = f"{bare}, with changes in {files}"
            return first, f"{bare}, with other changes in {files}"
    return told(one), told(other)


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
    if package.patch:
        return f"{_bare(package)}, with changes in {some_of(_changes(package))}"
    return f"{_bare(package)}{', with changes' if package.lacks else ''}"


def _bare(package: Package) -> str:
    """Return which package it is, whatever was changed in it."""
    at = f" at {package.commit[:SHORT]}" if package.commit else ""
    return f"{package.version}{at}"


def _changes(package: Package) -> dict[str, str]:
    """Return the changes to a package's files, by their names."""
    found = {}
    for part in re.split(r"^(?=diff --git )", package.patch, flags=re.MULTILINE):
        # A file's name twice, and spaces in it are as they are.
        if named := re.match(r'diff --git "?a/(.+?)"? "?b/\1"?$', part, re.MULTILINE):
            found[named[1]] = part
    return found
