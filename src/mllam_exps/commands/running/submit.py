"""``mllam-exps submit``: what was submitted, in one table."""

from __future__ import annotations

import itertools
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mllam_exps.base import terminal
from mllam_exps.base.terminal import say, warn
from mllam_exps.runs.state.judge import RunState
from mllam_exps.sharing import clones
from mllam_exps.submission import backlog
from mllam_exps.submission import submit as submitting
from mllam_exps.submission.submit import Submitted

STYLES = {"known": "green", "submitted": "cyan", "attached": "cyan", "waits": "yellow"}
LONGEST = 40
"""Rows of the table; more are counted."""
WATCH = (
    "mllam-exps status --watch shows how they are; nothing has to stay open for them"
)


def submit(
    stages: Sequence[str],
    *,
    set_params: Sequence[str],
    name: str,
    message: str,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Submit, and print what became of each experiment."""
    submitted = submitting.submit(
        stages,
        set_params=set_params,
        name=name,
        message=message,
        force=force,
        dry_run=dry_run,
        command=["mllam-exps", *sys.argv[1:]],
        go_on_before=backlog.go_on_before,
        tell=lambda note: warn(f"note: {note}"),
    )
    if submitted and not dry_run:
        first = submitted[0].experiment
        backlog.go_on(first.store)
        clones.tell_if_shared(first.store.directory.parent, Path(first.origin))
    if as_json:
        print(json.dumps(_records(submitted, dry_run=dry_run), indent=1))
        return
    _print_table(submitted, dry_run=dry_run)
    for line in [_foreseen(submitted)] if dry_run else _summary(submitted):
        say(line)


def _records(submitted: Sequence[Submitted], *, dry_run: bool) -> list[dict[str, Any]]:
    """Return what became of each, JSON-able."""
    records = [one.to_record() for one in submitted]
    for record in records:
        for stage in record["stages"]:
            stage["state"] = _word(stage["state"], dry_run=dry_run)
    return records


def _word(word: str, *, dry_run: bool) -> str:
    """Return a stage's state in the word that people read."""
    return "would run" if dry_run and word == "waits" else word


def _print_table(submitted: Sequence[Submitted], *, dry_run: bool) -> None:
    from mllam_exps.views import tables
    from mllam_exps.views.tables import State

    stages: dict[str, None] = {}
    for one in submitted:
        stages |= dict.fromkeys(step.stage for step in one.experiment.steps)
    lines = []
    for one in submitted[:LONGEST]:
        states = []
        for step in one.experiment.steps:
            word = _word(one.word(step.stage), dry_run=dry_run)
            states.append(State(step.stage, word, STYLES.get(word, "")))
        experiment = one.experiment
        lines.append(tables.Line(experiment.name, experiment.changed, tuple(states)))
    console = terminal.console()
    console.print(tables.of_experiments(lines, list(stages), console.width))
    if len(submitted) > LONGEST:
        say(f"… and {len(submitted) - LONGEST} more")


def _foreseen(submitted: Sequence[Submitted]) -> str:
    """Say what would run."""
    # By key: experiments share runs.
    stages: dict[str, str] = {}
    for one in submitted:
        for step in one.experiment.steps:
            if one.word(step.stage) == "waits":
                stages[step.key] = step.stage
    told = _counted(Counter(stages.values())) or "nothing"
    return f"{_number(submitted)}; would run: {told}; nothing was submitted {_where(submitted)}"


def _summary(submitted: Sequence[Submitted]) -> list[str]:
    """Say in some lines what became of all."""
    waiting = [one.standing.waits for one in submitted if one.standing.waits]
    done = sum(one.saving.state is RunState.DONE for one in submitted)
    line = _headline(submitted, waits=bool(waiting))
    if done:
        line += f"; {done} known and saved already"
    lines = [line, *_unknown(submitted)]
    if waiting:
        wait = "waits" if len(waiting) == 1 else "wait"
        lines.append(f"{len(waiting)} of them {wait} in the run store: {waiting[0]}")
    if done < len(submitted):
        lines.append(WATCH)
    return lines


def _unknown(submitted: Sequence[Submitted]) -> list[str]:
    """Say of which stages nobody can tell how they are, and why: each once, however many experiments have it."""
    found: dict[str, None] = {}
    for one in submitted:
        for stage, now in one.standing.states.items():
            if now.state is RunState.UNKNOWN:
                found[f"{stage} unknown: {now.reason}"] = None
    return list(found)


def _headline(submitted: Sequence[Submitted], *, waits: bool) -> str:
    """Say which jobs are new."""
    new = Counter(itertools.chain(*(one.standing.started for one in submitted)))
    told = ": all is known or under way"
    if new:
        told = f": {_counted(new)} submitted"
    elif waits:
        # Its user is done: what waits is taken, and starts by itself.
        told = " taken, no new job yet"
    elif _unknown(submitted):
        told = ": no new job; nobody can tell how all of it is"
    return f"{_number(submitted)}{told} {_where(submitted)}"


def _number(submitted: Sequence[Submitted]) -> str:
    count = len(submitted)
    return "1 experiment" if count == 1 else f"{count} experiments"


def _where(submitted: Sequence[Submitted]) -> str:
    return f"(machine {submitted[0].experiment.machine})" if submitted else ""


def _counted(stages: Counter[str]) -> str:
    return ", ".join(f"{count} × {stage}" for stage, count in stages.items())
