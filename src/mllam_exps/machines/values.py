"""Checks of single values in machine files: what is refused, and with which reason."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mllam_exps.base.errors import nearest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

FOLDER = "machines"
"""Where machine files lie, in an experiment's repository."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SHELL = re.compile(r"[`$;<>\\\"']")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TIME = re.compile(
    r"(?:(?P<days>\d+)-)?(?P<hours>\d+):(?P<minutes>[0-5]\d):(?P<seconds>[0-5]\d)"
)
_URL_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]+@")

_SECRET_WORDS = {
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "SECRET",
    "TOKEN",
    "CREDENTIAL",
    "CREDENTIALS",
    "APIKEY",
}
_NO_SECRETS = (
    "secrets don't belong in a file that git keeps and Slurm writes into its spool; use MLflow's credentials "
    "file (~/.mlflow/credentials), or `source` a script of your own with mode 0600"
)
_OWN_PREFIXES = ("MLLAM_", "SLURM_", "SBATCH_", "SRUN_", "DVC_")

# Fields of `Resources` that are one option of sbatch each: arguments and refusals both
# come from here.
OPTIONS = {
    "partition": "partition",
    "account": "account",
    "qos": "qos",
    "time": "time",
    "cpus": "cpus-per-task",
    "memory": "mem",
    "gpus": "gpus-per-node",
    "gres": "gres",
    "exclusive": "exclusive",
}
_TASKS = "the tasks come from the parameters of the stage, Neural-LAM's from `num_nodes` and `devices`"
_LOGS = "every attempt has its own log; set `paths.logs` for the folder where you look first"
_RECORD = (
    "mllam-exps reads the job's id from sbatch, and follows the job by its own record"
)
_AGAIN = "mllam-exps starts the next attempt itself, from the newest checkpoint"
_BY_KEY = {option: f"use the key `{key}`" for key, option in OPTIONS.items()}
# Shared by sbatch and srun: what decides how many tasks run, and where their output
# goes.
_OWNED = {
    **dict.fromkeys(
        ("nodes", "ntasks", "ntasks-per-node", "ntasks-per-core", "ntasks-per-gpu"),
        _TASKS,
    ),
    **dict.fromkeys(("ntasks-per-socket", "tasks-per-node"), _TASKS),
    **dict.fromkeys(("output", "error", "open-mode"), _LOGS),
    "job-name": "the name finds the job again when sbatch fails half-way; it holds the stage and the run",
    "chdir": "the program works in the attempt's own directory; set `working_directory` to move them all",
    "export": "set `environment.variables`; the rest of the caller's environment is cleaned and handed on",
    **dict.fromkeys(("help", "usage", "version", "test-only"), "no job would run"),
    **dict.fromkeys(("uid", "gid"), "jobs run as the user who asks for them"),
    **dict.fromkeys(("cpus-per-task", "time", "gres"), ""),
}
_SBATCH_OWNED = {
    **_OWNED,
    **_BY_KEY,
    "wrap": "mllam-exps writes the batch script",
    "array": "a sweep is a chain of jobs for each experiment: use `mllam-exps submit -S KEY=1,2,4`",
    "dependency": "the order of the stages comes from dvc.yaml",
    "kill-on-invalid-dep": "mllam-exps sets it: where an input was not made, Slurm takes the waiting job back at once",
    "signal": "`warning` says how early before its time limit a training saves and ends; the next attempt goes on",
    "requeue": _AGAIN,
    "no-requeue": _AGAIN,
    "export-file": "set `environment.variables`",
    "get-user-env": "set `environment`: modules, source, venv, variables",
    **dict.fromkeys(("parsable", "quiet", "verbose", "wait"), _RECORD),
    **dict.fromkeys(
        ("clusters", "cluster"), "jobs are asked after on this cluster only"
    ),
    **dict.fromkeys(("mail-user", "mail-type"), "use the key `mail`"),
    "gpus": "use the key `gpus`, which counts for each node",
}
_SRUN_OWNED = {
    **_OWNED,
    "cpus-per-task": "use the key `cpus`",
    "time": "use the key `time`",
    "gres": "use the key `gres`",
    **dict.fromkeys(
        ("jobid", "multi-prog", "pty", "no-allocate"),
        "srun starts the stage's program in this job",
    ),
}


