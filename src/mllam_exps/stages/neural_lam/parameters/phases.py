"""The phases of a training, as ``data/training_params.yaml`` has them: a list of what differs in each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mllam_exps.base.errors import MllamError, UsageError, did_you_mean
from mllam_exps.stages.neural_lam.file_names import TRAINING
from mllam_exps.stages.neural_lam.parameters import keys


def of(training: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what differs in each phase; nothing of a training without phases."""
    given = training.get(keys.PHASES)
    several = given if isinstance(given, list) else []
    return [one for one in several if isinstance(one, Mapping)]


def in_phase(training: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return the parameters of one phase, counted from 1: the file's own, overlaid by what differs."""
    common = {name: value for name, value in training.items() if name != keys.PHASES}
    several = of(training)
    return common | dict(several[number - 1]) if several else common


def last(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of the last phase: what is evaluated was trained with these."""
    return in_phase(training, len(of(training)))


def compare(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether the validation losses of two trainings can be compared, and so their best checkpoints."""
    return all(one.get(key) == other.get(key) for key in keys.COMPARED)


def lacks_best(trainings: Sequence[Mapping[str, Any]], epochs: int, every: int) -> bool:
    """Tell whether no validation is left whose checkpoint is the best one, behind the last of these phases.

    Parameters
    ----------
    epochs, every : int
        neural-lam's own ``epochs`` and ``val_interval``.
    """
    count, has_best = 0, False
    for number, own in enumerate(trainings):
        if own.get(keys.OPTIMIZER) == "reset":
            count, has_best = 0, False
        elif number and not compare(trainings[number - 1], own):
            has_best = False
        before, interval = count, own.get("val_interval") or every
        count += own.get("epochs") or epochs
        has_best = has_best or count // interval > before // interval
    return not has_best


def problems(training: Mapping[str, Any]) -> Iterator[MllamError]:
    """Yield what is wrong with the list itself; the values in it are checked as all others."""
    given = training.get(keys.PHASES)
    if given is None:
        return
    if not isinstance(given, list) or not given or len(of(training)) < len(given):
        what = "must be a list of what differs in each phase, such as [{epochs: 20}, {epochs: 5, lr: 0.0001}]"
        yield UsageError(what, f"{TRAINING}: {keys.PHASES}")
        return
    if keys.OPTIMIZER in training:
        what = "stands in the phases that it is meant for"
        yield UsageError(what, f"{TRAINING}: {keys.OPTIMIZER}")
    for index, phase in enumerate(of(training)):
        for key in phase:
            where = f"{TRAINING}: {keys.PHASES}.{index}.{key}"
            if key == keys.OPTIMIZER:
                if phase[key] not in keys.OPTIMIZER_VALUES:
                    values = " or ".join(keys.OPTIMIZER_VALUES)
                    yield UsageError(f"must be {values}, not {phase[key]!r}", where)
                elif index == 0:
                    what = "means nothing in the first phase, which has no optimizer to go on with"
                    yield UsageError(what, where)
            elif key not in keys.IN_PHASES:
                near = did_you_mean(key, sorted(keys.IN_PHASES))
                what = near and f"unknown key{near}"
                what = what or "does not differ between phases: they train one network"
                yield UsageError(what, where)
