"""A training that goes on from another one: what that must share with it, and what is taken of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllam_exps.base import yaml_files
from mllam_exps.base.errors import CheckFailed, MllamError, UsageError
from mllam_exps.stages.going_on import Differs, Earlier, GoingOn, Taken, Wish
from mllam_exps.stages.neural_lam import checkpoints
from mllam_exps.stages.neural_lam.file_names import (
    DATASTORE,
    EVALUATION,
    FILES,
    LOSSES,
    MODELS,
    PARAMS,
    TRAIN_METRICS,
    TRAINING,
)
from mllam_exps.stages.neural_lam.parameters import keys, params, phases
from mllam_exps.stages.neural_lam.parameters.datastore_file import inputs_of, section
from mllam_exps.stages.neural_lam.parameters.keys import RESUME_FROM
from mllam_exps.stages.preflight import Ask

if TYPE_CHECKING:
    from mllam_exps.stages.neural_lam.parameters.arguments import Arguments

ASK = "mllam_exps.stages.neural_lam.programs.tell_checkpoint"
"""The program that tells what a checkpoint says of itself."""


class TrainingGoesOn(GoingOn):
    """Neural-LAM's training, which goes on from the checkpoint of another one."""

    source_key = f"{PARAMS}:{RESUME_FROM}"
    weights_only_key = f"{PARAMS}:{keys.COLD_START}"
    longest_key, longest_value = f"{PARAMS}:{keys.RESUME}", keys.AUTO
    length_key = f"{TRAINING}:epochs"
    reads = (*FILES, TRAIN_METRICS)

    def wish(self, root: Path) -> Wish:
        """Return what ``params.yaml`` says."""
        values = yaml_files.read(root / PARAMS, PARAMS)
        source = values.get(RESUME_FROM)
        if source is not None and not isinstance(source, str):
            # YAML reads 007 as 7.
            what = f"names no experiment, but {source!r}"
            raise UsageError(what, self.where, next="put the name in quotes")
        return Wish(
            source or "",
            longest=values.get(keys.RESUME) == keys.AUTO,
            weights_only=values.get(keys.COLD_START) is True,
        )

    def refuse(
        self, wish: Wish, earlier: Earlier, root: Path, python: Path
    ) -> list[MllamError]:
        """Return each parameter by which the other network is another one, and an end that was reached already."""
        from mllam_exps.stages.neural_lam.parameters import arguments

        known = arguments.known(python)
        own, other = _first_phase(root), params.load(earlier.root)
        found = [
            *_networks(own.training, other.training, known, earlier.name),
            *_graphs(wish, own.files[PARAMS], other.files[PARAMS], earlier.name),
            *_variables(own.files[DATASTORE], other.files[DATASTORE], earlier.name),
        ]
        if not (wish.weights_only or _in_phases(root)):
            reached = _reached(earlier)
            found += _lengths(own.training, known, reached, earlier.name)
            if not found and reached:
                found += _without_best(own, other, known, reached)
        return found

    def refuse_file(
        self, wish: Wish, checkpoint: Path, root: Path, ask: Ask, python: Path
    ) -> list[MllamError]:
        """Return what of the network differs from what the checkpoint says of its own; it does not name variables."""
        from mllam_exps.stages.neural_lam.parameters import arguments

        told = ask(ASK, str(checkpoint))
        if isinstance(told, str):
            return [UsageError(told, str(checkpoint))]
        if "problem" in told:
            return [UsageError(told["problem"], str(checkpoint))]
        known = arguments.known(python)
        own, name = _first_phase(root).training, checkpoint.name
        found: list[MllamError] = []
        if told["arguments"]:
            found += _networks(own, told["arguments"], known, name)
        if not (wish.weights_only or _in_phases(root)):
            found += _lengths(own, known, told["epochs"], name)
        return found

    def takes(self, wish: Wish, earlier: Earlier | None, root: Path) -> tuple[str, ...]:
        """Return the last checkpoint; to go on with the epochs, the losses, too, and the best one if it compares."""
        last = f"{MODELS}/{checkpoints.LAST}"
        if wish.weights_only:
            return (last,)
        if earlier is not None:
            own, other = _first_phase(root), params.load(earlier.root)
            if not phases.compare(own.training, other.training):
                return (last, LOSSES)
        return (last, LOSSES, f"{MODELS}/{checkpoints.BEST}")

    def length(self, params: Mapping[str, Mapping[str, Any]]) -> int | None:
        """Return the epochs; of phases each goes on from the one before, and from nothing else."""
        training = params.get(TRAINING, {})
        epochs = training.get("epochs")
        in_phases = keys.PHASES in training
        return epochs if isinstance(epochs, int) and not in_phases else None

    def but_for_length(
        self, params: Mapping[str, Mapping[str, Any]]
    ) -> Mapping[str, Mapping[str, Any]]:
        """Return all but the epochs."""
        training = {
            name: value
            for name, value in params.get(TRAINING, {}).items()
            if name != "epochs"
        }
        return {**params, TRAINING: training}

    def begin(self, parent: Path, scratch: Path, taken: Taken) -> Path | None:
        """Copy the checkpoint, and the best one where it is there; weights alone are read where they lie.

        Raises
        ------
        CheckFailed
            If there is no checkpoint, or it or the best one was cut off or is damaged.
        """
        last = parent / MODELS / checkpoints.LAST
        best = parent / MODELS / checkpoints.BEST
        takes_best = taken.best and not taken.weights_only and best.is_file()
        for path in (last, best) if takes_best else (last,):
            if not checkpoints.intact(path):
                what = (
                    "the checkpoint to go on from is cut off, damaged, or no checkpoint"
                )
                raise CheckFailed(what, where=str(path), next="mllam-exps verify")
        if taken.weights_only:
            return None
        folder = scratch / checkpoints.CARRIED
        folder.mkdir(parents=True, exist_ok=True)
        for path in (best, last) if takes_best else (last,):
            shutil.copyfile(path, folder / path.name)
        return folder / checkpoints.LAST


