"""``python -m mllam_exps.stages.neural_lam.programs.neural_lam train|evaluate|graph ARGS…``: neural-lam, failing aloud.

The arguments are neural-lam's own. What is changed in it, and in the libraries below
it, stands in `mllam_exps.stages.neural_lam.patches`, one file for each change. Beside
that, log files get no progress bars (`progress.json` is written by our Lightning
callbacks), and a training that goes on from another attempt's folder keeps its best
checkpoint and its losses.

Several processes of one training run this same program (DDP over Slurm, or started by
Lightning).
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from mllam_exps.stages import tracking
from mllam_exps.stages.neural_lam import checkpoints
from mllam_exps.stages.neural_lam.patches import (
    draw_as_if_never_stopped,
    draw_without_downloading,
    fail_aloud,
    keep_best_checkpoint,
    keep_boundary_mask,
    keep_forecasts,
    keep_pictures,
    keep_small_samples,
    leave_new_memory_alone,
    save_in_one_step,
    trust_no_checkpoint,
    use_devices,
)
from mllam_exps.stages.neural_lam.ranks import is_first_process
from mllam_exps.stages.neural_lam.training import beginning
from mllam_exps.stages.points import keep_points, offline_wandb
from mllam_exps.stages.programs import fence
from mllam_exps.stages.programs.telling import SCRATCH

"""Set in an attempt."""
TASKS = "--tasks_per_node"
"""An argument of ours, ``--tasks_per_node=N``: processes on each node, each with its own device."""
WEIGHTS = "--weights"
"""Another one, ``--weights=CHECKPOINT``: what a training begins with that takes nothing else of another one."""
SCHEDULE = "--schedule"
"""Another one, ``--schedule=JSON``: how the learning rate changes."""
FORECASTS = "--forecasts"
"""The last one, ``--forecasts=FILE``: the plan of those that an evaluation keeps."""


def set_environment() -> None:
    """Tell the libraries by their own variables, before their import; workers and ranks inherit them."""
    trust_no_checkpoint.set_environment()
    os.environ["MPLBACKEND"] = "Agg"
    # matplotlib writes the time of day into a PDF otherwise: the same scores would be
    # another file each time.
    os.environ.setdefault("SOURCE_DATE_EPOCH", "0")
    # Lightning 2.6 takes its Trainer's defaults from PL_TRAINER_*; what neural-lam
    # passes itself goes before.
    # `srun --unbuffered` (22.05 seen) gives each task a terminal, and its output is a log
    # file all the same.
    if SCRATCH in os.environ or not sys.stdout.isatty():
        os.environ.setdefault("PL_TRAINER_ENABLE_PROGRESS_BAR", "False")
        # No colours, and nothing that moves a cursor, from rich and loguru.
        os.environ["TERM"], os.environ["NO_COLOR"] = "dumb", "1"
    if os.environ.get("MLLAM_EXPS_SMOKE") == "1":
        for part in ("TRAIN", "VAL", "TEST"):
            os.environ[f"PL_TRAINER_LIMIT_{part}_BATCHES"] = "1"


def told(arguments: list[str]) -> argparse.Namespace:
    """Return those of neural-lam's arguments that matter here."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(TASKS, type=int)
    parser.add_argument(WEIGHTS, default="")
    parser.add_argument(SCHEDULE, default="")
    parser.add_argument(FORECASTS, type=Path)
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

        fail_aloud.unguarded(cli)(rest)
        return
    from neural_lam import train_model

    options = told(rest)
    patch(task, options)
    make_loggers_ready(options)
    ours = tuple(f"{name}=" for name in (TASKS, WEIGHTS, SCHEDULE, FORECASTS))
    rest = [word for word in rest if not word.startswith(ours)]
    os.environ[beginning.WEIGHTS] = options.weights
    os.environ[beginning.SCHEDULE] = options.schedule
    fail_aloud.unguarded(train_model.main)(rest)


def patch(task: str, options: argparse.Namespace) -> None:
    """Change neural-lam and the libraries below it, for a training or an evaluation."""
    trust_no_checkpoint.apply()
    leave_new_memory_alone.apply()
    keep_boundary_mask.apply()
    if options.num_workers == 0:
        keep_small_samples.apply()
    save_in_one_step.apply()
    draw_without_downloading.apply()
    if options.tasks_per_node:
        use_devices.apply(options.tasks_per_node)
    if task == "evaluate":
        # Nothing is saved here; Lightning would warn that the folder is another one.
        keep_best_checkpoint.apply(None)
        keep_pictures.apply(options.ar_steps_eval)
        if options.forecasts is not None:
            keep_forecasts.apply(options.forecasts)
        return
    # Also of a training that begins: it notes where each epoch's order is drawn.
    draw_as_if_never_stopped.apply()
    if options.load is not None:
        go_on_from(options)


def make_loggers_ready(options: argparse.Namespace) -> None:
    """Keep what is logged to MLflow beside the attempt, and let wandb's files land in the user's repository."""
    if options.logger == "mlflow":
        keep_points.use_where_told(first=is_first_process())
        return
    if is_first_process():
        offline_wandb.log_steps_once()
    if "WANDB_DIR" in os.environ:
        tracking.wandb_folder(
            options.runs_root / options.logger_run_name, Path(os.environ["WANDB_DIR"])
        )


def go_on_from(options: argparse.Namespace) -> None:
    """Bring what lies beside ``--load``'s checkpoint, the best one and the losses, and keep them counting."""
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
    keep_best_checkpoint.apply(loss)


def bring(path: Path, directory: Path) -> None:
    """Link one carried file to where neural-lam, Lightning or our callbacks look for it."""
    target = directory / path.name
    if path.name in checkpoints.IN_SCRATCH:
        scratch = os.environ.get(SCRATCH)
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


if __name__ == "__main__":
    main()
