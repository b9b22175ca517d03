"""``mllam-exps clean``: lists what may be deleted from the run store, asks, and deletes it."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

from mllam_exps.attempts.progress_line import duration
from mllam_exps.base import ages, terminal
from mllam_exps.base.errors import UsageError, some_of
from mllam_exps.base.terminal import say, warn
from mllam_exps.runs.locks import SUBMISSIONS, lock
from mllam_exps.runs.state.assess import assess
from mllam_exps.runs.state.judge import RunState
from mllam_exps.runs.store import RunStore
from mllam_exps.submission import backlog, cleaning
from mllam_exps.submission.applying import is_in_git
from mllam_exps.submission.cleaning import Candidate, Selection
from mllam_exps.submission.experiment import Experiment
from mllam_exps.submission.staying import Staying
from mllam_exps.views.context import Context
from mllam_exps.views.saved import saved_as


def clean(
    names: list[str],
    *,
    failed: bool,
    older_than: str,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """List, ask and delete; names may be patterns with ``*``."""
    here = Context.open()
    named, others = _named(here, names)
    age = ages.seconds(older_than) if older_than else 0.0
    origin = str(here.workspace.origin)
    chosen, keys = (
        [*_chosen(named, names), *others],
        frozenset[str]().union(*others.values()),
    )
    selection = Selection(origin, chosen, failed, age, keys)
    staying = Staying()
    found = list(cleaning.candidates(here.store, selection, staying))
    if as_json:
        _print_json(found)
    elif found:
        _print_table(found)
    else:
        in_use = [] if failed else _in_use(origin, named)
        say(_why_nothing(in_use, list(others), or_younger=bool(older_than)))
    if dry_run:
        if not as_json:
            _say_what_would_become(found, staying)
    elif found:
        stream = sys.stderr if as_json else sys.stdout
        _delete(here.store, selection, found, stream, yes=yes)


def _named(
    here: Context, names: Sequence[str]
) -> tuple[list[Experiment], dict[str, set[str]]]:
    """Return the submitted experiments that are named; and the runs of the others, which `dvc exp run` ran, by name.

    Raises
    ------
    UsageError
        If there is none of a name, or `dvc exp run` saved it: DVC deletes that.
    """
    others = {}
    for name in names:
        if here.matching(name):
            continue
        if saved_as(here.workspace.origin, name):
            what = f"{name} was not submitted: `dvc exp run` saved it"
            raise UsageError(what, next=f"dvc exp remove {shlex.quote(name)}")
        if runs := here.asked_for_by(name):
            others[name] = {run.key for run in runs.values()}
    return here.named(name for name in names if name not in others), others


def _say_what_would_become(found: list[Candidate], staying: Staying) -> None:
    """Say how much would become free, and what would stay."""
    if found:
        amount = terminal.amount(_size(found))
        say(f"{amount} would become free; nothing was deleted (--dry-run)")
    if str(staying):
        say(f"{staying} would stay")


def _chosen(named: list[Experiment], names: list[str]) -> list[str]:
    """Return what the experiments are called: whoever says a name means those before it that had it, too.

    Of one that was said by its identity nothing else is meant.
    """
    return [one.identity if one.identity in names else one.name for one in named]


def _delete(
    store: RunStore,
    selection: Selection,
    found: list[Candidate],
    stream: TextIO,
    *,
    yes: bool,
) -> None:
    """Delete what is confirmed, but for what is needed again by now, and say so."""
    if not (yes or _confirmed(found)):
        say("nothing was deleted")
        return
    # Submissions hold this lock: none comes to need a run between the look and the
    # deletion.
    with lock(store, SUBMISSIONS, wait=True):
        still = {one.directory for one in cleaning.candidates(store, selection)}
        deleted = []
        for one in found:
            if one.directory in still and cleaning.delete(one):
                deleted.append(one)
    for one in found:
        if one not in deleted:
            warn(f"{one.what} is needed again, and stays")
    say(f"deleted {len(deleted)}, {terminal.amount(_size(deleted))}", stream)
    # Others found the lock taken meanwhile, and left to us what waits.
    backlog.go_on(store)


def _print_json(found: list[Candidate]) -> None:
    print(json.dumps([one.to_record() for one in found]))


def _in_use(origin: str, named: Iterable[Experiment]) -> list[str]:
    """Return which of the experiments that were named are saved, and in use."""
    found: list[str] = []
    for experiment in named:
        if experiment.origin != origin or not experiment.is_mine:
            continue
        done = assess(experiment.saving).state is RunState.DONE
        if done and is_in_git(experiment):
            found.append(experiment.name)
    return found


def _why_nothing(in_use: list[str], others: list[str], *, or_younger: bool) -> str:
    """Say why there is nothing to clean."""
    if in_use:
        are = "is" if len(in_use) == 1 else "are"
        way_out = f"dvc exp remove {' '.join(in_use)} first"
        return f"{', '.join(in_use)} {are} saved and in use: {way_out}"
    if others:
        told = "what `dvc exp run` made has a result, which counts for whoever asks for the same, or is needed"
        return f"nothing to clean of {some_of(others)}: {told}"
    younger = ", or younger" if or_younger else ""
    return f"nothing to clean: what is there is needed{younger}"


def _size(found: list[Candidate]) -> int:
    return sum(one.size for one in found)


def _confirmed(found: list[Candidate]) -> bool:
    question = f"Delete these {len(found)}, {terminal.amount(_size(found))}"
    return terminal.confirmed(question, "mllam-exps clean --yes, or --dry-run")


def _print_table(found: list[Candidate]) -> None:
    from mllam_exps.views import tables

    items = [
        tables.Item(one.what, one.why, duration(one.age), terminal.amount(one.size))
        for one in found
    ]
    console = terminal.console()
    console.print(tables.of_items(items, console.width))
