"""``mllam-exps list``: the team's catalogue of experiments."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mllam_exps.base import terminal
from mllam_exps.base.terminal import say, warn
from mllam_exps.catalogue import gathering, names, query, search
from mllam_exps.catalogue.entries import Entry
from mllam_exps.catalogue.query import Moment
from mllam_exps.catalogue.search import Search
from mllam_exps.runs.state.judge import RunState

if TYPE_CHECKING:
    from rich.text import Text

    from mllam_exps.views.tables import Column

ALWAYS = ("name", "person", "date", "state")
"""The columns that a table has if none is asked for."""
HEADINGS = {"name": "experiment"}
ROWS = 50
"""Experiments that a table has if nobody says how many."""
LEAST = 4
"""How wide a column is at least, with its frame."""
WIDEST = 30
"""Signs of a value in a table; a longer one is cut, which a sign tells."""
SLOW = 200
"""Experiments to be read from which on that is told."""


def show(
    text: str,
    *,
    sort: str,
    turned: bool,
    columns: str,
    limit: int | None,
    as_json: bool,
) -> None:
    """Print the experiments that a query fits."""
    condition = query.parse(text) if text.strip() else None
    catalogue = gathering.gather(_tell)
    found = Search(catalogue)
    key = found.whole(sort)
    asked = [found.whole(name) for name in _split(columns)]
    fitting = found.ordered(found.fitting(condition), key, turned=turned)
    if limit is None:
        limit = 0 if as_json else ROWS
    shown = fitting[:limit] if limit else fitting
    if as_json:
        _print_json(found, shown, asked)
    else:
        named = [found.whole(name) for name in condition.names()] if condition else []
        if key != search.DATE:
            named.append(key)
        _print(found, fitting, shown, asked, named)
    sys.stdout.flush()
    catalogue.remember()


def show_names() -> None:
    """Print all names, with how many experiments have a value under them."""
    catalogue = gathering.gather(_tell)
    for name in names.FIELDS:
        say(f"{name:60} all")
    for name in sorted(catalogue.names()):
        if number := len(catalogue.column(name)):
            say(f"{name:60} {number}")
    catalogue.remember()


def _tell(number: int) -> None:
    if number >= SLOW:
        warn(f"note: reading {number} experiments, which takes a while once")


def _split(columns: str) -> list[str]:
    return [name.strip() for name in columns.split(",") if name.strip()]


def _print_json(found: Search, shown: Sequence[Entry], asked: Sequence[str]) -> None:
    values = {} if asked else found.catalogue.values(shown)
    told = []
    for entry in shown:
        facts = entry.facts
        record: dict[str, Any] = {
            "id": entry.identity,
            "name": facts.name,
            "person": facts.person,
            "state": facts.state,
            "date": facts.at,
            "commit": facts.commit or None,
            "machine": facts.machine or None,
            "origin": facts.origin or None,
            "data": list(facts.data),
            "parent": list(facts.parent),
            "tags": [one.told for one in entry.tags],
            "notes": [one.told for one in entry.notes],
        }
        if asked:
            wanted = [name for name in asked if name not in names.FIELDS]
            record["values"] = {name: found.value(entry, name) for name in wanted}
        else:
            record["values"] = values[entry.identity]
        told.append(record)
    print(json.dumps(told, indent=1))


def _print(
    found: Search,
    fitting: Sequence[Entry],
    shown: Sequence[Entry],
    asked: Sequence[str],
    named: Sequence[str],
) -> None:
    """Print a table that fits the window, and what was cut."""
    catalogue = found.catalogue
    total = len(catalogue.entries)
    if not fitting:
        where = catalogue.store.directory
        say(
            f"none of {total} experiments fits"
            if total
            else f"no experiments in {where}"
        )
        return
    from mllam_exps.views import tables

    console = terminal.console(highlight=False)
    left_out: list[str] = []
    if asked:
        drawn = [_column(found, shown, name) for name in dict.fromkeys(asked)]
    else:
        drawn, left_out = _that_fit(found, shown, named, console.width)
    console.print(tables.table(drawn, console.width))
    if len(shown) < len(fitting):
        say(f"{len(shown)} of {len(fitting)} that fit: --limit 0 shows all")
    if left_out:
        say(f"left out: {', '.join(left_out)}: --columns NAME,… or --json")


def _that_fit(
    found: Search, shown: Sequence[Entry], named: Sequence[str], width: int
) -> tuple[list[Column], list[str]]:
    """Return the columns that fit a window, the asked ones first, and what was left out, in words."""
    from mllam_exps.views import tables

    wanted = dict.fromkeys([ALWAYS[0], *named, *ALWAYS])
    differ = [name for name in _telling(found, shown) if name not in wanted]
    drawn: list[Column] = []
    left_out: list[str] = []
    full, more = False, 0
    for name in [*wanted, *differ]:
        # One that is sure not to fit is not drawn: there may be hundreds.
        column = None if full else _column(found, shown, name)
        if column and (not drawn or tables.least_width([*drawn, column]) <= width):
            drawn.append(column)
            full = width - tables.least_width(drawn) <= LEAST
        elif name in wanted:
            left_out.append(names.short(name, found.known))
        else:
            more += 1
    if more:
        many = "1 more column" if more == 1 else f"{more} more columns"
        left_out.append(f"{many} in which they differ")
    return drawn, left_out


def _telling(found: Search, shown: Sequence[Entry]) -> list[str]:
    """Return the columns that are shown if there is room: tags, notes, and what differs."""
    wanted = []
    if any(entry.tags for entry in shown):
        wanted.append("tag")
    if any(entry.notes for entry in shown):
        wanted.append("note")
    done = {one.identity for one in shown if one.facts.state == RunState.DONE}
    return [*wanted, *search.telling(found.load(shown), found.known, done)]


def _column(found: Search, shown: Sequence[Entry], name: str) -> Column:
    from rich.text import Text

    from mllam_exps.views.tables import Column

    values = [found.value(entry, name) for entry in shown]
    heading = HEADINGS.get(name, names.short(name, found.known))
    right = all(value is None or _is_number(value) for value in values)
    cells = [
        _state(str(value)) if name == "state" else Text(_text(name, value))
        for value in values
    ]
    return Column(_cut(terminal.plain(heading), WIDEST), cells, right=right)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _state(word: str) -> Text:
    from rich.text import Text

    from mllam_exps.views.colours import COLOURS

    styles = {str(state): style for state, style in COLOURS.items()}
    return Text(_cut(word, WIDEST), styles.get(word, ""))


def _text(name: str, value: Any) -> str:
    """Return a value as a cell of a table has it: one line, no sign that a terminal obeys."""
    if value is None or value == ():
        return "–"
    if isinstance(value, Moment):
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(value.at))
    if name == "commit":
        return str(value)[:7]
    if isinstance(value, float):
        return f"{value:.6g}"
    text = ", ".join(value) if isinstance(value, tuple) else query.as_text(value)
    return _cut(terminal.plain(" ".join(text.split())), WIDEST)


def _cut(text: str, widest: int) -> str:
    return text if len(text) <= widest else f"{text[: widest - 1]}…"
