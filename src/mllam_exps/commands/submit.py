"""``mllam-exps submit``: what was submitted, in one table."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence

from mllam_exps.base import terminal
from mllam_exps.base.terminal import say, warn
from mllam_exps.commands import advance
from mllam_exps.runs.assess import RunState
from mllam_exps.submission import submit as submitting
from mllam_exps.submission.submit import Submitted

STYLES = {"known": "green", "submitted": "cyan", "attached": "cyan", "waits": "yellow"}
LONGEST = 40
"""Rows of the table; more are counted."""


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
        tell=lambda note: warn(f"note: {note}"),
    )
    if submitted and not dry_run:
        advance.after(submitted[0].experiment.store)
    if as_json:
        records = [one.to_record() for one in submitted]
        for stage in (
            stage for record in records for stage in record["stages"] if dry_run
        ):
            stage["state"] = (
                "would run" if stage["state"] == "waits" else stage["state"]
            )
        print(json.dumps(records, indent=1))
        return
    _print_table(submitted, dry_run=dry_run)
    for line in _summary(submitted, dry_run=dry_run):
        say(line)


def _print_table(submitted: Sequence[Submitted], *, dry_run: bool) -> None:
    from mllam_exps.views import tables
    from mllam_exps.views.tables import State

    stages = list(
        dict.fromkeys(step.stage for one in submitted for step in one.experiment.steps)
    )
    lines = []
    for one in submitted[:LONGEST]:
        states = []
        for step in one.experiment.steps:
            word = one.word(step.stage)
            if dry_run and word == "waits":
                word = "would run"
            states.append(State(step.stage, word, STYLES.get(word, "")))
        experiment = one.experiment
        lines.append(tables.Line(experiment.name, experiment.changed, tuple(states)))
    console = terminal.console()
    console.print(tables.of_experiments(lines, stages, console.width))
    if len(submitted) > LONGEST:
        say(f"… and {len(submitted) - LONGEST} more")


def _summary(submitted: Sequence[Submitted], *, dry_run: bool) -> list[str]:
    count = len(submitted)
    experiments = "1 experiment" if count == 1 else f"{count} experiments"
    where = f"(machine {submitted[0].experiment.machine})" if submitted else ""
    new = Counter(stage for one in submitted for stage in one.standing.started)
    lines = []
    if dry_run:
        keys = {
            step.key: step.stage
            for one in submitted
            for step in one.experiment.steps
            if one.word(step.stage) == "waits"
        }
        told = (
            ", ".join(f"{n} × {stage}" for stage, n in Counter(keys.values()).items())
            or "nothing"
        )
        return [f"{experiments}; would run: {told}; nothing was submitted {where}"]
    told = ", ".join(f"{n} × {stage}" for stage, n in new.items())
    nothing = (
        "nothing submitted"
        if any(one.standing.waits for one in submitted)
        else "all is known or under way"
    )
    told = f"{told} submitted" if told else nothing
    done = sum(one.saving.state is RunState.DONE for one in submitted)
    lines.append(
        f"{experiments}: {told} {where}"
        + (f"; {done} known and saved already" if done else "")
    )
    if waits := next(
        (one.standing.waits for one in submitted if one.standing.waits), ""
    ):
        number = sum(bool(one.standing.waits) for one in submitted)
        lines.append(
            f"{number} of them {'waits' if number == 1 else 'wait'} in the run store: {waits}"
        )
    if done < count:
        lines.append(
            "mllam-exps status --watch shows how they are; nothing has to stay open for them"
        )
    sys.stdout.flush()
    return lines
