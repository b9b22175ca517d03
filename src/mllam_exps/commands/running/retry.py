"""``mllam-exps retry``: submits again what failed, and what hung on it."""

from __future__ import annotations

import shlex

from mllam_exps.attempts.job_quota import Quota, Room
from mllam_exps.base.errors import Exit, MllamError, UsageError
from mllam_exps.base.terminal import say, warn
from mllam_exps.dvc.saved.experiment_refs import is_pattern
from mllam_exps.runs.locks import SUBMISSIONS, lock
from mllam_exps.submission import backlog
from mllam_exps.submission.experiment import Experiment
from mllam_exps.submission.retrying import again, changed_files, refused
from mllam_exps.submission.retrying.changed_files import Changes
from mllam_exps.views.context import Context
from mllam_exps.views.sentences import named


def retry(names: list[str], *, failed: bool) -> None:
    """Submit again, in the clones that were made when they were submitted; a training goes on from its checkpoint.

    Parameters
    ----------
    names : list of str
        Experiments, or patterns with ``*``.
    failed : bool
        Only those of them that failed, and not with NaN; without names, all of this
        repository that did.
    """
    here = Context.open()
    origin, cache = here.workspace.origin, here.cache
    wanted = []
    for experiment in _wanted(here, names, failed=failed):
        if not refused.is_back(experiment, origin, cache):
            wanted.append(experiment)
    if not failed:
        wanted = _without_whole(wanted, names, here)
    changes: dict[str, Changes] = {}
    for experiment in wanted:
        refused.refuse(experiment, origin, cache)
        changed = changed_files.since(experiment)
        changed_files.refuse_what_was_mended(experiment, changed)
        changes[experiment.identity] = changed
    for experiment in wanted:
        if told := changes[experiment.identity].told:
            warn(
                f"note: {experiment.name} goes on with the files as they were when it was submitted; {told}"
                " (machine files are read as they are now); mllam-exps submit takes them as they are now"
            )
    rooms: dict[tuple[str, str], Room] = {}
    with lock(here.store, SUBMISSIONS, wait=True), Quota() as quota:
        for experiment in wanted:
            told = again.submit_again(experiment, rooms, quota)
            say(f"{experiment.name}: {told}")
    backlog.go_on(here.store)


def _wanted(here: Context, names: list[str], *, failed: bool) -> list[Experiment]:
    """Return the experiments that are meant, each once.

    Raises
    ------
    MllamError
        If there is none.
    """
    if not (names or failed):
        raise UsageError(
            "no experiment is named", next="mllam-exps retry EXP, or --failed"
        )
    found = here.named(names) if names else here.mine()
    if not failed:
        return found
    wanted = [e for e in found if e.is_mine and again.has_failed(e)]
    if same := [e for e in wanted if again.would_end_the_same_way(e)]:
        wanted = [e for e in wanted if e not in same]
        _tell_left(same)
    if same and not wanted:
        raise MllamError("nothing else has failed", exit=Exit.OK)
    if not wanted:
        what = "none of these has failed" if names else "no experiment has failed"
        raise MllamError(
            f"{what}: there is nothing to retry", " ".join(names), exit=Exit.OK
        )
    return wanted


def _tell_left(left: list[Experiment]) -> None:
    """Say which experiments `--failed` leaves as they are, and how they are tried all the same."""
    names = list(dict.fromkeys(e.name for e in left))
    ended = "it ended" if len(names) == 1 else "they ended"
    what = f"{named(names)}: {ended} with NaN, and would end the same way again; --failed leaves that as it is"
    status, again = shlex.join(names[:1]), shlex.join(names)
    warn(
        f"note: {what}\n  → mllam-exps status {status} says what helps; mllam-exps retry {again} tries it as it was"
    )


def _without_whole(
    found: list[Experiment], names: list[str], here: Context
) -> list[Experiment]:
    """Leave out those that a pattern alone means, and of which nothing is to be tried again; say which they are.

    Raises
    ------
    MllamError
        If no other is left.
    """
    if not any(map(is_pattern, names)):
        return found
    wanted: list[Experiment] = []
    whole: list[str] = []
    for experiment in found:
        is_named = not {experiment.name, experiment.identity}.isdisjoint(names)
        if is_named or not refused.is_whole(
            experiment, here.workspace.origin, here.cache
        ):
            wanted.append(experiment)
        else:
            whole.append(experiment.name)
    if whole:
        they_are = "it is" if len(whole) == 1 else "they are"
        told = f"{named(whole)}: {they_are} done"
        if not wanted:
            raise MllamError(f"{told}: there is nothing to retry", exit=Exit.OK)
        warn(f"note: {told}, and left as {they_are}")
    return wanted