def _first_phase(root: Path) -> params.Parameters:
    """Return the parameters of what goes on from another training: where there are phases, of the first."""
    return params.load(root).of_phases()[0]


def _in_phases(root: Path) -> bool:
    """Tell whether the training has phases, whose epochs are their own."""
    return bool(phases.of(params.load(root).files[TRAINING]))


def _without_best(
    own: params.Parameters, other: params.Parameters, known: Arguments, reached: int
) -> Iterator[MllamError]:
    """Yield what is wrong where nothing is validated any more, and the other's best checkpoint does not count."""
    epochs = own.training.get("epochs") or known.train["epochs"].default
    every = own.training.get("val_interval") or known.train["val_interval"].default
    compare = phases.compare(own.training, other.training)
    if (
        compare
        or own.checkpoint != "min_val_loss"
        or epochs // every > reached // every
    ):
        return
    what = f"no epoch from {reached + 1} to {epochs} is validated"
    why = f"{EVALUATION} asks for min_val_loss, and with another loss or ar_steps_eval earlier ones do not count"
    way_out = f"lower it, or set checkpoint: last in {EVALUATION}"
    yield UsageError(what, f"{TRAINING}: val_interval", why, way_out)


def _networks(
    own: Mapping[str, Any], other: Mapping[str, Any], known: Arguments, name: str
) -> Iterator[MllamError]:
    """Yield each parameter of the network that differs."""
    for key, argument in known.train.items():
        if key in keys.SAYS_NOTHING_OF_THE_NETWORK:
            continue
        here, there = own.get(key), other.get(key)
        here = argument.default if here is None else here
        there = argument.default if there is None else there
        if str(here) != str(there):
            yield Differs(f"{TRAINING}:{key}", here, there, name)


def _graphs(
    wish: Wish, own: Mapping[str, Any], other: Mapping[str, Any], name: str
) -> Iterator[MllamError]:
    """Yield what makes the graphs differ; weights alone fit any mesh of the same kind."""
    here, there = section(own, "graph"), section(other, "graph")
    is_hierarchical = here.get("archetype") == "hierarchical"
    for key in sorted({*here, *there} - {"name"}):
        of_weights = key == "archetype" or (is_hierarchical and "level" in key)
        if wish.weights_only and not of_weights:
            continue
        if here.get(key) != there.get(key):
            yield Differs(f"{PARAMS}:graph.{key}", here.get(key), there.get(key), name)


def _variables(
    own: Mapping[str, Any], other: Mapping[str, Any], name: str
) -> Iterator[MllamError]:
    """Yield the first variable of each kind (state, forcing, static) that is another one, or stands elsewhere."""
    here, there = _features(own), _features(other)
    for kind in sorted({*here, *there}):
        ours, theirs = here.get(kind, []), there.get(kind, [])
        if ours == theirs:
            continue
        length = max(len(ours), len(theirs))
        padded = zip(
            [*ours, *["none"] * (length - len(ours))],
            [*theirs, *["none"] * (length - len(theirs))],
            strict=True,
        )
        for number, (one, another) in enumerate(padded, start=1):
            if one != another:
                where = f"{DATASTORE}: {kind} variable {number}"
                yield UsageError(
                    f"{one} here, {another} in {name}",
                    where,
                    "its checkpoint is of another network",
                    "take its variables, or go on from another experiment",
                )
                break


def _features(datastore: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the variables by kind, in the order in which neural-lam has them, each with its level."""
    found: dict[str, list[str]] = {}
    for _, source in inputs_of(datastore):
        kind = str(source.get("target_output_variable"))
        chosen = source.get("variables") or {}
        for variable in [*chosen, *section(source, "derived_variables")]:
            levels = [""]
            for dimension, choice in section(chosen, variable).items():
                values = choice.get("values") if isinstance(choice, Mapping) else choice
                several = values if isinstance(values, list) else [values]
                levels = [
                    f"{before} {dimension} {value}"
                    for before in levels
                    for value in several
                ]
            found.setdefault(kind, []).extend(f"{variable}{each}" for each in levels)
    return found


def _reached(earlier: Earlier) -> int | None:
    """Return how many epochs a training has come, as its metrics say."""
    try:
        epochs = json.loads((earlier.root / TRAIN_METRICS).read_text())["epochs"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return epochs if isinstance(epochs, int) else None


def _lengths(
    own: Mapping[str, Any], known: Arguments, reached: int | None, name: str
) -> Iterator[MllamError]:
    epochs = own.get("epochs") or known.train["epochs"].default
    if reached is not None and epochs <= reached:
        yield UsageError(
            f"{name} has reached {reached} epochs, and {epochs} are asked for",
            f"{TRAINING}: epochs",
            "epochs are counted from the first training's beginning on",
            f"mllam-exps resume {name} --epochs {2 * reached}, or with --cold-start, which takes the weights alone",
        )


GOES_ON = TrainingGoesOn()
