"""Experiments that `dvc exp run` ran, for the catalogue: the run store knows who asked for which run."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mllam_exps.catalogue.facts import Facts, Note, OfRuns, stamp
from mllam_exps.identity.run_keys import is_key
from mllam_exps.machines.workspace import OUTSIDE
from mllam_exps.runs import askers, layout
from mllam_exps.runs.store import Run, RunStore


@dataclass
class Notes:
    """Who asked for which runs.

    Parameters
    ----------
    remembered : mapping
        By run key: the fingerprint of its notes, and what they said.
    fresh : dict
        Those of them that were read now.
    """

    remembered: Mapping[str, tuple[str, list[Note]]]
    fresh: dict[str, tuple[str, list[Note]]] = field(default_factory=dict)

    def of(
        self, store: RunStore, keys: Iterable[str]
    ) -> dict[tuple[str, str, str], dict[str, float]]:
        """Return the runs, with the time when each was asked for last, by owner, repository and name."""
        found: dict[tuple[str, str, str], dict[str, float]] = {}
        folder = store.directory / layout.RUNS
        for key in _with_notes(folder, keys):
            print_of_it = stamp([folder / key / layout.ASKED])
            before = self.remembered.get(key)
            if before is None or before[0] != print_of_it:
                before = print_of_it, _read(store.run(key))
                self.fresh[key] = before
            for name, origin, owner, at in before[1]:
                found.setdefault((owner, origin, name), {})[key] = at
        return found


def _with_notes(folder: Path, keys: Iterable[str]) -> list[str]:
    """Return the runs that somebody asked for; most were submitted, and nobody else did.

    Seen from their folder, and without an error for each: of twenty thousand that takes
    half of the time.
    """
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        there = [
            key
            for key in keys
            if os.access(f"{key}/{layout.ASKED}", os.F_OK, dir_fd=opened)
        ]
    finally:
        os.close(opened)
    return [key for key in there if is_key(key)]


def _read(run: Run) -> list[Note]:
    definition = run.definition
    if definition is not None and definition.smoke:
        return []
    noted = askers.noted_at(run)
    return [
        (one.name, one.origin, one.owner, one.at)
        for one in noted
        if one.name != OUTSIDE
    ]


def identity(who: tuple[str, str, str]) -> str:
    """Return what tells an experiment that was not submitted from all others."""
    text = "\0".join(who).encode(errors="surrogateescape")
    return f"asked-{hashlib.sha256(text).hexdigest()[:32]}"


def fingerprint(store: RunStore, keys: Mapping[str, float]) -> str:
    """Return what is another text when it asked again, or a run has a result, or another one."""
    folder = f"{store.directory}/{layout.RUNS}"
    results = stamp(f"{folder}/{key}/{layout.RESULT}" for key in keys)
    text = f"{sorted(keys.items())} {results}"
    return hashlib.sha256(text.encode()).hexdigest()


def read(
    store: RunStore, who: tuple[str, str, str], keys: Mapping[str, float], runs: OfRuns
) -> tuple[Facts, dict[str, Run]]:
    """Return what is known of an experiment, but how it stands, and its runs by stage."""
    from mllam_exps.views.saved import Asked, of_one_go

    owner, origin, name = who
    newest: dict[str, Asked] = {}
    for key, at in keys.items():
        run = store.run(key)
        if run.stage not in newest or newest[run.stage].at <= at:
            newest[run.stage] = Asked(run, at)
    kept = of_one_go(newest)
    facts = Facts(name, owner, "", max(keys.values()), origin=origin)
    runs.add(facts, kept, None)
    return facts, kept
