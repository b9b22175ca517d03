"""Finds experiments in the catalogue: those that a query fits, in an order, with the columns that tell them apart."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mllam_exps.catalogue import names, query
from mllam_exps.catalogue.entries import Catalogue, Entry
from mllam_exps.catalogue.facts import Scalar, Values
from mllam_exps.catalogue.query import Moment
from mllam_exps.identity.definition import VERSIONS_FILE

DATE = query.DATE


@dataclass
class Search:
    """One search.

    Parameters
    ----------
    catalogue : Catalogue
        In which.
    known : list of str
        The names of all parameters, versions and scores.
    """

    catalogue: Catalogue
    known: list[str] = field(init=False)
    _columns: dict[str, Mapping[str, Scalar]] = field(default_factory=dict)
    _loaded: dict[str, Values] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Ask for the names once."""
        self.known = self.catalogue.names()

    def whole(self, name: str) -> str:
        """Return the whole name that a shortened one means.

        Raises
        ------
        UsageError
            If there is none, or more than one.
        """
        return names.resolve(name, self.known)

    def value(self, entry: Entry, name: str) -> Any:
        """Return what an experiment has under a whole name."""
        if name in names.FIELDS:
            return entry.field(name)
        if entry.identity in self._loaded:
            return self._loaded[entry.identity].get(name)
        if name not in self._columns:
            self._columns[name] = self.catalogue.column(name)
        return self._columns[name].get(entry.identity)

    def load(self, entries: Sequence[Entry]) -> Mapping[str, Values]:
        """Return all values of a few experiments, by identity, and know them from now on."""
        self._loaded = self.catalogue.values(entries)
        return self._loaded

    def fitting(self, condition: query.Condition | None) -> list[Entry]:
        """Return the experiments of which a condition holds; all without one."""
        if condition is None:
            return list(self.catalogue.entries)
        wholes = {name: self.whole(name) for name in condition.names()}
        found = []
        for entry in self.catalogue.entries:

            def get(name: str, entry: Entry = entry) -> Any:
                return self.value(entry, wholes[name])

            if condition.holds(get):
                found.append(entry)
        return found

    def ordered(
        self, entries: Iterable[Entry], key: str, *, turned: bool
    ) -> list[Entry]:
        """Return experiments in an order: the newest first, or the least first; what has no value last.

        Parameters
        ----------
        key : str
            A whole name.
        turned : bool
            The other way round.
        """
        with_value: list[tuple[Any, Entry]] = []
        without: list[tuple[Any, Entry]] = []
        for entry in entries:
            value = self.value(entry, key)
            has_one = value not in {None, ()} and value == value  # noqa: PLR0124 - not a number
            (with_value if has_one else without).append((value, entry))
        with_value.sort(
            key=lambda pair: _rank(pair[0]), reverse=turned is not (key == DATE)
        )
        return [entry for _, entry in (*with_value, *without)]


def _rank(value: Any) -> tuple[int, Any]:
    """Return what values are sorted by: numbers before texts, these by the numbers in them."""
    if isinstance(value, Moment):
        return 0, value.at
    if isinstance(value, int | float) and not isinstance(value, bool):
        return 0, value
    text = ", ".join(value) if isinstance(value, tuple) else query.as_text(value)
    return 1, query.natural(text)


def telling(
    values: Mapping[str, Values], order: Sequence[str], done: Container[str]
) -> list[str]:
    """Return the names of the parameters, then of the scores, in which experiments differ.

    What has no value yet differs in nothing; of a done one, whose file has others, the
    lack is a difference.

    Parameters
    ----------
    values : mapping
        All values, by experiment.
    order : sequence of str
        All names, in order.
    done : container of str
        The experiments that are done.
    """
    whole = {
        one: {name.partition(":")[0] for name in each} if one in done else set()
        for one, each in values.items()
    }
    parameters: list[str] = []
    scores: list[str] = []
    for name in order:
        file = name.partition(":")[0]
        found = {
            repr(each.get(name))
            for one, each in values.items()
            if name in each or file in whole[one]
        }
        if len(found) < 2 or file == VERSIONS_FILE:
            continue
        is_score = file.endswith(".json")
        (scores if is_score else parameters).append(name)
    return [*parameters, *scores]
