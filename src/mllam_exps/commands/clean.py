"""``mllam-exps clean``: lists what may be deleted from the run store, asks, and deletes it."""

from __future__ import annotations

import json
import re
import sys

from mllam_exps.attempts.progress_line import duration
from mllam_exps.base import terminal
from mllam_exps.base.errors import UsageError
from mllam_exps.base.terminal import say, warn
from mllam_exps.commands import advance
from mllam_exps.runs.assess import RunState, assess
from mllam_exps.runs.locks import lock
from mllam_exps.submission import cleaning
from mllam_exps.submission.cleaning import Candidate
from mllam_exps.submission.experiments import Experiment
from mllam_exps.views.context import Here

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
    here = Here.open()
    named = {
        e.identity: e
        for name in names
        for e in here.matching(name) or [here.submitted(name)]
    }
    seconds = _seconds(older_than) if older_than else 0.0
    origin = str(here.workspace.origin)

    def candidates() -> list[Candidate]:
        # By name, if it was not said by its identity: who names it means those before
        # it that had the name, too.
        chosen = [
            identity if identity in names else e.name for identity, e in named.items()
        ]
        return list(
            cleaning.candidates(
                here.store, origin, chosen, failed=failed, older_than=seconds
            )
        )

    found = candidates()
    if as_json:
        print(
            json.dumps(
                [
                    {
                        "what": c.what,
                        "why": c.why,
                        "bytes": c.size,
                        "path": str(c.directory),
                    }
                    for c in found
                ]
            )
        )
    elif not found:
        in_use = (
            []
            if failed
            else [
                e.name for e in named.values() if e.origin == origin and _is_in_use(e)
            ]
        )
        say(
            _told_in_use(in_use)
            if in_use
            else "nothing to clean: what is there is needed, or younger"
        )
    else:
        _print_table(found)
    if dry_run and not as_json and found:
        say(
            f"{_amount(sum(c.size for c in found))} would become free; nothing was deleted (--dry-run)"
        )
    if dry_run or not found:
        return
    if not yes and not _confirmed(found):
        say("nothing was deleted")
        return
    # Submissions hold this lock: none comes to need a run between the look and the
    # deletion.
    with lock(here.store, "dispatch", wait=True):
        still = {one.directory for one in candidates()}
        deleted = [
            one for one in found if one.directory in still and cleaning.delete(one)
        ]
    for one in found:
        if one not in deleted:
            warn(f"{one.what} is needed again, and stays")
    print(
        f"deleted {len(deleted)}, {_amount(sum(c.size for c in deleted))}",
        file=sys.stderr if as_json else sys.stdout,
    )
    # Others found the lock taken meanwhile, and left to us what waits.
    advance.after(here.store)


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
    answer = input(
        f"Delete these {len(found)}, {_amount(sum(c.size for c in found))}? [y/N] "
    )
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
