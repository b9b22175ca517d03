"""What a job does once its attempt has ended: it saves what is ready, and submits what waits in the run store.

Nothing of it is the attempt's own, and nothing that goes wrong here changes how that
ended.
"""

from __future__ import annotations

import os

from mllam_exps.attempts.supervisor import Supervisor
from mllam_exps.identity.run_keys import SAVE
from mllam_exps.runs.store import RunStore
from mllam_exps.submission import early_save


def go_on(supervisor: Supervisor) -> None:
    """Save experiments that have all they need now; submit what waits, where no other job is there that would.

    Parameters
    ----------
    supervisor : Supervisor
        Of the attempt, which has ended.
    """
    attempt = supervisor.attempt
    store = RunStore(attempt.run.store)
    try:
        if supervisor.scheduler().chains and attempt.run.result is not None:
            by = f"job {os.environ.get('SLURM_JOB_ID', '')}, of {attempt.run.key}"
            machine, stopped = (
                supervisor.spec.machine,
                lambda: supervisor.stopped is not None,
            )
            early_save.save_ready(store, attempt.run, machine, by, stopped)
    except Exception as error:
        print(f"what is ready could not be saved from here: {error}", flush=True)
    # An experiment's last job makes room for others; and where no job waits for this
    # one, nobody else may come.
    if attempt.run.stage == SAVE or attempt.alone.exists():
        _submit_what_waits(store)


def _submit_what_waits(store: RunStore) -> None:
    # Half a second of imports, and mostly nothing waits.
    from mllam_exps.submission import backlog

    backlog.forget_settings()
    try:
        for warning in backlog.dispatch(store, wait=True).warnings:
            print(warning, flush=True)
    except Exception as error:
        print(
            f"what waits in the run store could not be gone on with: {error}",
            flush=True,
        )
