"""``python -m mllam_exps.stages.neural_lam.programs.neural_lam train|evaluate|graph ARGS…``: neural-lam, failing aloud.

The arguments are neural-lam's own. Around its 0.7.0:

- An exception is a non-zero exit: loguru's ``catch`` around ``main`` would log it and exit 0.
- A checkpoint never runs code, also where neural-lam asks torch for it, and those of neural-lam itself load.
- Nothing is downloaded: coastlines are drawn from local shapefiles, or left out with one line of warning.
- Log files get no progress bars; `progress.json` is written by our Lightning callbacks.
- A training that goes on from another attempt's folder keeps its best checkpoint and its losses.
- What it would read again for every sample or map is read once, where it is small.
- The example forecasts that it draws are kept as PNG.

Several processes of one training run this same program (DDP over Slurm, or started by
Lightning).
"""

from __future__ import annotations

import argparse
import functools
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from mllam_exps.stages import tracking
from mllam_exps.stages.neural_lam import checkpoints
from mllam_exps.stages.neural_lam.programs import pictures
from mllam_exps.stages.neural_lam.programs.ranks import is_first_process
from mllam_exps.stages.programs import fence

SMALL = 2**29
"""Bytes up to which the samples of a split are kept in memory."""
TASKS = "--tasks_per_node"
"""The one argument of ours, ``--tasks_per_node=N``: processes on each node, each with its own device."""


def set_environment() -> None:
    """Tell the libraries by their own variables, before their import; workers and ranks inherit them."""
    # torch 2.13: overrides even an explicit weights_only=False, as in neural-lam's
    # load_forecaster_module_from_checkpoint.
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
    os.environ["MPLBACKEND"] = "Agg"
    # matplotlib writes the time of day into a PDF otherwise: the same scores would be
    # another file each time.
    os.environ.setdefault("SOURCE_DATE_EPOCH", "0")
    # Lightning 2.6 takes its Trainer's defaults from PL_TRAINER_*; what neural-lam
    # passes itself goes before.
    if not sys.stdout.isatty():
        os.environ.setdefault("PL_TRAINER_ENABLE_PROGRESS_BAR", "False")
    if os.environ.get("MLLAM_EXPS_SMOKE") == "1":
        for part in ("TRAIN", "VAL", "TEST"):
            os.environ[f"PL_TRAINER_LIMIT_{part}_BATCHES"] = "1"


def told(arguments: list[str]) -> argparse.Namespace:
    """Return those of neural-lam's arguments that matter here."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(TASKS, type=int)
    parser.add_argument("--runs_root", type=Path, default=Path("runs"))
    parser.add_argument("--logger_run_name", default="")
    parser.add_argument("--load", type=Path)
    parser.add_argument("--ar_steps_eval", type=int, default=10)
    parser.add_argument("--logger", default="wandb")
    parser.add_argument("--num_workers", type=int, default=16)
    return parser.parse_known_args(arguments)[0]


def main(arguments: list[str] | None = None) -> None:
    """Run one of neural-lam's programs."""
    arguments = sys.argv[1:] if arguments is None else arguments
    task, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if task not in ("train", "evaluate", "graph"):
        sys.exit(f"{__doc__}")
    set_environment()
    fence.guard()
    if task == "graph":
        from neural_lam.create_graph_with_wmg import cli

        getattr(cli, "__wrapped__", cli)(rest)
        return
    from neural_lam import train_model

    checkpoints.allow_globals()
    options = told(rest)
    leave_new_memory_alone()
    read_once(options)
    save_in_one_step()
    pictures.draw_without_downloading()
    make_loggers_ready(options)
    if options.tasks_per_node:
        use_devices(options.tasks_per_node)
        rest = [word for word in rest if not word.startswith(f"{TASKS}=")]
    if task == "train":
        go_on_from(options)
    else:
        relocate_best(
            None
        )  # nothing is saved here; Lightning would warn that the folder is another one
        pictures.keep(options.ar_steps_eval)
    # `main` is decorated with loguru's catch, which swallows; should a later neural-lam
    # drop it, call it as it is.
    getattr(train_model.main, "__wrapped__", train_model.main)(rest)


def leave_new_memory_alone() -> None:
    """Spare the filling of every new tensor.

    With ``deterministic=True``, which neural-lam passes, torch 2.13 writes NaN into all
    memory that it allocates, to show reads of it before a write: 15% of the example's
    step on a CPU. Results are the same to the bit.
    """
    import torch

    torch.utils.deterministic.fill_uninitialized_memory = False


