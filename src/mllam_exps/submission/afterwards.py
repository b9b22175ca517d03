"""What a job does once its attempt has ended.

It saves the experiments that waited for just its result, and submits what waits in the
run store. Nothing of it is the attempt's own, and nothing that goes wrong here changes
how that ended.
"""

from __future__ import annotations

from mllam_exps.attempts.supervisor import Supervisor
from mllam_exps.identity.run_keys import SAVE
from mllam_exps.runs.runs import Run
from mllam_exps.runs.store import RunStore
from mllam_exps.submission.save import AfterResult


def go_on(supervisor: Supervisor) -> None:
    """Save experiments that have all they need now; submit what waits, where no other job is there that would.

    Parameters
    ----------
    supervisor : Supervisor
        Of the attempt, which has ended.
    """
    attempt = supervisor.attempt
    try:
        # An experiment's own last job is there where jobs can wait for one another.
        if supervisor.scheduler().chains and attempt.run.result is not None:
            _save(supervisor)
    except Exception as error:
        _log(f"what waited for this result could not be saved from here: {error}")
    # An experiment's last job makes room for others; and where no job waits for this
    # one, nobody else may come.
    if attempt.run.stage == SAVE or attempt.alone.exists():
        _submit_what_waits(RunStore(attempt.run.store))


def _save(supervisor: Supervisor) -> None:
    run = Run(supervisor.attempt.run.directory)
    by = f"job {supervisor.scheduler().job_id()}, of {run.key}"
    machine = supervisor.spec.machine

    def stopped() -> bool:
        return supervisor.stopped is not None

    AfterResult(run, machine, by, stopped, _log).save()


def _submit_what_waits(store: RunStore) -> None:
    # Half a second of imports, and mostly nothing waits.
    from mllam_exps.submission import backlog

    backlog.forget_settings()
    try:
        for warning in backlog.dispatch(store, wait=True).warnings:
            _log(warning)
    except Exception as error:
        _log(f"what waits in the run store could not be gone on with: {error}")


def _log(line: str) -> None:
    """Print a line to the job's own log."""
    print(line, flush=True)
