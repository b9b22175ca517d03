"""Checkpoints: found, carried from one attempt to the next, and proved, never running code that they contain.

neural-lam 0.7.0 with Lightning 2.6.6 leaves three kinds in an attempt's scratch:
``<run>/checkpoints/last.ckpt`` at each epoch's end,
``<run>/checkpoints/min_val_loss.ckpt`` at each best validation, and
``<run>/hpc_ckpt_<n>.ckpt`` when a SIGUSR1 reaches it (`scancel --signal=USR1`; we ask
Slurm for none).
"""

from __future__ import annotations

import itertools
import math
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import CheckFailed, NotFinite

LAST = "last.ckpt"
BEST = "min_val_loss.ckpt"
ON_SIGNAL = "hpc_ckpt_*.ckpt"
WITHIN_EPOCH = "within-epoch.ckpt"
"""What our callback saves when the time limit is near."""
LOSSES = "epochs.csv"
"""The losses by epoch so far, which the next attempt goes on writing."""
COLUMNS = ("epoch", "train", "validation")
"""Their columns."""
IN_SCRATCH = (LOSSES,)
"""What our Lightning callbacks keep in the scratch folder itself and look for there when training goes on."""
CARRIED = "carried"
"""The folder in an attempt's scratch for what an earlier attempt left."""
MONITOR = "val_mean_loss"
NOT_FINITE = (
    "lower lr in data/training_params.yaml, or look for missing values in data/datastore.zarr; then dvc exp run or "
    "mllam-exps submit (as it is, it would go on from its last checkpoint and end the same way)"
)
"""The way out where a loss or a weight is NaN or infinite."""
DAMAGED = "the checkpoint is damaged: a part of it is not what was written"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint says of itself.

    Parameters
    ----------
    epochs : int
        Epochs that were trained when it was saved (Lightning counts from 0 and saves
        within the epoch).
    step : int
        Optimiser steps so far.
    best_loss : float or None
        The lowest validation loss so far, None before the first validation.
    """

    path: Path
    epochs: int
    step: int
    best_loss: float | None


def whole(path: Path) -> bool:
    """Tell whether a checkpoint was written to its end: it is a zip, whose directory comes last."""
    return path.is_file() and zipfile.is_zipfile(path)


def intact(path: Path) -> bool:
    """Tell whether a checkpoint holds what was written: the zip has a checksum of each part, which is looked at.

    torch (2.13 seen) does not look at them: where a file system has lost a block of the
    file, it loads other weights, and says nothing.
    """
    try:
        with zipfile.ZipFile(path) as parts:
            return parts.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def find(scratch: Path) -> list[Path]:
    """Return the whole checkpoints below a folder from which training could go on, newest first."""
    names = (LAST, WITHIN_EPOCH, ON_SIGNAL)
    named = [path for name in names for path in scratch.rglob(name)]
    return sorted(filter(whole, named), key=_age, reverse=True)


def _age(path: Path) -> tuple[int, str]:
    return path.stat().st_mtime_ns, str(path)


def companions(checkpoint: Path) -> Iterator[Path]:
    """Yield what travels with a checkpoint: best and last one so far, and the losses.

    They lie beside it if it was carried before, or else where neural-lam and our
    callbacks keep them.
    """
    folder = checkpoint.parent
    run = folder.parent if folder.name == "checkpoints" else folder
    for name in (LAST, BEST):
        places = (folder / name, folder / "checkpoints" / name)
        yield from _first(path for path in places if path != checkpoint)
    for name in IN_SCRATCH:
        yield from _first((folder / name, run.parent / name))


def _first(paths: Iterable[Path]) -> list[Path]:
    """Return the first of some paths that is a file: one, or none."""
    return list(itertools.islice((path for path in paths if path.is_file()), 1))


def carry(earlier: Path, scratch: Path) -> Path | None:
    """Copy the newest checkpoint of an earlier attempt, and its companions, into a later attempt's scratch.

    Parameters
    ----------
    earlier, scratch : Path
        Scratch folders of the two attempts. The earlier one may still be written to: it
        does not matter.

    Returns
    -------
    Path or None
        The copied checkpoint, its companions beside it; None where there was none.
    """
    directory = scratch / CARRIED
    for checkpoint in find(earlier):
        directory.mkdir(parents=True, exist_ok=True)
        damaged = list(_copied_damaged(checkpoint, directory))
        if not damaged:
            return directory / checkpoint.name
        print(f"{damaged[0]} is damaged: going on from one before it", flush=True)
        # Nobody is to take what is damaged for the companion of another one.
        shutil.rmtree(directory)
    return None


def _copied_damaged(checkpoint: Path, directory: Path) -> Iterator[Path]:
    """Copy a checkpoint and its companions, and yield of it and the best one what is damaged.

    Without its best one training could go on, but the best of the epochs to come would
    be taken for the best of all.
    """
    # The companions last: where the earlier attempt still writes, a best one that is
    # newer does no harm, as its epoch is trained once more and is the same; an older
    # one is not what this checkpoint knows as the best.
    for path in (checkpoint, *companions(checkpoint)):
        # Times are kept: by them the newest is found. Copied, not linked: what one
        # attempt does to its files must not reach another's.
        shutil.copy2(path, directory / path.name)
        if path.name in {checkpoint.name, BEST} and not intact(directory / path.name):
            yield path


def stand_ins(path: Path) -> list[tuple[type, str]]:
    """Return empty classes in place of the plain data that a checkpoint contains, so that torch can read it.

    Importing neural-lam takes ten seconds and 600 MB, and nothing of its settings is
    needed to prove a checkpoint. Names from anywhere else get no stand-in: torch
    refuses them.
    """
    import torch

    found = []
    for name in torch.serialization.get_unsafe_globals_in_checkpoint(path):
        if name == "argparse.Namespace" or name.startswith("neural_lam.config."):
            found.append((type(name.rpartition(".")[2], (), {}), name))
    return found


def load(path: Path) -> dict[str, Any]:
    """Load a checkpoint's content, never running code from it.

    Raises
    ------
    CheckFailed
        If it is missing, cut off, or contains anything but tensors and known plain
        data.
    """
    import pickle

    import torch

    if not path.is_file():
        raise CheckFailed("there is no such checkpoint", where=str(path))
    if not whole(path):
        raise CheckFailed("the checkpoint is cut off or no checkpoint", where=str(path))
    try:
        with torch.serialization.safe_globals(stand_ins(path)):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        why = _what_was_refused(str(error))
        raise CheckFailed(
            "the checkpoint was refused unread", where=str(path), why=why
        ) from error
    except Exception as error:
        raise CheckFailed(
            "the checkpoint does not load", where=str(path), why=_first_line(error)
        ) from error
    if not isinstance(content, dict) or "state_dict" not in content:
        raise CheckFailed("the file holds no model", where=str(path))
    return content


def _what_was_refused(said: str) -> str:
    """Return the line in which torch names what it does not load."""
    for line in said.splitlines():
        if "GLOBAL" in line or "Unsupported" in line:
            return line.strip()
    return "it contains more than weights and settings"


def describe(path: Path, content: Mapping[str, Any] | None = None) -> Checkpoint:
    """Return what a checkpoint says of itself, loading it if its content is not given.

    Raises
    ------
    CheckFailed
        If it does not load, or is no checkpoint of a training.
    """
    content = load(path) if content is None else content
    epoch, step = content.get("epoch"), content.get("global_step")
    if not isinstance(epoch, int) or not isinstance(step, int):
        what = "the checkpoint does not say how far training had come"
        raise CheckFailed(what, where=str(path))
    return Checkpoint(path, epoch + 1, step, best_loss(content))


def best_loss(content: Mapping[str, Any]) -> float | None:
    """Return the lowest validation loss that a checkpoint's callbacks remember, or None."""
    states: Mapping[Any, Any] = content.get("callbacks") or {}
    for state in states.values():
        if isinstance(state, Mapping) and state.get("monitor") == MONITOR:
            score = state.get("best_model_score")
            return None if score is None else float(score)
    return None


