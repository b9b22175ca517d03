"""The names of files and folders in the run store. No other module spells one of them, but two below this room.

::

    runs/train-3f2a…/
        run.json              what defines the run: stage, parameters, inputs, versions
        result.json           which attempt made the result, with hashes of what it made and read
        damaged-1.json        why the result of attempt 1 was set aside
        result-….json         results that count no more
        attempts/1.json       attempt 1 is claimed: by whom, on which scheduler, under which job name
        attempts/1/           the attempt's own directory, see below
        waiters/              processes that wait for the run
        asked/                experiments that were not submitted, and workspaces, that asked for it
        wanted/               submitted experiments that need it
    experiments/save-5f3c…/   a submitted experiment; its run is the saving of it
    marks/                    tags and notes, a file for each user; no result depends on them
    unsent/                   runs of which something may be left to send to MLflow, by user
    locks/, slurm/            who submits; squeue's last answer

    attempts/1/
        spec.json             what the attempt was told: what to run, machine, versions
        job.json              what the scheduler answered when the job was submitted
        job.sh                the batch script, on a scheduler that takes one
        uncertain.json        what was said where nobody knew whether it had accepted the job
        verdict.json          what the scheduler said when the job had ended
        started.json          the attempt's record of its start: host and process
        heartbeat             touched every few seconds
        cancel.json           somebody asked the attempt to stop
        alone                 no job waits for the end of this one
        log.txt               everything that the attempt printed
        debug.log             what its own process decided, asked and waited for
        inputs.json           hashes of what it reads
        environment.json      every package that there was
        work/, tree/          the program's directory; the git repository around it, if needed
        scratch/              checkpoints, progress.json, save-and-end
        parent/               what another experiment's training left, that it goes on from
        tracking/             what its program logs to MLflow, and how far that was sent
        outputs/              what it made, frozen, if it succeeded
        manifest.json         hashes of every file in outputs/
        end.json              the attempt's record of its end: outcome and problem
"""

from __future__ import annotations

import re

# Of the store.
RUNS = "runs"
EXPERIMENTS = "experiments"
LOCKS = "locks"
MARKS = "marks"
UNSENT = "unsent"

# Of a run, and of an experiment.
DEFINITION = "run.json"
RESULT = "result.json"
ATTEMPTS = "attempts"
WAITERS = "waiters"
WANTED = "wanted"
ASKED = "asked"
CLONE = "clone"
WAITS = "waits.json"

OF_THE_TEAM = frozenset({RUNS, EXPERIMENTS, LOCKS, MARKS, UNSENT, "slurm"})
"""Folders of the store in which several users write."""
OF_THE_TEAM_IN_A_RUN = frozenset({(), (ATTEMPTS,), (WAITERS,), (WANTED,), (ASKED,)})
"""A run's own folder, and those in it, in which several users write; the rest has one writer."""

# Of an attempt.
SPEC = "spec.json"
JOB = "job.json"
SCRIPT = "job.sh"
UNCERTAIN = "uncertain.json"
VERDICT = "verdict.json"
STARTED = "started.json"
HEARTBEAT = "heartbeat"
CANCEL = "cancel.json"
ALONE = "alone"
LOG = "log.txt"
DEBUG_LOG = "debug.log"
INPUTS = "inputs.json"
ENVIRONMENT = "environment.json"
WORK = "work"
TREE = "tree"
SCRATCH = "scratch"
PARENT = "parent"
TRACKING = "tracking"
OUTPUTS = "outputs"
MANIFEST = "manifest.json"
RESERVE = "reserve"
END = "end.json"

_CLAIM = re.compile(r"([1-9][0-9]*)\.json")


def claim(number: int) -> str:
    """Return the name of an attempt's claim."""
    return f"{number}.json"


def claimed(name: str) -> int | None:
    """Return the number of the attempt whose claim has that name; None if it is no claim."""
    found = _CLAIM.fullmatch(name)
    return int(found[1]) if found else None


def why_set_aside(number: int) -> str:
    """Return the name of the record that says why an attempt's result was set aside."""
    return f"damaged-{number}.json"


def result_set_aside(number: int) -> str:
    """Return the name of a result that was damaged, or made from other inputs than there are now."""
    return f"result-damaged-{number}.json"


def result_of_no_worth(number: int) -> str:
    """Return the name of a result that could not be read when an attempt was claimed."""
    return f"result-damaged-before-{number}.json"


def result_contradicted(number: int) -> str:
    """Return the name of a result that the scheduler contradicted."""
    return f"result-rejected-{number}.json"


def result_until(number: int) -> str:
    """Return the name of a result that somebody wants made again."""
    return f"result-until-attempt-{number}.json"
