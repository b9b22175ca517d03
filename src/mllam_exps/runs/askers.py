"""Who asked for a run without having been submitted: experiments of `dvc exp run`, and the workspace of `dvc repro`.

A submitted experiment names its runs. One that `dvc exp run` ran is known to DVC alone,
which says nothing of it before it is saved, and attempts name only those that started
them. So a run keeps a note of each that asked for it, whether it was started, attached
to, or known: ``asked/<digest of repository and name>.json``.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

from mllam_exps.base import records
from mllam_exps.base.errors import MllamError
from mllam_exps.base.ownership import owner_of
from mllam_exps.machines.workspace import OUTSIDE
from mllam_exps.runs import layout
from mllam_exps.runs.records import Asked
from mllam_exps.runs.store import Run


@dataclass(frozen=True)
class Asker:
    """An experiment that `dvc exp run` ran, or a workspace.

    Parameters
    ----------
    name : str
        Of the experiment; ``workspace`` for what `dvc repro` ran.
    origin : str
        The DVC repository; empty where only the attempt's own record tells, which names
        none.
    at : float
        When it asked last, by the file system's clock.
    owner : str
        Whose note tells so; empty where there is none.
    """

    name: str
    origin: str
    at: float
    owner: str = ""


def note(run: Run, name: str, origin: Path) -> None:
    """Write down that an experiment, or the workspace, asks for a run."""
    who = f"{origin}\0{name}".encode(errors="surrogateescape")
    identity = hashlib.sha256(who).hexdigest()[:32]
    # Whoever cannot write this is not shown by `status`; nothing else hangs on it.
    with contextlib.suppress(OSError, MllamError):
        run.make()
        path = records.folder(run.directory / layout.ASKED) / f"{identity}.json"
        records.replace(path, Asked(name, str(origin)).to_record(), flush=False)


def of(run: Run, submitted: Container[str] = ()) -> Iterator[Asker]:
    """Yield those who asked for a run and were not submitted.

    Parameters
    ----------
    submitted : container of str
        Names of the submitted experiments that have the run: attempts that carry these
        names are theirs.
    """
    noted = list(noted_at(run))
    yield from noted
    # Runs of earlier versions have no notes.
    known = {asker.name for asker in noted}
    newest: dict[str, Asker] = {}
    for attempt in run.attempts():
        claim = attempt.claim
        if claim is None or _was_submitted(run, claim.workspace):
            continue
        name = claim.experiment
        if name and name not in known and name not in submitted:
            newest[name] = Asker(name, "", attempt.claimed_at)
    yield from newest.values()


def noted_at(run: Run) -> Iterator[Asker]:
    """Yield those of whom there is a note."""
    for name in records.entries(run.directory / layout.ASKED):
        path = run.directory / layout.ASKED / name
        if name.startswith(".") or not name.endswith(".json"):
            continue
        if asked := Asked.read(path):
            at = records.changed_at(path)
            owner = owner_of(path)
            yield Asker(asked.experiment, asked.origin, at, owner)


def of_last_attempt(run: Run) -> str:
    """Return the name under which a run was tried last."""
    attempt = run.last_attempt()
    claim = attempt.claim if attempt else None
    return (claim.experiment if claim else "") or OUTSIDE


def _was_submitted(run: Run, workspace: str | None) -> bool:
    """Tell whether an attempt was claimed in the clone of a submitted experiment, which may have been deleted since."""
    submitted = run.store / layout.EXPERIMENTS
    return workspace is not None and Path(workspace).is_relative_to(submitted)
