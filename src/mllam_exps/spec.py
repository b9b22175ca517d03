"""What a driver tells an attempt: ``spec.json`` in the attempt's directory."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from mllam_exps import records
from mllam_exps.errors import MllamError
from mllam_exps.store import Attempt

FILE = "spec.json"


@dataclass(frozen=True)
class Spec:
    """What an attempt has to know beyond what defines its run. No credential belongs in it: it is a file.

    Parameters
    ----------
    machine, origin, experiment, commit : str
        Where it was asked for: the machine's name, the user's repository, the DVC experiment and its parent commit.
    versions : dict
        Of the programs, by which the run is defined: the attempt is held to them.
    environment : dict
        Variables for the program, beyond those of the machine.
    launch : list of str
        What stands before the program, so that it runs on all nodes and tasks of the job.
    nodes, devices : int
        Nodes, and processes on each.
    time_limit : float, optional
        Seconds, where the scheduler does not keep them itself.
    slots : int, optional
        How many attempts may run at once on a host, where the scheduler does not count them itself.
    smoke : bool
        Whether one batch and one epoch are enough.
    to_come : dict of str
        Inputs that were yet to be made when it was submitted, by path: the keys of the runs that make them.
    news : bool
        Whether the machine file named somebody to tell of the experiment's end.
    ignored : list of str
        Patterns of the repository's ``.dvcignore``.
    links : list of str
        DVC's ``cache.type``: how what is yet to come is laid out.
    """

    machine: str
    origin: str
    experiment: str
    commit: str
    versions: dict[str, Any]
    environment: dict[str, str]
    launch: list[str] = field(default_factory=list)
    nodes: int = 1
    devices: int = 1
    time_limit: float | None = None
    slots: int | None = None
    smoke: bool = False
    to_come: dict[str, str] = field(default_factory=dict)
    news: bool = False
    ignored: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)

    def write(self, attempt: Attempt) -> None:
        """Write it down for an attempt."""
        records.replace(attempt.directory / FILE, asdict(self), flush=False)

    @classmethod
    def read(cls, attempt: Attempt) -> Spec:
        """Return what an attempt was told.

        Raises
        ------
        MllamError
            Where that cannot be read.
        """
        record = records.read(attempt.directory / FILE)
        try:
            return cls(**(record or {}))
        except TypeError as error:
            place = str(attempt.directory / FILE)
            raise MllamError("it is no record of this version's", where=place, next="dvc exp run") from error
