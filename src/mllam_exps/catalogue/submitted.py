"""Submitted experiments of a run store, for the catalogue: everybody's, running ones too."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mllam_exps.base import records
from mllam_exps.base.ownership import user_name
from mllam_exps.catalogue import query
from mllam_exps.catalogue.facts import Facts, OfRuns, Scalar, stamp, with_hash
from mllam_exps.identity.run_keys import SAVE, is_key
from mllam_exps.runs import layout
from mllam_exps.runs.state.judge import RunState
from mllam_exps.runs.store import RunStore
from mllam_exps.submission.experiment import Experiment

if TYPE_CHECKING:
    from mllam_exps.views.rows import Row

PARENT = "resume_from="
"""How the parameter is set that names what a training goes on from."""


def places(store: RunStore) -> Iterator[str]:
    """Yield the folders of submitted experiments."""
    folder = store.directory / layout.EXPERIMENTS
    for name in records.entries(folder):
        if name.startswith(f"{SAVE}-") and is_key(name):
            yield f"{folder}/{name}"  # ten thousand of them


def fingerprint(place: str, watched: tuple[str, ...]) -> str:
    """Return what is another text when something about an experiment has changed."""
    return stamp((*_own(place), *watched))


def _own(place: str) -> tuple[str, str]:
    return f"{place}/{layout.DEFINITION}", f"{place}/{layout.RESULT}"


def read(
    place: str, runs: OfRuns, look: Callable[[Experiment], Row]
) -> tuple[Facts, str] | None:
    """Return what is known of an experiment, and its fingerprint, if that stays so until its files change.

    None where it cannot be read, or is being made or removed; a damaged record is told.

    Parameters
    ----------
    look : callable
        Finds out how one stands that is not saved.
    """
    # Before it is read: what changes meanwhile is read again the next time.
    own = stamp(_own(place))
    experiment = Experiment.read(Path(place))
    if experiment is None:
        return None
    saving = experiment.saving
    facts = Facts(
        name=experiment.name,
        person=_owner(place),
        state=str(RunState.DONE),
        at=experiment.created,
        commit=experiment.commit,
        origin=experiment.origin,
        machine=experiment.machine,
    )
    facts.data = tuple(_sources(experiment.sources))
    facts.parent = tuple(_parents(experiment))
    # What a colleague's record says of a commit, that has to say as well.
    is_theirs = facts.person != user_name(os.getuid())
    facts.is_partial = is_theirs or any(step.known for step in experiment.steps)
    saved_at = None
    if facts.commit:
        saved_at = records.changed_at(saving.directory / layout.RESULT)
    runs.add(facts, experiment.runs, saved_at)
    # What waits has no run yet: what was typed is known of it.
    facts.values = dict(_typed(experiment.overrides)) | facts.values
    if facts.commit:
        return facts, own
    watched = tuple(_watched(experiment))
    before = stamp(watched)
    stays = _add_state(facts, look(experiment))
    # Somebody may have gone on with it while it was looked at.
    same = watched == tuple(_watched(experiment)) and stamp(watched) == before
    facts.watched = watched
    return facts, f"{own} {before}" if stays and same else ""


def word_of(state: RunState) -> str:
    """Return the word of an experiment's state, as `status` has it."""
    return "waits" if state is RunState.NEW else str(state)


def _owner(place: str) -> str:
    return user_name(os.lstat(place).st_uid)


def _sources(sources: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    for path, told in sources.items():
        yield with_hash(path, str(told["digest"]))


def _typed(overrides: Mapping[str, list[str]]) -> Iterator[tuple[str, Scalar]]:
    """Yield the parameters that were set with `-S`, as far as they are single values."""
    for file, words in overrides.items():
        for word in words:
            key, equals, text = word.lstrip("+").partition("=")
            if equals and not text.startswith(("[", "{", "'", '"')):
                yield f"{file}:{key}", query.typed(text)


def _parents(experiment: Experiment) -> Iterator[str]:
    for word in experiment.changed:
        if word.startswith(PARENT):
            yield word.removeprefix(PARENT)


def _add_state(facts: Facts, row: Row) -> bool:
    """Say how an experiment stands that is not saved; return whether it stays so."""
    facts.state = word_of(row.state)
    settled = {RunState.DONE, RunState.FAILED, RunState.CANCELLED, RunState.NEW}
    cells = [cell for cell in (*row.cells.values(), row.saving) if cell]
    return row.state in {RunState.FAILED, RunState.CANCELLED} and all(
        cell.now.state in settled
        and not cell.now.untried
        and not cell.now.another_follows
        for cell in cells
    )


def _watched(experiment: Experiment) -> Iterator[str]:
    """Yield the files and folders in which something appears or goes when a run is begun, ends, or is judged anew."""
    for run in (*experiment.runs.values(), experiment.saving):
        attempts = run.directory / layout.ATTEMPTS
        yield from map(str, (run.directory, run.directory / layout.RESULT, attempts))
        if last := run.last_attempt():
            yield f"{last.directory}/."  # on another disk it is a link
