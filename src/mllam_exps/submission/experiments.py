"""Submitted experiments, as the run store keeps them: one directory each, whose run is the saving of the experiment.

Layout of ``<store>/experiments/save-<32 hexadecimal digits>/``::

    run.json      the experiment: its name, where it came from, its stages with run keys
    clone/        the repository as it was when the experiment was submitted
    attempts/     tries at saving it, as any other run has attempts
    result.json   the commit that holds it, once it is saved
    waits.json    why a stage that could be submitted was not

What is known of an experiment is what is known of its runs and of its saving; nothing
is written down twice.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mllam_exps.base import records
from mllam_exps.base.errors import Problem
from mllam_exps.base.records import Trouble
from mllam_exps.identity.run_keys import SAVE, is_key
from mllam_exps.runs import layout
from mllam_exps.runs.records import Outcome
from mllam_exps.runs.store import Run, RunStore
from mllam_exps.submission.experiment import SHAPE, Experiment


def identity(facts: Mapping[str, Any]) -> str:
    """Return the name of an experiment's directory: the digest of all that tells it from others."""
    text = json.dumps(facts, sort_keys=True, default=str)
    return f"{SAVE}-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def folder(store: RunStore) -> Path:
    """Return the directory of all experiments of a store."""
    return store.directory / layout.EXPERIMENTS


def read(directory: Path) -> Experiment | None:
    """Return the experiment of a directory, or None where there is none."""
    return Experiment.read(directory)


def unreadable(store: RunStore) -> list[Path]:
    """Return the directories of experiments that nobody can tell anything of from here."""
    found = []
    for path in _places(store):
        record = records.look(path / layout.DEFINITION, shape=SHAPE)
        if not isinstance(record, dict):
            found.append(path)
    return found


def of_store(store: RunStore) -> Iterator[Experiment]:
    """Yield the experiments of a store, oldest first."""
    return _read_all(_places(store))


def unsaved(
    store: RunStore, but: Callable[[Run], bool] = lambda _: False
) -> Iterator[Experiment]:
    """Yield those that are not saved yet, oldest first; the others, by and by most of them, are not read.

    Parameters
    ----------
    but : callable
        Tells by its saving that an experiment is not wanted either, and need not be
        read.
    """
    wanted = []
    for place in _places(store):
        saving = Run(place)
        if saving.result is None and not but(saving):
            wanted.append(place)
    return _read_all(wanted)


def _places(store: RunStore) -> Iterator[Path]:
    for name in records.entries(folder(store)):
        if name.startswith(f"{SAVE}-") and is_key(name):
            yield folder(store) / name


def _read_all(places: Iterable[Path]) -> Iterator[Experiment]:
    found = []
    for place in places:
        experiment = read(place)
        if experiment is not None:
            found.append(experiment)
            continue
        is_open = os.access(place, os.R_OK | os.X_OK)
        if is_open and not os.path.lexists(place / layout.DEFINITION):
            records.tell(Trouble(place, "is an experiment without its run.json"))
    yield from sorted(found, key=lambda e: (e.created, e.name))


def call_off(
    experiment: Experiment, why: str, outcome: Outcome = Outcome.CANCELLED
) -> bool:
    """Write down the end of an experiment of which nothing is at work; False if somebody goes on with it."""
    saving = experiment.saving
    attempt = saving.claim(
        saving.next_number,
        scheduler="local",
        experiment=experiment.name,
        workspace=experiment.root,
        working_directory=None,
    )
    if attempt is None:
        return False
    attempt.end(outcome, Problem(why))
    return True