SCHEDULERS = ("local", "slurm")
"""The schedulers of ours, as machine files name them; the modules of these names in `mllam_exps.schedulers`."""
SCHEDULER_GROUP = "mllam_exps.schedulers"
"""The entry-point group of those that other packages add."""


@functools.cache
def added_schedulers() -> dict[str, EntryPoint]:
    """Return the schedulers of other packages; looking for them reads the metadata of all that is installed."""
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=SCHEDULER_GROUP)}


def scheduler(text: str) -> str:
    """Refuse a scheduler that nobody has."""
    if text in SCHEDULERS or text in added_schedulers():
        return text
    names = [*SCHEDULERS, *sorted(added_schedulers())]
    listed = f"{', '.join(map(repr, names[:-1]))} or {names[-1]!r}"
    near = nearest(text, names)
    meant = f"; did you mean {near!r}?" if near else ""
    raise ValueError(f"must be {listed}, not {text!r}{meant}")


def plain(text: str) -> str:
    """Refuse what has no place in an option's value, a module's name or a path."""
    if not text.strip():
        raise ValueError("is empty; leave the key out, or write null")
    if _CONTROL.search(text):
        raise ValueError("holds a line break or another control character")
    if bad := _SHELL.search(text):
        raise ValueError(
            f"holds {bad[0]!r}: values are taken as they stand, no shell expands them"
        )
    return text


def word(text: str) -> str:
    """Refuse spaces too."""
    if re.search(r"\s", plain(text)):
        raise ValueError("holds a space")
    return text


def module(text: str) -> str:
    """Check the name of a module."""
    if word(text).startswith("-"):
        raise ValueError("is an option, not a module")
    return text


def absolute(value: object) -> object:
    """Expand ``~``; refuse relative paths."""
    if isinstance(value, str):
        value = Path(os.path.expanduser(plain(value)))  # noqa: PTH111 - an unknown ~user stays as it is
    if isinstance(value, Path) and not value.is_absolute():
        raise ValueError(
            "is relative: DVC also runs experiments in folders of its own, where it means another place; "
            "write an absolute path, or one from ~/"
        )
    return value


def seconds(time: str | int) -> int:
    """Return a time limit in seconds.

    Parameters
    ----------
    time : str or int
        ``D-HH:MM:SS``, ``H:MM:SS``, or minutes.

    Raises
    ------
    ValueError
        With what is wrong, and the ways to write it.
    """
    text = str(time).strip()
    total = _parsed_seconds(text)
    if total is None:
        hint = ""
        if re.fullmatch(r"\d+:\d+", text):
            hint = " (Slurm would read it as minutes:seconds)"
        raise ValueError(
            f"{text!r} is no time limit{hint}; write D-HH:MM:SS, H:MM:SS, or minutes"
        )
    if total <= 0:
        raise ValueError(
            "must be more than zero; leave the key out for the partition's own limit"
        )
    return total


def _parsed_seconds(text: str) -> int | None:
    if re.fullmatch(r"\d+", text):
        return int(text) * 60
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    days, hours = int(match["days"] or 0), int(match["hours"])
    if match["days"] and hours > 23:
        raise ValueError(f"{text!r} has more than 23 hours beside its days")
    minutes = (days * 24 + hours) * 60 + int(match["minutes"])
    return minutes * 60 + int(match["seconds"])


def time_limit(value: object) -> object:
    """Check a time limit; minutes may be a number."""
    if isinstance(value, str | int) and not isinstance(value, bool):
        seconds(value)
        return str(value).strip()
    return value


def memory(text: str) -> str:
    """Check an amount of memory as sbatch reads it."""
    if not re.fullmatch(r"\d+[KMGT]?", text):
        raise ValueError(
            f"{text!r} is no amount of memory; write e.g. 64G, or 0 for all that the node has"
        )
    return text


def megabytes(text: str) -> int:
    """Return a checked amount of memory in megabytes; 0 is all that the node has."""
    number = text.rstrip("KMGT")
    unit = text.removeprefix(number) or "M"
    return int(int(number) * 1024 ** ("KMGT".index(unit) - 1))


def gpus(text: str) -> str:
    """Check a number of GPUs, with or without their type."""
    if not re.fullmatch(r"(?:[A-Za-z0-9_.-]+:)?[1-9]\d*", text):
        raise ValueError(f"{text!r} is no number of GPUs; write e.g. 8, or a100:8")
    return text


