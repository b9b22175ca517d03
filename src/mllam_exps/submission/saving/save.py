"""Saves an experiment whose results are all there: the one function that does, for every job that may.

The job that made the last result calls it, for the experiments that waited for just
that, and so does each experiment's own last job. It may be called as often as one
likes, and from several hosts at once: the experiment becomes one commit, under one name.
"""

from __future__ import annotations

import socket
import time
from contextlib import AbstractContextManager
from typing import IO

from mllam_exps.base import records
from mllam_exps.runs.locks import lock
from mllam_exps.runs.results import Result
from mllam_exps.runs.store import RunStore
from mllam_exps.submission.experiment import Experiment


def save(experiment: Experiment) -> bool:
    """Save an experiment; False if somebody has done it.

    Whoever calls it has its turn on this host (`turn`).
    """
    # Half a second of imports, where mostly there is nothing to save.
    from mllam_exps.submission.saving import commit

    if _is_saved(experiment):
        return False
    experiment.check_ours()
    try:
        saved = commit.save(experiment)
    except Exception:
        # A job on another host may have saved it meanwhile, and removed its clone.
        if _is_saved(experiment):
            return False
        raise
    number = experiment.saving.next_number - 1
    experiment.saving.settle(Result(number, commit=saved, time=time.time()))
    commit.forget_clone(experiment)
    return True


def _is_saved(experiment: Experiment) -> bool:
    # A network file system may remember from an earlier look that there is no result.
    records.look_afresh(experiment.directory)
    return experiment.saving.result is not None


def turn(
    store: RunStore, *, wait: bool = False
) -> AbstractContextManager[IO[str] | None]:
    """Have one job of a host save at a time: git's and DVC's files have locks of their own."""
    return lock(store, f"saver-{socket.gethostname()}", wait=wait)
