"""``mllam-exps clean``: lists what may be deleted from the run store, asks, and deletes it."""

from __future__ import annotations

import functools
import json
import re
import sys
from collections.abc import Callable, Iterable
from typing import TextIO

from mllam_exps.attempts.progress_line import duration
from mllam_exps.base import terminal
from mllam_exps.base.errors import UsageError
from mllam_exps.base.terminal import say, warn
from mllam_exps.runs.assess import assess
from mllam_exps.runs.judge import RunState
from mllam_exps.runs.locks import lock
from mllam_exps.submission import backlog, cleaning
from mllam_exps.submission.cleaning import Candidate
from mllam_exps.submission.experiments import Experiment
from mllam_exps.views.context import Context

_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


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
    named = _named(here, names)
    # By name, if it was not said by its identity: who names it means those before it
    # that had the name, too.
    chosen = [
        identity if identity in names else experiment.name
        for identity, experiment in named.items()
    ]
    look = functools.partial(
        cleaning.candidates,
        here.store,
        str(here.workspace.origin),
        chosen,
        failed=failed,
        older_than=_seconds(older_than) if older_than else 0.0,
    )
    found = list(look())
    if as_json:
        _print_json(found)
    elif found:
        _print_table(found)
    else:
        say(
            _why_nothing(
                here,
                [] if failed else list(named.values()),
                or_younger=bool(older_than),
            )
        )
    if dry_run:
        if found and not as_json:
            amount = _amount(_size(found))
            say(f"{amount} would become free; nothing was deleted (--dry-run)")
        return
    if not found:
        return
    if yes or _confirmed(found):
        _delete(here, found, look, sys.stderr if as_json else sys.stdout)
    else:
        say("nothing was deleted")


def _named(here: Context, names: list[str]) -> dict[str, Experiment]:
    """Return the experiments that are named, by identity."""
    named: dict[str, Experiment] = {}
    for name in names:
        for experiment in here.matching(name) or [here.submitted(name)]:
            named[experiment.identity] = experiment
    return named


def _delete(
    here: Context,
    found: list[Candidate],
    look: Callable[[], Iterable[Candidate]],
    stream: TextIO,
) -> None:
    """Delete what was confirmed, but for what is needed again by now, and say so."""
    # Submissions hold this lock: none comes to need a run between the look and the
    # deletion.
    with lock(here.store, "dispatch", wait=True):
        still = {one.directory for one in look()}
        deleted = []
        for one in found:
            if one.directory in still and cleaning.delete(one):
                deleted.append(one)
    for one in found:
        if one not in deleted:
            warn(f"{one.what} is needed again, and stays")
    say(f"deleted {len(deleted)}, {_amount(_size(deleted))}", stream)
    # Others found the lock taken meanwhile, and left to us what waits.
    backlog.go_on(here.store)


def _print_json(found: list[Candidate]) -> None:
    records = []
    for one in found:
        path = str(one.directory)
        records.append(
            {"what": one.what, "why": one.why, "bytes": one.size, "path": path}
        )
    print(json.dumps(records))


def _why_nothing(here: Context, named: list[Experiment], *, or_younger: bool) -> str:
    """Say why there is nothing to clean, of experiments that were named."""
    origin = str(here.workspace.origin)
    in_use = [e.name for e in named if e.origin == origin and _is_in_use(e)]
    if in_use:
        return _told_in_use(in_use)
    return f"nothing to clean: what is there is needed{', or younger' if or_younger else ''}"


def _size(found: list[Candidate]) -> int:
    return sum(one.size for one in found)


def _is_in_use(experiment: Experiment) -> bool:
    return (
        experiment.is_mine
        and assess(experiment.saving).state is RunState.DONE
        and cleaning.is_in_git(experiment)
    )


def _told_in_use(names: list[str]) -> str:
    are = "is" if len(names) == 1 else "are"
    return f"{', '.join(names)} {are} saved and in use: dvc exp remove {' '.join(names)} first"


def _confirmed(found: list[Candidate]) -> bool:
    if not sys.stdin.isatty():
        raise UsageError(
            "nobody can be asked here", next="mllam-exps clean --yes, or --dry-run"
        )
    answer = input(f"Delete these {len(found)}, {_amount(_size(found))}? [y/N] ")
    return answer.strip().lower() in {"y", "yes"}


def _print_table(found: list[Candidate]) -> None:
    from mllam_exps.views import tables

    items = [
        tables.Item(one.what, one.why, duration(one.age), _amount(one.size))
        for one in found
    ]
    console = terminal.console()
    console.print(tables.of_items(items, console.width))


def _amount(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+)([mhdw])", text.strip())
    if not match:
        raise UsageError(f"{text!r} is no age", "--older-than", next="30d, 12h, 2w")
    return int(match[1]) * _UNITS[match[2]]