def stage(text: str) -> str:
    """Check the name of a stage."""
    if not re.fullmatch(r"[A-Za-z_][\w-]*", text):
        raise ValueError("is no name of a stage")
    return text


def _option(text: str, owned: Mapping[str, str]) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9-]*", text):
        raise ValueError(
            "is no long option; write it without dashes in front, e.g. `constraint`"
        )
    if text in owned:
        raise ValueError(f"is not for the file to set: {owned[text]}")
    # sbatch and srun take any beginning of an option for the option itself: --wra is
    # --wrap.
    for name in sorted(owned):
        if name.startswith(text):
            raise ValueError(
                f"would be read as `{name}`, which is not for the file to set: {owned[name]}"
            )
    return text


def sbatch_option(text: str) -> str:
    """Refuse the options of sbatch that mllam-exps owns."""
    return _option(text, _SBATCH_OWNED)


def srun_option(text: str) -> str:
    """Refuse the options of srun that mllam-exps owns."""
    return _option(text, _SRUN_OWNED)


def option_value(value: object) -> object:
    """Check the value of an option."""
    if value is not None and not isinstance(value, str | int):
        raise ValueError(
            "must be text, a number, true (the bare option) or false (not given)"
        )
    return plain(value) if isinstance(value, str) else value


def variable_name(text: str) -> str:
    """Check an environment variable's name: no secrets, nothing that is made elsewhere."""
    if not _NAME.fullmatch(text):
        raise ValueError("is no name of an environment variable")
    if _names_a_secret(text):
        raise ValueError(f"looks like a secret: {_NO_SECRETS}")
    if text in {"PATH", "VIRTUAL_ENV"}:
        raise ValueError("is made from modules, source and venv: use those")
    if text.startswith(_OWN_PREFIXES):
        owner = text.partition("_")[0]
        raise ValueError(
            f"is not for the file to set: {owner}_… belongs to the program of that name"
        )
    return text


def _names_a_secret(name: str) -> bool:
    words = name.upper().split("_")
    # A name that ends so says where a secret lies, which is how it should be.
    if words[-1] in {"FILE", "PATH", "DIR"}:
        return False
    return words[-1] == "KEY" or not _SECRET_WORDS.isdisjoint(words)


def variable_value(value: object) -> object:
    """Check an environment variable's value, and return it as text."""
    if isinstance(value, bool):
        raise ValueError(  # noqa: TRY004 - pydantic understands ValueError only
            f'is a truth value: put it in quotes, as the program wants it, e.g. "{str(value).lower()}"'
        )
    if not isinstance(value, str | int | float):
        raise ValueError("must be text or a number")  # noqa: TRY004
    if _CONTROL.search(str(value)):
        raise ValueError("holds a line break or another control character")
    if bad := re.search(r"[`$]", str(value)):
        raise ValueError(
            f"holds {bad[0]!r}, which nothing would expand here; set it in a script named by `source`"
        )
    if _URL_PASSWORD.search(str(value)):
        raise ValueError(f"holds a password: {_NO_SECRETS}")
    return str(value)


IMAGE, DIRECTORY = "{image}", "{directory}"
"""What the words of a machine file have for the image, and for the folder in which a command starts."""
IMAGE_NAME = re.compile(r".*@(sha256:[0-9a-f]{64})")
"""A name of a registry's that can mean one image only."""


def image(text: str) -> str:
    """Check the image of a container: a file, or a name that can mean one image only."""
    if IMAGE_NAME.fullmatch(text):
        return text
    if "@" in text or ("://" in text) or (":" in text and "/" not in text):
        raise ValueError(
            f"{text!r} may mean another image tomorrow: write NAME@sha256:…, or a file that was made of it"
        )
    return str(absolute(text))


def container_start(words: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse words that start a container without saying which."""
    if not any(IMAGE in word for word in words):
        raise ValueError(
            f'does not say where the image stands: e.g. [apptainer, exec, "{IMAGE}"]'
        )
    return words


def one_or_more(value: object) -> object:
    """Take one text for a list of one."""
    return (value,) if isinstance(value, str) else empty_list(value)


def empty_mapping(value: object) -> object:
    """Take a key with nothing behind it, as in a template with comments only, for an empty mapping."""
    return {} if value is None else value


def empty_list(value: object) -> object:
    """Take a key with nothing behind it for an empty list."""
    return () if value is None else value
