"""Notes when a training begins, when its epochs and its first step end, and how long its saves take: one JSON a line.

Also the CPU seconds that were spent until then, by the training's process and, in an
attempt of mllam-exps, by those beside it: the attempt itself, and what sends its points.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil
from pytorch_lightning.callbacks import Callback

FILE = "STOPWATCH"
"""The variable that names the file."""
NOTHING_KEPT = "STOPWATCH_NOTHING_KEPT"
"""Where it is set, no samples are kept in memory: as with data that are too large for it."""


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """Return the CPU seconds of processes, and of those of their children that have ended."""
    total = 0.0
    for process in processes:
        try:
            used = process.cpu_times()
        except psutil.Error:
            continue
        total += used.user + used.system + used.children_user + used.children_system
    return total


def age() -> float:
    """Return how long ago this process was started; psutil (7 seen) errs by up to a second."""
    words = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    begun = int(words[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - begun


def family() -> list[psutil.Process]:
    """Return this process with its children; in an attempt, those beside it, too."""
    head = psutil.Process()
    if "MLLAM_EXPS_ATTEMPT" in os.environ:
        head = head.parent() or head
    return [head, *head.children(recursive=True)]


class Stopwatch(Callback):
    """Note the moments."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stepped = False
        self.note("made", created=time.time() - age())

    def note(self, what: str, **more: Any) -> None:
        """Write a line."""
        told = {
            "what": what,
            "process": os.getpid(),
            "moment": time.time(),
            "cpu": cpu_seconds(family()),
            **more,
        }
        with self.path.open("a") as file:
            file.write(json.dumps(told) + "\n")

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Measure each save."""
        save = trainer.save_checkpoint

        def measured(*given: Any, **named: Any) -> None:
            began = time.perf_counter()
            save(*given, **named)
            self.note("saved", seconds=time.perf_counter() - began)

        trainer.save_checkpoint = measured

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        """Note the beginning of an epoch, which is the end of the one before."""
        self.note("epoch", number=trainer.current_epoch + 1)

    def on_train_batch_end(self, *_: Any) -> None:
        """Note the first step's end."""
        if not self.stepped:
            self.stepped = True
            self.note("stepped")

    def on_train_end(self, trainer: Any, module: Any) -> None:
        """Note the end."""
        self.note("ended")


def factory() -> list[Callback]:
    """Return the callback; none where no file is named."""
    path = os.environ.get(FILE)
    if not path:
        return []
    if os.environ.get(NOTHING_KEPT):
        from mllam_exps.stages.neural_lam.patches import keep_small_samples

        keep_small_samples.SMALL = 0
    return [Stopwatch(Path(path))]