def read_once(options: argparse.Namespace) -> None:
    """Keep the boundary mask, and the samples of a small dataset, in memory.

    neural-lam 0.7.0 makes every sample anew in each epoch, through dask and xarray: a
    third of an epoch of the example. It works out the mask from the whole dataset for
    every map: half of a small evaluation. The numbers are the same. With
    ``num_workers``, other processes read, each from the files.
    """
    from neural_lam.datastore.mdp import MDPDatastore
    from neural_lam.weather_dataset import WeatherDataset

    open_datastore, make_sample = MDPDatastore.__init__, WeatherDataset.__getitem__

    @functools.wraps(open_datastore)
    def open_with_mask(self: Any, *args: Any, **kwargs: Any) -> None:
        open_datastore(self, *args, **kwargs)
        self.boundary_mask.load()

    @functools.wraps(make_sample)
    def sample_kept(self: Any, index: int) -> Any:
        kept = self.__dict__.setdefault("_kept", {})
        if index not in kept:
            sample = make_sample(self, index)
            if len(self) * sum(part.nbytes for part in sample) > SMALL:
                return sample
            kept[index] = sample
        # Whoever joins samples to a batch copies them.
        return kept[index]

    MDPDatastore.__init__ = open_with_mask
    if options.num_workers == 0:
        WeatherDataset.__getitem__ = sample_kept


def make_loggers_ready(options: argparse.Namespace) -> None:
    """Wait long for a busy MLflow database, and let wandb's files land in the user's repository."""
    if options.logger == "mlflow":
        tracking.patient()
    elif "WANDB_DIR" in os.environ:
        tracking.wandb_folder(
            options.runs_root / options.logger_run_name, Path(os.environ["WANDB_DIR"])
        )


def use_devices(count: int) -> None:
    """Give Lightning the number of devices on each node.

    neural-lam 0.7.0 takes "auto", which is every GPU that it can see, or a list of GPU
    numbers, which a CPU does not have. A number is right for both, and under Slurm
    Lightning compares it with the tasks on a node.
    """
    import pytorch_lightning as pl

    initialise = pl.Trainer.__init__

    @functools.wraps(initialise)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        initialise(self, *args, **{**kwargs, "devices": count})

    pl.Trainer.__init__ = __init__


def save_in_one_step() -> None:
    """Make a killed save leave the checkpoint before it, whole.

    Lightning 2.6.6 writes into the temporary folder (fsspec's transaction) and moves:
    where that is another file system, as ``/tmp`` of a compute node is, the move copies
    onto the old checkpoint, and a kill leaves half of the new one.
    """
    import torch
    from lightning_fabric.plugins.io import TorchCheckpointIO

    def save_checkpoint(
        self: Any, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    TorchCheckpointIO.save_checkpoint = save_checkpoint


def go_on_from(options: argparse.Namespace) -> None:
    """Bring what lies beside ``--load``'s checkpoint, the best one and the losses, and keep them counting.

    Lightning 2.6.6 remembers the best checkpoint by its path, and forgets it where the
    folder is another one: the first validation after a resumption would then replace a
    better checkpoint.
    """
    if options.load is None:
        return
    directory = Path(options.runs_root) / options.logger_run_name / "checkpoints"
    best = options.load.with_name(checkpoints.BEST)
    # The best checkpoint's own word: the attempt may have died between writing it and
    # the last one, which then lags. Every rank reads the same file, and so decides
    # alike later on.
    loss = checkpoints.describe(best).best_loss if checkpoints.whole(best) else None
    if options.load.parent.resolve() != directory.resolve() and is_first_process():
        directory.mkdir(parents=True, exist_ok=True)
        for path in (options.load, *checkpoints.companions(options.load)):
            bring(path, directory)
    relocate_best(loss)


def bring(path: Path, directory: Path) -> None:
    """Link one carried file to where neural-lam, Lightning or our callbacks look for it."""
    target = directory / path.name
    if path.name in checkpoints.IN_SCRATCH:
        scratch = os.environ.get("MLLAM_EXPS_SCRATCH")
        target = Path(scratch) / path.name if scratch else target
    elif path.match(checkpoints.ON_SIGNAL):
        target = directory.parent / path.name
    if target.exists():
        return
    try:
        # Safe, as all who write these files replace them; the checkpoints of large
        # models are many gigabytes.
        os.link(path, target)
    except OSError:
        shutil.copy2(path, target)


def relocate_best(loss: float | None) -> None:
    """Make Lightning take the carried ``min_val_loss.ckpt``, with this loss, as its best so far."""
    import torch
    from pytorch_lightning.callbacks import ModelCheckpoint

    restore = ModelCheckpoint.load_state_dict

    def load_state_dict(self: Any, state_dict: dict[str, Any]) -> None:
        state = {
            **state_dict,
            "dirpath": self.dirpath,
            "best_k_models": {},
            "best_model_score": None,
        }
        name = checkpoints.BEST if self.monitor else checkpoints.LAST
        here = os.path.join(self.dirpath, name)  # noqa: PTH118  (Lightning compares text)
        if self.monitor and loss is not None:
            score = torch.tensor(loss)
            state |= {
                "best_k_models": {here: score},
                "best_model_score": score,
                "kth_value": score,
            }
            state |= {
                "best_model_path": here,
                "kth_best_model_path": here,
                "current_score": score,
            }
        elif self.monitor:
            state |= {"best_model_path": "", "kth_best_model_path": ""}
        else:
            state |= {"best_model_path": here, "last_model_path": ""}
        restore(self, state)

    ModelCheckpoint.load_state_dict = load_state_dict


if __name__ == "__main__":
    main()
