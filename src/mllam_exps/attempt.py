"""One attempt at a run: what a job does. ``python -m mllam_exps.attempt RUN_DIRECTORY NUMBER``.

It runs in the environment of the stages, as a detached process or inside a Slurm job,
and needs nobody: a `Worker` does the work of a stage, a `Finisher` saves an experiment.
What they do not write down did not happen.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from pathlib import Path

from mllam_exps.attempts.work.supervisor import Supervisor
from mllam_exps.attempts.work.worker import Worker
from mllam_exps.base import logs, records, special_files
from mllam_exps.base.endings import reasons
from mllam_exps.base.errors import MllamError
from mllam_exps.base.terminal import print_anything
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.records import Outcome
from mllam_exps.runs.store import Run
from mllam_exps.submission import afterwards


def main(arguments: list[str]) -> int:
    """Run the attempt that the arguments name; where nothing can be written down, the exit code tells."""
    try:
        return _main(arguments)
    except OSError as error:
        with contextlib.suppress(OSError):
            traceback.print_exc()
        return reasons.code_of_store(error)


def _main(arguments: list[str]) -> int:
    records.keep_others_out()
    special_files.guard()
    print_anything()
    # Logs are UTF-8, whatever a submitter's terminal is.
    os.environ.pop("PYTHONIOENCODING", None)
    directory, number = arguments
    records.let_group_read(Path(directory))
    attempt = Attempt(Run(Path(directory)), int(number))
    begun = attempt.started is not None or attempt.ended is not None
    try:
        if begun:
            from mllam_exps.attempts import resubmitted_script

            attempt = resubmitted_script.take(attempt)
        logs.to_file(attempt.debug_log)
        supervisor = _supervisor(attempt)
    except MllamError as error:
        print(error, flush=True)
        if not begun:
            with contextlib.suppress(OSError):  # a directory that is not ours
                attempt.end(Outcome.FAILED, error.problem)
        return int(error.exit)
    code = supervisor.run()
    afterwards.go_on(supervisor)
    return code


def _supervisor(attempt: Attempt) -> Supervisor:
    if not attempt.run.is_saving:
        return Worker(attempt)
    from mllam_exps.submission.last_job import Finisher

    return Finisher(attempt)


def _leave(code: int) -> None:
    """End this process with an exit code of ours: on a full disk Python 3.11 would make 120 of it."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        os._exit(code)
    raise SystemExit(code)


if __name__ == "__main__":
    _leave(main(sys.argv[1:]))
