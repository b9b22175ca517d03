"""The objects of a share as tables: whose they are, and who needs them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text

from mllam_exps.base import terminal
from mllam_exps.sharing.collecting import Found
from mllam_exps.sharing.unneeded import Object
from mllam_exps.views import tables
from mllam_exps.views.tables import Column

Row = dict[str, str | int]


def owners(found: Found) -> list[Row]:
    """Return how much each owner has, and how much of that nobody needs."""
    rows: dict[str, Row] = {}
    going = {one.path for one in found.going}
    for one in found.there:
        empty: Row = {"owner": one.owner_name, "objects": 0, "bytes": 0, "unneeded": 0}
        row = rows.setdefault(one.owner_name, empty)
        _add(row, "objects", 1)
        _add(row, "bytes", one.size)
        _add(row, "unneeded", one.size if one.path in going else 0)
    return sorted(rows.values(), key=lambda row: -int(row["bytes"]))


def needs(found: Found) -> list[Row]:
    """Return how much each who needs anything needs, and how much of that nobody else does."""
    sizes: dict[str, list[Object]] = {}
    for one in found.there:
        sizes.setdefault(one.digest, []).append(one)
    count = Counter(digest for need in found.needs for digest in need.digests)
    rows: list[Row] = []
    for need in found.needs:
        there = [one for digest in need.digests for one in sizes.get(digest, ())]
        alone = [one for one in there if count[one.digest] == 1]
        rows.append(
            {
                "whose": need.whose,
                "objects": len(there),
                "bytes": _size(there),
                "only": _size(alone),
            }
        )
    results = [one for one in found.there if one.has_other_names]
    if results:
        alone = [one for one in results if not count[one.digest]]
        whose = "results of runs (mllam-exps clean)"
        amounts = {"bytes": _size(results), "only": _size(alone)}
        rows.append({"whose": whose, "objects": len(results), **amounts})
    return rows


def by_owner(found: Found, width: int) -> Table:
    """Return the table of who has how much."""
    return _table(
        owners(found), {"owner": "of", "bytes": "size", "unneeded": "unneeded"}, width
    )


def by_need(found: Found, width: int) -> Table:
    """Return the table of who needs how much."""
    return _table(
        needs(found),
        {"whose": "needed by", "bytes": "size", "only": "by it alone"},
        width,
    )


def _table(rows: Sequence[Row], headings: dict[str, str], width: int) -> Table:
    first, *amounts = headings
    columns = [
        Column(headings[first], [Text(str(row[first])) for row in rows], wraps=True),
        Column("objects", [Text(str(row["objects"])) for row in rows], right=True),
    ]
    for name in amounts:
        cells = [Text(terminal.amount(int(row[name]))) for row in rows]
        columns.append(Column(headings[name], cells, right=True))
    return tables.table(columns, width)


def _add(row: Row, name: str, number: int) -> None:
    row[name] = int(row[name]) + number


def _size(these: Iterable[Object]) -> int:
    return sum(one.size for one in these)
