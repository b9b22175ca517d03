"""mllam-data-prep within its allocation: run as a module, with ``CONFIG -o ZARR``.

mllam-data-prep 0.7.0 counts the node's cores, not the allocation's, and says nothing of
how far it is. Here dask's threads are as many as this process may use, and the bytes
written so far go to ``progress.json``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import threading
import time
from pathlib import Path

from mllam_exps.stages.neural_lam.preparation import preparation
from mllam_exps.stages.programs import fence
from mllam_exps.stages.programs.telling import PROGRESS, SCRATCH, replace

INTERVAL_S = 1.0


def cores() -> int:
    """Return how many cores this process may use: the scheduler's word first, then the affinity, then the node's."""
    told = os.environ.get("MLLAM_EXPS_CORES", "")
    usable = (
        len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1
    )
    return min(int(told), usable) if told.isdigit() and int(told) > 0 else usable


def size(directory: Path) -> tuple[int, int]:
    """Return the bytes and the files below a directory that is being written to."""
    total = files = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += (Path(folder) / name).stat().st_size
            except OSError:  # zarr renames its temporary files while we look
                continue
            files += 1
    return total, files


def readable(count: float) -> str:
    """Return a number of bytes for people, e.g. ``12.3 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def report(output: Path, scratch: Path, stop: threading.Event) -> None:
    """Tell how much is written, until told to stop; a failure to tell never harms the work.

    Walking a folder of 100,000 files takes a while on a shared file system, so the
    pause grows with the walk.
    """
    pause = INTERVAL_S
    while not stop.wait(pause):
        begun = time.monotonic()
        written, files = size(output)
        text = (
            f"{readable(written)} written in {files} files"
            if files
            else "reading the sources"
        )
        try:
            replace(scratch / PROGRESS, json.dumps({"text": text}))
        except OSError:
            continue
        pause = max(INTERVAL_S, 20 * (time.monotonic() - begun))


def main(arguments: list[str] | None = None) -> None:
    """Make the dataset; any exception is a non-zero exit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--track", action="store_true", help="log to MLflow")
    options = parser.parse_args(arguments)
    fence.guard()
    # zarr 3.1.6 leaves chunks out that hold nothing but the fill value: then a hole
    # cannot be told from a calm sea. With every chunk written, a chunk that is not
    # there is a loss, and the stage's check can say so.
    os.environ["ZARR_ARRAY__WRITE_EMPTY_CHUNKS"] = "True"

    import dask
    from mllam_data_prep.create_dataset import create_dataset_zarr

    # Derived variables may name functions of the repository's own modules, which lie
    # here as dependencies of the stage. Last, so that they hide no installed program;
    # without __pycache__, which would be a change of an input.
    sys.dont_write_bytecode = True
    sys.path.append(str(Path.cwd()))
    dask.config.set(scheduler="threads", num_workers=cores())
    stop = threading.Event()
    scratch = os.environ.get(SCRATCH)
    if scratch:
        threading.Thread(
            target=report, args=(options.output, Path(scratch), stop), daemon=True
        ).start()
    print(f"mllam-data-prep on {cores()} cores", flush=True)
    try:
        with (
            preparation(options.config, options.output)
            if options.track
            else contextlib.nullcontext()
        ):
            create_dataset_zarr(fp_config=options.config, fp_zarr=options.output)
    finally:
        stop.set()


if __name__ == "__main__":
    main()
