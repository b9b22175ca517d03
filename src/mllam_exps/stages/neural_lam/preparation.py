"""Tracks a data preparation in MLflow; the other stages are logged by neural-lam itself."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import MllamError
from mllam_exps.stages.points import keep_points
from mllam_exps.stages.tracking import URI, labels, public, reachable

SIZE = "output_bytes"


@contextlib.contextmanager
def preparation(config: Path, output: Path, interval: float = 5.0) -> Iterator[None]:
    """Track a data preparation in MLflow: its configuration, the machine's load, its output's growing size.

    Nothing here can fail the preparation: what goes wrong is one warning line.

    Parameters
    ----------
    config : Path
        mllam-data-prep's configuration file.
    output : Path
        The dataset that it makes.
    interval : float
        Seconds between two looks at the size.
    """
    stop, tracked = threading.Event(), threading.Thread()
    status = "FAILED"
    try:
        tracked = _begin(config, output, stop, interval)
    except Exception as error:  # MLflow and its server raise of all kinds
        _warn(error)
    try:
        yield
        status = "FINISHED"
    finally:
        stop.set()
        if tracked.ident is not None:
            tracked.join(60)
            with _warned():
                import mlflow

                mlflow.end_run(status)


def _begin(
    config: Path, output: Path, stop: threading.Event, interval: float
) -> threading.Thread:
    """Start the run, log the configuration and return the started thread that logs the size."""
    points = keep_points.use_where_told()
    uri = os.environ.get(URI, "")
    if not uri or (why := reachable(uri)):
        raise MllamError(f"{URI} is not set" if not uri else why)
    os.environ.setdefault(
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2"
    )  # a lost server does not hold up the work
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    import mlflow
    import yaml

    name = f"prepare-{os.environ.get('MLLAM_EXPS_EXPERIMENT', 'workspace')}"
    tags = {"mlflow.runName": name, **labels(os.environ)}
    # By its identity, MLflow counts on where an earlier attempt had come.
    begun = points.run if points else None
    run = mlflow.start_run(run_id=begun, tags=tags, log_system_metrics=True)
    client, identity = mlflow.MlflowClient(), run.info.run_id
    first = points.after.get(SIZE, -1) + 1 if points else 0
    with _warned():
        mlflow.log_artifact(str(config))
        mlflow.log_params(_parameters(yaml.safe_load(config.read_text())))

    def watch() -> None:
        began, told = time.monotonic(), False
        while not told:
            told = stop.wait(interval)  # the last look comes after the end
            with _warned():
                client.log_metric(
                    identity,
                    SIZE,
                    _size(output),
                    step=first + round(time.monotonic() - began),
                )

    thread = threading.Thread(target=watch, name="output size", daemon=True)
    thread.start()
    return thread


def _parameters(config: Any, prefix: str = "") -> dict[str, str]:
    """Return a nested configuration as MLflow's flat parameters; it takes 6000 characters for one."""
    flat: dict[str, str] = {}
    for key, value in config.items() if isinstance(config, Mapping) else ():
        name = re.sub(r"[^\w\-./ ]", "_", f"{prefix}{key}")[:250]
        flat |= (
            _parameters(value, f"{name}.")
            if isinstance(value, Mapping)
            else {name: str(value)[:6000]}
        )
    return flat


def _size(path: Path) -> int:
    total = 0
    for folder, _, files in os.walk(path):
        for file in files:
            with contextlib.suppress(OSError):  # renamed into place meanwhile
                total += (Path(folder) / file).stat().st_size
    return total


@contextlib.contextmanager
def _warned() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        _warn(error)


def _warn(error: Exception) -> None:
    why = (str(error).strip() or type(error).__name__).splitlines()[0]
    print(
        f"warning: data preparation is not tracked: {public(why)}",
        file=sys.stderr,
        flush=True,
    )
