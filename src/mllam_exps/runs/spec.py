"""What a driver tells an attempt: ``spec.json`` in the attempt's directory."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mllam_exps.base import beneath, records
from mllam_exps.base.errors import MllamError
from mllam_exps.base.shapes import (
    Shape,
    count,
    dict_of,
    flag,
    list_of,
    maybe,
    number,
    of_shape,
    text,
)
from mllam_exps.identity.definition import RunDefinition
from mllam_exps.identity.run_keys import is_key
from mllam_exps.runs import layout
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.continuation import NO_RULES, RULES, Rules

_SHAPE: Shape = {
    "run": text,
    "number": count,
    "definition": dict_of(lambda _: True),
    "machine": text,
    "origin": text,
    "experiment": text,
    "commit": text,
    "versions": dict_of(lambda _: True),
    "environment": dict_of(text),
    "launch": list_of(text),
    "python": maybe(list_of(text)),
    "image": maybe(text),
    "nodes": count,
    "devices": count,
    "time_limit": maybe(number),
    "warning": maybe(number),
    "stall_timeout": maybe(number),
    "slots": maybe(count),
    "smoke": flag,
    "to_come": dict_of(is_key),
    "news": flag,
    "links": list_of(text),
    "rules": maybe(of_shape(RULES)),
}


@dataclass(frozen=True)
class Spec:
    """All that an attempt has to know, from who submitted it. No credential belongs in it: it is a file.

    Parameters
    ----------
    machine, origin, experiment, commit : str
        Where it was asked for: the machine's name, the user's repository, the DVC
        experiment and its parent commit.
    versions : dict
        Of the programs, by which the run is defined: the attempt is held to them.
    environment : dict
        Variables for the program, beyond those of the machine.
    launch : list of str
        What stands before the program, so that it runs on all nodes and tasks of the
        job.
    python : list of str
        What starts the Python of the programs, in a container of the machine's; empty
        where there is none.
    image : str
        The image of that container.
    nodes, devices : int
        Nodes, and processes on each.
    time_limit : float, optional
        Seconds, where the scheduler does not keep them itself.
    warning : float, optional
        Seconds before its time limit at which its program is told to save and end.
    stall_timeout : float, optional
        Seconds without progress after which its program is stopped.
    slots : int, optional
        How many attempts may run at once on a host, where the scheduler does not count
        them itself.
    smoke : bool
        Whether one batch and one epoch are enough.
    to_come : dict of str
        Inputs that were yet to be made when it was submitted, by path: the keys of the
        runs that make them.
    news : bool
        Whether the machine file named somebody to tell of the experiment's end.
    links : list of str
        DVC's ``cache.type``: how what is yet to come is laid out.
    rules : Rules
        What the machine file says of attempts that may follow this one.
    definition : mapping
        What defines the run, as the submitter's own repository says; empty for the
        saving of an experiment.
    """

    machine: str
    origin: str
    experiment: str
    commit: str
    versions: dict[str, Any]
    environment: dict[str, str]
    launch: list[str] = field(default_factory=list)
    python: list[str] = field(default_factory=list)
    image: str = ""
    nodes: int = 1
    devices: int = 1
    time_limit: float | None = None
    warning: float | None = None
    stall_timeout: float | None = None
    slots: int | None = None
    smoke: bool = False
    to_come: dict[str, str] = field(default_factory=dict)
    news: bool = False
    links: list[str] = field(default_factory=list)
    rules: Rules = NO_RULES
    definition: Mapping[str, Any] = field(default_factory=dict)

    def write(self, attempt: Attempt) -> None:
        """Write it down for an attempt."""
        whose = {
            "run": attempt.run.key,
            "number": attempt.number,
            "rules": self.rules.to_record(),
        }
        records.replace(
            attempt.directory / layout.SPEC, asdict(self) | whose, flush=False
        )

    def of_run(self, key: str) -> RunDefinition:
        """Return what defines the run.

        Raises
        ------
        MllamError
            If it defines another one.
        """
        return RunDefinition.from_record(self.definition, key)

    @classmethod
    def read(cls, attempt: Attempt) -> Spec:
        """Return what an attempt was told.

        Raises
        ------
        MllamError
            Where that cannot be read, is another attempt's, or may have been written by
            somebody else.
        """
        attempt.check_ours()
        with beneath.held(attempt.directory) as held:
            # Who owns a folder above may have put another one there since.
            attempt.check_ours(held)
            found = records.look(held / layout.SPEC, shape=_SHAPE)
        place, way_out = (
            str(attempt.directory / layout.SPEC),
            "mllam-exps retry, submit or dvc exp run starts another attempt",
        )
        if not isinstance(found, dict):
            raise MllamError(
                "this attempt cannot be started",
                place,
                found.why if found else "it is gone",
                way_out,
            )
        if (found["run"], found["number"]) != (attempt.run.key, attempt.number):
            raise MllamError(
                "this attempt cannot be started",
                place,
                "it is another attempt's",
                way_out,
            )
        known = {
            name: found[name] for name in cls.__dataclass_fields__ if name in found
        }
        return cls(**known | {"rules": Rules.from_record(found.get("rules") or {})})


def to_come(attempt: Attempt) -> Collection[str]:
    """Return the keys of the runs that were yet to be made when an attempt was submitted.

    For readers: what is executed is read by `Spec.read`, which believes nobody else's
    word.
    """
    shape: Shape = {"to_come": dict_of(is_key)}
    record = records.read(attempt.directory / layout.SPEC, shape=shape)
    return list(record["to_come"].values()) if record else []


def rules_of(attempt: Attempt) -> Rules:
    """Return the rules of an attempt; an earlier version wrote none down, and nothing followed by itself."""
    shape = {"rules": maybe(of_shape(RULES))}
    record = records.read(attempt.directory / layout.SPEC, shape=shape) or {}
    return Rules.from_record(record.get("rules") or {})
