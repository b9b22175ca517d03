"""``mllam-exps status``: experiments by stages, what runs now, and why something waits or failed."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mllam_exps.attempts.progress_line import describe, duration, how_far
from mllam_exps.base import terminal
from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.base.terminal import say, warn
from mllam_exps.machines import machine_files
from mllam_exps.machines.workspace import (
    OUTSIDE,
    exp_run,
    is_reproduced,
    leftovers,
)
from mllam_exps.runs.state.assess import ends_the_same_way
from mllam_exps.runs.state.judge import RunState
from mllam_exps.submission import experiments
from mllam_exps.views.colours import COLOURS
from mllam_exps.views.context import Context
from mllam_exps.views.gathering import gather
from mllam_exps.views.rows import Cell, Row, stages_in_order
from mllam_exps.views.sentences import (
    STUCK,
    after_saving,
    fill,
    named,
    sentences,
    words_for,
)

if TYPE_CHECKING:
    from rich.console import Console, Group, RenderableType
    from rich.table import Table
    from rich.text import Text

    from mllam_exps.views.tables import Running, State

REFRESH_SECONDS = 5.0
MOST_RUNNING = 30
MOST_DONE = 20
FEWEST = 3
"""Experiments that the table has in the lowest of windows."""


def show(names: list[str], *, everything: bool, as_json: bool, watch: bool) -> None:
    """Print the experiments; those that were finished more than a week ago only with `everything`.

    Raises
    ------
    MllamError
        If there is none of these names, or something that was watched failed.
    """
    here = Context.open()
    if as_json:
        rows = _rows(here, names, everything=everything)
        print(json.dumps([row.to_record() for row in rows], indent=1))
        return
    for line in leftovers(here.workspace.root):
        warn(f"note: {line}")
    if watch and sys.stdout.isatty():
        _tell_end(_watch(here, names, everything=everything))
        return
    rows = _rows(here, names, everything=everything)
    if watch:
        rows = _wait(here, names, rows, everything=everything)
    _print(here, rows, shorten=not (everything or names))
    if watch:
        _tell_end(rows)


def _print(here: Context, rows: list[Row], *, shorten: bool) -> None:
    """Print the tables and sentences."""
    if not rows:
        warn(_nothing(here))
    shown = _newest(rows) if shorten else rows
    console = terminal.console()
    for part in render(shown, console.width):
        console.print(part)
    if len(shown) < len(rows):
        say(_left_out(len(rows) - len(shown)))


def _wait(
    here: Context, names: list[str], rows: list[Row], *, everything: bool
) -> list[Row]:
    """Wait for a script until everything is over, with a line for what changes; return how all stands then."""
    told: set[str] = set()
    stood = _tell_changes(rows, {})
    while not _is_at_rest(here, rows):
        told = _tell_once(rows, told)
        time.sleep(REFRESH_SECONDS)
        rows = gather(here, names, everything=everything)
        stood = _tell_changes(rows, stood)
    return rows


def _tell_changes(rows: list[Row], stood: dict[str, str]) -> dict[str, str]:
    """Print a line for each experiment that is under way, or ended, and stands otherwise than before; return how.

    Parameters
    ----------
    stood : dict of str
        How each stood before.
    """
    now = {row.called: _where(row) for row in rows}
    for row in rows:
        was_told = stood.get(row.called, "" if not row.over else now[row.called])
        if now[row.called] != was_told:
            when = time.strftime("%H:%M:%S")
            say(f"{when} {row.called}: {now[row.called]}")
    return now


def _where(row: Row) -> str:
    """Say how the stages of an experiment stand, without how far they are."""
    from mllam_exps.views import tables
    from mllam_exps.views.tables import State

    states = []
    for stage in stages_in_order([row]):
        cell = row.cells[stage]
        running = cell.now.state is RunState.RUNNING
        states.append(State(stage, "running" if running else row.word(stage)))
    line = tables.Line(row.name, (), tuple(states), _saved(row))
    return tables.where_it_stands(line).plain


def _is_at_rest(here: Context, rows: list[Row]) -> bool:
    """Tell whether nothing is to come by itself: between two of its stages DVC has nothing under way."""
    if not all(row.over or row.stuck for row in rows):
        return False
    by_dvc = not rows or any(row.experiment is None for row in rows)
    return not (by_dvc and is_reproduced(here.workspace.root))


def _tell_once(rows: list[Row], told: set[str]) -> set[str]:
    """Tell whoever waits for a script that something waits for `advance`; return the names that were told."""
    names = {row.name for row in rows if row.needs_advance}
    if new := sorted(names - told):
        warn(
            f"note: {named(new)}: nothing at work will submit what waits\n  → mllam-exps advance"
        )
    return told | names


def _nothing(here: Context) -> str:
    """Say why there is nothing to show."""
    elsewhere = [e for e in experiments.of_store(here.store) if e.is_mine]
    moved = Counter(e.origin for e in elsewhere if not e.origin_is_there)
    for origin, number in moved.items():
        some = f"{number} experiment{'s' * (number > 1)} in {here.store.directory}"
        why = f"the repository of {some} has moved, or was deleted"
        return str(machine_files.gone(Path(origin), why))
    if elsewhere:
        return f"no runs of this repository in {here.store.directory}; mllam-exps status --all lists those of others"
    return f"no runs in {here.store.directory}; `dvc exp run` or `mllam-exps submit` starts some"


def _left_out(number: int) -> str:
    return f"… and {number} more: mllam-exps status --all"


def _tell_end(rows: list[Row]) -> None:
    """Let the exit code say how what was watched ended: scripts wait with `--watch`.

    Raises
    ------
    MllamError
        If anything failed, or will never run.
    """
    if stuck := [row for row in rows if row.stuck]:
        names = shlex.join(dict.fromkeys(row.called for row in stuck))
        what = f"will never be done as it is: {_named(stuck)}"
        raise MllamError(what, next=fill(STUCK, names, names))
    if failed := [row for row in rows if row.has_failed]:
        raise MllamError(f"not done: {_named(failed)}", next=_ways_out(failed))


def _named(rows: list[Row]) -> str:
    return named(row.name for row in rows)


def _ways_out(failed: list[Row]) -> str:
    """Return the commands that go on with what failed."""
    # Where trying again is not what helps, the sentences say what does.
    failed = [row for row in failed if not _has_its_own_way_out(row)]
    saved = [row for row in failed if row.is_saved]
    submitted = [row for row in failed if row.experiment and not row.is_saved]
    others = [row for row in failed if not row.experiment and not row.is_saved]
    ways_out = [_retry_of(submitted)] if submitted else []
    for row in saved[:1]:
        name = shlex.quote(row.called)
        ways_out.append(fill(after_saving(row), name, name))
    if others:
        ways_out.append(exp_run(others[0].name if len(others) == 1 else OUTSIDE))
    return "; ".join(ways_out)


def _has_its_own_way_out(row: Row) -> bool:
    """Tell whether what stopped names the command that helps, or would end the same way again."""
    stopped = [cell for cell in row.cells.values() if cell.has_stopped]
    if not stopped and row.saving is not None and row.saving.has_stopped:
        stopped = [row.saving]  # else its record repeats what a stage's says
    return any(ends_the_same_way(cell.now) or cell.now.problem.next for cell in stopped)


def _retry_of(rows: list[Row]) -> str:
    """Return the command that tries experiments again."""
    # `retry --failed` takes none that was cancelled.
    states = {row.state for row in rows}
    state = RunState.CANCELLED if RunState.CANCELLED in states else RunState.FAILED
    return f"mllam-exps retry {words_for([row.called for row in rows], state)}"


def _newest(rows: list[Row]) -> list[Row]:
    """Leave out all but the newest of what is done."""
    done = [row for row in rows if row.over and row.state is RunState.DONE]
    hidden = {id(row) for row in done[:-MOST_DONE]}
    return [row for row in rows if id(row) not in hidden]


def _rows(here: Context, names: list[str], *, everything: bool) -> list[Row]:
    rows = gather(here, names, everything=everything)
    if names and not rows:
        raise _unknown(here, names)
    for name in names:
        if not any(row.is_called(name) or name in row.cells for row in rows):
            warn(f"note: no experiment and no stage of these is called {name}")
    return rows


def _unknown(here: Context, names: list[str]) -> UsageError:
    """Say what may have been meant by names that nothing is called, or that only what is left out is called."""
    everything = gather(here, [], everything=True)
    stages: set[str] = set()
    for row in everything:
        stages |= row.cells.keys()
    for name in names:
        if name in stages or any(row.is_called(name) for row in everything):
            way_out = f"mllam-exps status --all {shlex.join(names)}"
            return UsageError(f"{name} is not shown here", next=way_out)
    return here.unknown(names[0], sorted(stages), kind="stage")


def _watch(here: Context, names: list[str], *, everything: bool) -> list[Row]:
    """Keep the tables fresh until everything is over, or Ctrl-C."""
    from rich.live import Live

    rows = _rows(here, names, everything=everything)
    with Live(refresh_per_second=1, console=terminal.console()) as live:
        while True:
            live.update(_frame(rows, live.console), refresh=True)
            if _is_at_rest(here, rows):
                return rows
            time.sleep(REFRESH_SECONDS)
            rows = gather(here, names, everything=everything)


def _frame(rows: list[Row], console: Console, note: str = "") -> Group:
    """Return what fits the window: of the table what is under way first, then what failed, then what is done."""
    last = f"{note}{time.strftime('%H:%M:%S')}, Ctrl-C ends the watching"
    most = len(rows)
    while True:
        group = _group(rows, most, console.width, last)
        excess = len(console.render_lines(group, pad=False)) - console.height
        if excess <= 0:
            return group
        if most <= FEWEST:
            break
        most = max(FEWEST, most - max(1, excess // 3))  # a row may have several lines
    under_way = [row for row in rows if not row.over]
    if 0 < len(under_way) < len(rows):
        return _frame(under_way, console, "what is over: mllam-exps status; ")
    return group


def _group(rows: list[Row], most: int, width: int, last: str) -> Group:
    """Return tables and sentences, the first table with so many rows at most: those that are under way, or failed."""
    from rich.console import Group

    def use(number: int) -> tuple[bool, bool, int]:
        row = rows[number]
        return row.over, row.state is RunState.DONE, -number

    kept = sorted(sorted(range(len(rows)), key=use)[:most])
    left_out = [_left_out(len(rows) - most)] if most < len(rows) else []
    in_table = [rows[number] for number in kept]
    return Group(*render(rows, width, in_table), *left_out, last)


def render(
    rows: list[Row], width: int, in_table: list[Row] | None = None
) -> Iterator[RenderableType]:
    """Yield the tables and sentences; the first table may leave some out."""
    if rows:
        yield _table(rows if in_table is None else in_table, width)
    running = _running(rows, width)
    if running is not None:
        yield running
    yield from _sentences(rows)


def _table(rows: list[Row], width: int) -> Table:
    from mllam_exps.views import tables

    stages = stages_in_order(rows)
    starts: dict[str, set[str]] = {}
    for row in rows:
        if row.experiment:
            starts.setdefault(row.name, set()).add(row.experiment.baseline)
    lines = []
    for row in rows:
        parameters = row.experiment.changed if row.experiment else ()
        if row.experiment and len(starts[row.name]) > 1:
            parameters = (*parameters, f"from {row.experiment.baseline[:7]}")
        states = tuple(_state(row, stage) for stage in stages if row.word(stage))
        lines.append(tables.Line(row.name, parameters, states, _saved(row)))
    return tables.of_experiments(lines, stages, width)


def _state(row: Row, stage: str) -> State:
    from mllam_exps.views.tables import State

    cell = row.cells.get(stage)
    style = COLOURS.get(cell.now.state, "") if cell else "green"
    return State(stage, row.word(stage), style)


def _saved(row: Row) -> Text:
    from rich.text import Text

    style = ""
    if row.saving is None or row.saving.now.state is RunState.DONE:
        style = "green"
    if row.removed:
        style = "yellow"
    return Text(row.saved_word, style)


def _running(rows: list[Row], width: int) -> Table | None:
    """Return the table of what runs now; a run that experiments share stands once."""
    from mllam_exps.views import tables

    found: dict[str, tuple[Cell, list[str]]] = {}
    for row in rows:
        for cell in row.cells.values():
            if cell.now.state in {RunState.RUNNING, RunState.STARTING}:
                found.setdefault(cell.run.key, (cell, []))[1].append(row.name)
    if not found:
        return None
    shown = list(found.values())[:MOST_RUNNING]
    running = [_running_now(cell, names) for cell, names in shown]
    drawn = tables.of_running(running, width)
    if len(found) > MOST_RUNNING:
        drawn.caption = f"and {len(found) - MOST_RUNNING} more"
    return drawn


def _running_now(cell: Cell, names: list[str]) -> Running:
    from mllam_exps.views.tables import Running

    is_plain = cell.node and not cell.now.silent
    progress = how_far(cell.now) if is_plain else describe(cell.now)
    return Running(
        stage=cell.run.stage,
        names=named(names),
        job=cell.job or "",
        node=cell.node or "",
        elapsed=duration(cell.elapsed) if cell.elapsed is not None else "",
        progress=progress,
    )


def _sentences(rows: list[Row]) -> Iterator[Text]:
    """Yield one sentence for each reason why something waits or failed, with the command that goes on from there."""
    from rich.text import Text

    for sentence, found in sentences(rows).items():
        text = Text(f"{_named(found)}: ", style="bold")
        text.append(sentence.text, style=COLOURS.get(sentence.state, ""))
        if sentence.way_out:
            text.append(f"\n  → {sentence.typed(found)}", style="default")
        yield text
