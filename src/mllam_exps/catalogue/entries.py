"""The experiments of the catalogue, each once, with what is remembered of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mllam_exps.catalogue.facts import Facts, Note, Scalar, Values
from mllam_exps.catalogue.index import Index
from mllam_exps.catalogue.marks import Mark, Marked
from mllam_exps.catalogue.query import Moment
from mllam_exps.runs.store import RunStore

WORTH_WRITING = 10
"""Experiments that were read anew, from which on all is written down anew: else the next look reads them again."""


@dataclass
class Entry:
    """An experiment of the catalogue.

    Parameters
    ----------
    identity : str
        What tells it from all others: of a submitted one its name in the store, else
        its commit, else what a digest says.
    facts : Facts
        What is known of it; of one that is remembered, without the values.
    number : int, optional
        Its number in the index, if it is remembered.
    tags, notes : tuple of Mark
        Everybody's, oldest first.
    """

    identity: str
    facts: Facts
    number: int | None = None
    tags: tuple[Mark, ...] = ()
    notes: tuple[Mark, ...] = ()

    @property
    def can_be_marked(self) -> bool:
        """Whether tags and notes on it stay its own: a name alone is given again."""
        return bool(self.facts.commit) or self.identity.startswith("save-")

    @property
    def marked(self) -> Marked:
        """By what tags and notes know it."""
        return Marked(self.identity, self.facts.commit, self.facts.name)

    def field(self, name: str) -> Any:
        """Return what it has under a name of `names.FIELDS`."""
        if name == "date":
            return Moment(self.facts.at)
        if name == "tag":
            return tuple(dict.fromkeys(mark.tag for mark in self.tags))
        if name == "note":
            return tuple(mark.note for mark in self.notes)
        found = getattr(self.facts, name)
        return found if isinstance(found, tuple) else found or None


@dataclass
class Catalogue:
    """The experiments, and what is remembered of them."""

    store: RunStore
    index: Index
    entries: list[Entry]
    fresh: dict[str, tuple[str, Facts]] = field(default_factory=dict)
    notes: dict[str, tuple[str, list[Note]]] = field(default_factory=dict)
    gone: list[int] = field(default_factory=list)

    def names(self) -> list[str]:
        """Return the names of all parameters, versions and scores."""
        known = dict.fromkeys(self.index.names())
        for entry in self.entries:
            known.update(dict.fromkeys(entry.facts.values))
        return list(known)

    def column(self, name: str) -> dict[str, Scalar]:
        """Return the values of a parameter, version or score, by identity."""
        kept = self.index.column(name)
        found: dict[str, Scalar] = {}
        for entry in self.entries:
            if entry.number is None:
                if name in entry.facts.values:
                    found[entry.identity] = entry.facts.values[name]
            elif entry.number in kept:
                found[entry.identity] = kept[entry.number]
        return found

    def values(self, entries: Sequence[Entry]) -> dict[str, Values]:
        """Return all values of experiments, by identity."""
        numbers = [entry.number for entry in entries if entry.number is not None]
        kept = self.index.values_of(numbers)
        found = {}
        for entry in entries:
            fresh = entry.number is None
            found[entry.identity] = (
                entry.facts.values if fresh else kept.get(entry.number or 0, {})
            )
        return found

    def remember(self) -> None:
        """Write down what was read anew, if that is worth it; it concerns nobody but this user."""
        many = len(self.fresh) + len(self.notes) >= WORTH_WRITING
        # What is not there may be another clone's, which looks next.
        if many or len(self.gone) > len(self.entries) + WORTH_WRITING:
            gone = self.gone if len(self.gone) > len(self.entries) else []
            self.index.write(self.fresh, self.notes, gone)
