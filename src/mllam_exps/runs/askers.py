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
from mllam_exps.base.records import text
from mllam_exps.runs.runs import Run

FOLDER = "asked"
WORKSPACE = "workspace"


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
    """

    name: str
    origin: str
    at: float


def note(run: Run, name: str, origin: Path) -> None:
    """Write down that an experiment, or the workspace, asks for a run."""
    identity = hashlib.sha256(
        f"{origin}\0{name}".encode(errors="surrogateescape")
    ).hexdigest()[:32]
    # Whoever cannot write this is not shown by `status`; nothing else hangs on it.
    with contextlib.suppress(OSError):
        folder = records.folder(run.directory / FOLDER)
        records.replace(
            folder / f"{identity}.json",
            {"experiment": name, "origin": str(origin)},
            flush=False,
        )


def of(run: Run, submitted: Container[str] = ()) -> Iterator[Asker]:
    """Yield those who asked for a run and were not submitted.

    Parameters
    ----------
    submitted : container of str
        Names of the submitted experiments that have the run: attempts that carry these
        names are theirs.
    """
    noted: set[str] = set()
    for name in records.entries(run.directory / FOLDER):
        path = run.directory / FOLDER / name
        if name.startswith(".") or not name.endswith(".json"):
            continue
        if record := records.read(path, shape={"experiment": text, "origin": text}):
            noted.add(record["experiment"])
            yield Asker(
                record["experiment"], record["origin"], records.changed_at(path)
            )
    # Runs of earlier versions have no notes.
    newest: dict[str, Asker] = {}
    for attempt in run.attempts():
        claim = attempt.claim or {}
        asked = str(claim.get("experiment") or "")
        if (
            asked
            and asked not in noted
            and asked not in submitted
            and not _was_submitted(run, claim.get("workspace"))
        ):
            newest[asked] = Asker(asked, "", attempt.claimed_at)
    yield from newest.values()


def of_last_attempt(run: Run) -> str:
    """Return the name under which a run was tried last."""
    attempt = run.last_attempt()
    return str(
        ((attempt.claim or {}) if attempt else {}).get("experiment") or WORKSPACE
    )


def _was_submitted(run: Run, workspace: object) -> bool:
    """Tell whether an attempt was claimed in the clone of a submitted experiment, which may have been deleted since."""
    return isinstance(workspace, str) and Path(workspace).is_relative_to(
        run.store / "experiments"
    )
