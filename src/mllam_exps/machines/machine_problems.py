"""What is wrong with a machine's settings, told as a user needs it: which key, in which line, and what to write."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from mllam_exps.base.errors import MllamError, UsageError, nearest
from mllam_exps.machines.model import (
    Environment,
    Mail,
    Notify,
    Paths,
    Resources,
    Settings,
)

GONE = {
    "submit_for_others": "delete the line; who wants to go on with a colleague's experiment submits the same:"
    " what is done is shared",
}
"""Keys of before, and what to do instead."""


def check(
    data: dict[str, Any], origins: Mapping[str, str], shown: str, known: Collection[str]
) -> tuple[Settings | None, list[MllamError]]:
    """Check the whole of a machine; return its settings, if they have the right form, and every problem.

    Parameters
    ----------
    data : dict
        What the file and the options say.
    origins : mapping
        Where each value comes from, by its dotted key.
    shown : str
        The file's name in messages.
    known : collection of str
        Names of stages that resources may be given for, and ``default``.
    """
    problems: list[MllamError] = []
    problems += _misspelt_stages(data.get("resources"), origins, shown, known)
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        for fault in error.errors():
            problems.append(_in_our_words(dict(fault), origins, shown))
        return None, problems
    for stage, resources in settings.resources.items():
        try:
            resources.over(settings.resources.get("default", Resources()))
        except ValidationError as error:
            where = _place(f"resources.{stage}", origins, shown)
            for fault in error.errors():
                problems.append(UsageError(_reason(dict(fault)), where=where))
    return settings, problems


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'X'?`` for the nearest right word, or nothing where none is near."""
    near = nearest(word, sorted(known))
    return f"; did you mean {near!r}?" if near else ""


def _misspelt_stages(
    resources: Any, origins: Mapping[str, str], shown: str, known: Collection[str]
) -> list[UsageError]:
    """Refuse names that are nearly those of a stage; others are welcome: the file may serve several repositories."""
    problems: list[UsageError] = []
    if not isinstance(resources, dict):
        return problems
    for stage in resources:
        near = nearest(stage, sorted(known))
        if near and stage not in known:
            where = _place(f"resources.{stage}", origins, shown)
            why = f"did you mean {near!r}?"
            problems.append(UsageError("is no stage of dvc.yaml", where, why))
    return problems


def _in_our_words(
    fault: dict[str, Any], origins: Mapping[str, str], shown: str
) -> UsageError:
    """Turn an error of pydantic into one of ours."""
    path = [str(part) for part in fault["loc"] if part != "[key]"]
    where = _place(".".join(path), origins, shown)
    if fault["type"] == "extra_forbidden":
        return _unknown_key(path, where)
    if fault["type"] == "literal_error":
        expected, given = fault["ctx"]["expected"], fault["input"]
        near = did_you_mean(str(given), re.findall(r"'([^']+)'", expected))
        return UsageError(f"must be {expected}, not {given!r}{near}", where)
    if fault["type"] == "missing":
        return UsageError(
            "is missing", where, "every machine needs one: local, slurm, …"
        )
    return UsageError(_reason(fault), where)


def _unknown_key(path: list[str], where: str) -> UsageError:
    if way_out := GONE.get(path[-1]):
        return UsageError("is no key any more", where, next=way_out)
    model = _model(path[:-1])
    near = did_you_mean(path[-1], model.model_fields) if model else ""
    return UsageError("is unknown", where, f"no key of that name{near}")


def _reason(fault: dict[str, Any]) -> str:
    if fault["type"] == "value_error":
        return str(fault["ctx"]["error"])
    reason = str(fault["msg"]).replace("Input should be", "must be")
    if isinstance(fault["input"], dict | list):
        return reason
    return f"{reason}, not {fault['input']!r}"


def _place(dotted: str, origins: Mapping[str, str], shown: str) -> str:
    key = dotted
    while key and key not in origins:
        key = key.rpartition(".")[0]
    return f"{origins.get(key, shown)}: {dotted}" if dotted else shown


def _model(path: list[str]) -> type[BaseModel] | None:
    """Return the model whose keys stand at a place."""
    match path:
        case []:
            return Settings
        case ["resources", _]:
            return Resources
        case ["resources", _, "mail"]:
            return Mail
        case ["environment"]:
            return Environment
        case ["paths"]:
            return Paths
        case ["notify"]:
            return Notify
    return None
