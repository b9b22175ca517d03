"""``mllam-exps status``: experiments by stages, what runs now, and why something waits or failed."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from mllam_exps.attempts.progress_line import describe, duration
from mllam_exps.base import terminal
from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.base.terminal import say, warn
from mllam_exps.machines import machine_files
from mllam_exps.machines.workspace import leftovers
from mllam_exps.runs.judge import RunState
from mllam_exps.submission import experiments
from mllam_exps.views.context import Here
from mllam_exps.views.rows import Cell, Row, gather, stages_in_order

if TYPE_CHECKING:
    from rich.console import Console, Group, RenderableType
    from rich.table import Table
    from rich.text import Text

    from mllam_exps.views.tables import Running, State

COLOURS = {
    RunState.DONE: "green",
    RunState.RUNNING: "cyan",
    RunState.STARTING: "cyan",
    RunState.PENDING: "yellow",
    RunState.NEW: "yellow",
    RunState.CANCELLED: "yellow",
    RunState.FAILED: "red",
    RunState.LOST: "red",
    RunState.UNKNOWN: "magenta",
}
REFRESH_SECONDS = 5.0
MOST_RUNNING = 30
MOST_DONE = 20
FEWEST = 3
"""Experiments that the table has in the lowest of windows."""
NAMED = 3
"""Experiments that a sentence names; it counts the others."""


def show(names: list[str], *, everything: bool, as_json: bool, watch: bool) -> None:
    """Print the experiments; those that were finished more than a week ago only with `everything`.

    Raises
    ------
    MllamError
        If there is none of these names, or something that was watched failed.
    """
    here = Here.open()
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


def _print(here: Here, rows: list[Row], *, shorten: bool) -> None:
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
    here: Here, names: list[str], rows: list[Row], *, everything: bool
) -> list[Row]:
    """Wait for a script until everything is over; return how all stands then."""
    told: set[str] = set()
    while not _is_at_rest(rows):
        told = _tell_once(rows, told)
        time.sleep(REFRESH_SECONDS)
        rows = _rows(here, names, everything=everything)
    return rows


def _is_at_rest(rows: list[Row]) -> bool:
    """Tell whether nothing is to come by itself."""
    return all(row.over or row.stuck for row in rows)


def _tell_once(rows: list[Row], told: set[str]) -> set[str]:
    """Tell whoever waits for a script that something waits for `advance`; return the names that were told."""
    names = {row.name for row in rows if row.needs_advance}
    if new := sorted(names - told):
        warn(
            f"note: {_named(new)}: nothing at work will submit what waits\n  → mllam-exps advance"
        )
    return told | names


def _nothing(here: Here) -> str:
    """Say why there is nothing to show."""
    elsewhere = [e for e in experiments.of_store(here.store) if e.is_mine]
    moved = Counter(e.origin for e in elsewhere if not e.origin_is_there)
    for origin, number in moved.items():
        some = f"{number} experiment{'s' * (number > 1)} in {here.store.directory}"
        return str(
            machine_files.gone(
                Path(origin), f"the repository of {some} has moved, or was deleted"
            )
        )
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
        what = f"will never be done as it is: {_named([row.name for row in stuck])}"
        raise MllamError(what, next=_STUCK.format(names=names))
    failed = []
    for row in rows:
        if row.over and row.state.stopped and not row.older:
            failed.append(row)
    if failed:
        what = f"not done: {_named([row.name for row in failed])}"
        raise MllamError(what, next=_ways_out(failed))


def _ways_out(failed: list[Row]) -> str:
    """Return the commands that go on with what failed."""
    submitted = [row for row in failed if row.experiment is not None]
    ways_out = []
    if submitted:
        # `retry --failed` takes none that was cancelled.
        cancelled = any(row.state is RunState.CANCELLED for row in submitted)
        state = RunState.CANCELLED if cancelled else RunState.FAILED
        names = [row.called for row in submitted]
        ways_out.append(f"mllam-exps retry {_words(names, state)}")
    if len(submitted) < len(failed):
        ways_out.append("dvc exp run")
    return "; ".join(ways_out)


def _newest(rows: list[Row]) -> list[Row]:
    """Leave out all but the newest of what is done."""
    done = [row for row in rows if row.over and row.state is RunState.DONE]
    hidden = {id(row) for row in done[:-MOST_DONE]}
    return [row for row in rows if id(row) not in hidden]


def _rows(here: Here, names: list[str], *, everything: bool) -> list[Row]:
    rows = gather(here, names, everything=everything)
    if names and not rows:
        raise _unknown(here, names)
    for name in names:
        if not any(fnmatchcase(row.name, name) or name in row.cells for row in rows):
            warn(f"note: no experiment and no stage of these is called {name}")
    return rows


def _unknown(here: Here, names: list[str]) -> UsageError:
    """Say what may have been meant by names that nothing is called, or that only what is left out is called."""
    everything = gather(here, [], everything=True)
    stages = {stage for row in everything for stage in row.cells}
    if hidden := [
        name
        for name in names
        if name in stages or any(fnmatchcase(row.name, name) for row in everything)
    ]:
        return UsageError(
            f"{hidden[0]} is not shown here",
            next=f"mllam-exps status --all {shlex.join(names)}",
        )
    return here.unknown(names[0], sorted(stages), kind="stage")


def _watch(here: Here, names: list[str], *, everything: bool) -> list[Row]:
    """Keep the tables fresh until everything is over, or Ctrl-C."""
    from rich.live import Live

    rows = _rows(here, names, everything=everything)
    with Live(refresh_per_second=1, console=terminal.console()) as live:
        while True:
            live.update(_frame(rows, live.console), refresh=True)
            if _is_at_rest(rows):
                return rows
            time.sleep(REFRESH_SECONDS)
            rows = gather(here, names, everything=everything)


def _frame(rows: list[Row], console: Console, note: str = "") -> Group:
    """Return what fits the window: of the table what is under way first, then what failed, then what is done."""
    from rich.console import Group

    last = f"{note}{time.strftime('%H:%M:%S')}, Ctrl-C ends the watching"
    by_use = sorted(
        enumerate(rows),
        key=lambda one: (one[1].over, one[1].state is RunState.DONE, -one[0]),
    )
    most = len(rows)
    while True:
        kept = {number for number, _ in by_use[:most]}
        shown = [row for number, row in enumerate(rows) if number in kept]
        left_out = [_left_out(len(rows) - most)] if most < len(rows) else []
        group = Group(
            *render(rows, console.width, shown),
            *left_out,
            last,
        )
        excess = len(console.render_lines(group, pad=False)) - console.height
        under_way = [row for row in rows if not row.over]
        if excess > 0 and most <= FEWEST and 0 < len(under_way) < len(rows):
            return _frame(under_way, console, "what is over: mllam-exps status; ")
        if excess <= 0 or most <= FEWEST:
            return group
        most = max(FEWEST, most - max(1, excess // 3))  # a row may have several lines


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

    done = row.saving is None or row.saving.now.state is RunState.DONE
    return Text(
        row.saved_word, style="yellow" if row.removed else "green" if done else ""
    )


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
    drawn = tables.of_running(
        [_running_now(cell, names) for cell, names in shown], width
    )
    if len(found) > MOST_RUNNING:
        drawn.caption = f"and {len(found) - MOST_RUNNING} more"
    return drawn


def _running_now(cell: Cell, names: list[str]) -> Running:
    from mllam_exps.views.tables import Running

    progress = describe(cell.now)
    if cell.node and not cell.now.silent:
        progress = progress.removesuffix(f" ({cell.now.reason})")
    return Running(
        stage=cell.run.stage,
        names=_named(names),
        job=cell.job or "",
        node=cell.node or "",
        elapsed=duration(cell.elapsed) if cell.elapsed is not None else "",
        progress=progress,
    )


def _sentences(rows: list[Row]) -> Iterator[Text]:
    """Yield one sentence for each reason why something waits or failed, with the command that goes on from there."""
    from rich.text import Text

    groups: dict[tuple[RunState, str, str], list[Row]] = {}
    for row in rows:
        for state, sentence, way_out in _reasons(row):
            groups.setdefault((state, sentence, way_out), []).append(row)
    for (state, sentence, way_out), found in groups.items():
        text = Text(f"{_named([row.name for row in found])}: ", style="bold")
        text.append(sentence, style=COLOURS.get(state, ""))
        if way_out:
            names = [row.called for row in found]
            typed = way_out.format(
                names=_words(names, state, way_out), first=shlex.quote(names[0])
            )
            text.append(f"\n  → {typed}", style="default")
        yield text


def _reasons(row: Row) -> Iterator[tuple[RunState, str, str]]:
    if row.older and row.over and row.state.stopped:
        # Its name is another's now: nothing that goes on would lead to it.
        yield (
            row.state,
            f"{row.state}; {row.name} was submitted again since",
            "mllam-exps clean {names}",
        )
        return
    stopped = False
    for stage, cell in row.cells.items():
        now = cell.now
        told = now.problem.line.replace("{", "{{").replace("}", "}}")
        if now.state.stopped and not now.untried:
            stopped = True
            again = _again(row)
            if row.saving is not None and row.saving.now.state is RunState.DONE:
                again = APPLIED  # the result was damaged, and set aside since
            look = (
                f"mllam-exps logs {{first}} {stage}"
                if row.experiment
                else f"mllam-exps logs {stage}"
            )
            way_out = now.problem.next.replace("{", "{{").replace("}", "}}")
            why = told if told.startswith(now.state) else f"{now.state}: {told}"
            yield now.state, f"{stage} {why}", way_out or f"{again}\n  → {look}"
        elif now.state in {RunState.PENDING, RunState.UNKNOWN} and told:
            yield (
                now.state,
                f"{stage} {now.state}: {told}",
                "mllam-exps cancel {names}" if now.hopeless else "",
            )
        elif now.silent:
            again = "mllam-exps cancel {names}, then mllam-exps retry {names}"
            yield (
                now.state,
                f"{stage}: {told}",
                again
                if row.experiment
                else f"mllam-exps cancel {stage}, then dvc exp run",
            )
        elif now.state is RunState.NEW and told and not row.waits:
            yield now.state, f"{stage} waits: {told}", ""
    if row.waits or row.needs_advance:
        why = f": {row.waits}" if row.waits else ""
        nobody = ", and nothing at work will submit it" if row.needs_advance else ""
        way_out = "mllam-exps advance" if row.needs_advance else ""
        yield RunState.NEW, f"waits in the run store{nobody}{why}", way_out
    if row.saving is None or stopped:
        return
    now = row.saving.now
    told = now.problem.line
    way_out = now.problem.next.replace("{", "{{").replace("}", "}}")
    if now.state.stopped:
        what = "" if now.state is RunState.CANCELLED else "saving it "
        why = "" if told.startswith(str(now.state)) else f": {told}"
        yield now.state, f"{what}{now.state}{why}", way_out or _again(row)
    elif (
        now.state is RunState.NEW
        and told
        and all(c.now.state is RunState.DONE for c in row.cells.values())
    ):
        yield now.state, told, ""


def _again(row: Row) -> str:
    """Return what goes on with an experiment: `retry` works in its clone, and where that is gone it is submitted."""
    if row.experiment is None:
        return "dvc exp run"
    if row.experiment.is_mine and not row.experiment.root.is_dir():
        return f"its clone is gone: {row.experiment.again}".replace("{", "{{").replace(
            "}", "}}"
        )
    return _AGAIN


_AGAIN = "mllam-exps retry {names}"
_STUCK = "mllam-exps cancel {names}, and once that is mended, mllam-exps retry {names}"
APPLIED = "dvc exp apply {first}; dvc repro makes again what is missing"
"""DVC (3.67) applies the rest where its cache lacks something, says so, and exits with 255."""


def _words(names: list[str], state: RunState, way_out: str = _AGAIN) -> str:
    """Return names as a shell takes them, each once; where `retry` knows many of them by what they are, that word."""
    if (
        len(names) > NAMED
        and way_out.startswith("mllam-exps retry")
        and state in {RunState.FAILED, RunState.LOST}
    ):
        return "--failed"
    return shlex.join(dict.fromkeys(names))


def _named(names: list[str]) -> str:
    unique = list(dict.fromkeys(names))
    if len(unique) <= NAMED:
        return ", ".join(unique)
    return f"{len(unique)} experiments ({', '.join(unique[: NAMED - 1])}, …)"