def check_weights(path: Path, content: Mapping[str, Any]) -> None:
    """Refuse a checkpoint without weights, or with any weight that is not finite.

    Raises
    ------
    CheckFailed
        Naming the first such weight.
    """
    import torch

    weights = 0
    for name, value in content["state_dict"].items():
        if not isinstance(value, torch.Tensor):
            continue
        weights += 1
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            what = f"the weight {name} is not finite"
            raise NotFinite(what, where=str(path), next=NOT_FINITE)
    if not weights:
        raise CheckFailed("the checkpoint has no weights", where=str(path))


def check(path: Path, *, epochs: int | None = None) -> Checkpoint:
    """Prove one checkpoint: it loads, its weights are finite, it has come as far as asked.

    Parameters
    ----------
    path : Path
        The checkpoint.
    epochs : int, optional
        As many epochs as must have been trained, no fewer and no more.

    Raises
    ------
    CheckFailed
        With the reason in one line.
    """
    content = load(path)
    if not intact(path):
        raise CheckFailed(DAMAGED, where=str(path))
    check_weights(path, content)
    found = describe(path, content)
    if epochs is not None and found.epochs != epochs:
        raise CheckFailed(
            f"trained {found.epochs} epochs, {epochs} were asked for", where=str(path)
        )
    if found.best_loss is not None and not math.isfinite(found.best_loss):
        raise CheckFailed(
            f"the lowest validation loss is {found.best_loss}",
            where=str(path),
            next=NOT_FINITE,
        )
    return found


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
