"""MLflow's store that asks no server: each call costs one write to a file; reading gives back what logging needs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlflow.entities import (
    Experiment,
    LifecycleStage,
    Metric,
    Param,
    Run,
    RunData,
    RunInfo,
    RunStatus,
    RunTag,
)
from mlflow.store.tracking.abstract_store import AbstractStore

from mllam_exps.stages.points import kept

EXPERIMENT = "0"
"""The only experiment here: under which one the run is listed, who sends it knows."""
NOBODY = "0" * 32


class KeptStore(AbstractStore):  # type: ignore[misc]  # MLflow is not followed by mypy
    """One run, which is there from the start: the attempt's.

    Parameters
    ----------
    folder : Path
        Where the file of points is.
    points : Points or None
        What is written to; None to log nothing.
    """

    def __init__(self, folder: Path, points: kept.Points | None) -> None:
        super().__init__()
        self._folder = folder
        self._points = points
        self._after = points.head.after if points else {}
        self._status = RunStatus.to_string(RunStatus.RUNNING)
        self._begun = int(time.time() * 1000)
        self._told_full = False
        self._last: dict[str, tuple[int, float]] = {}

    # What programs ask for.

    def get_experiment(self, experiment_id: str) -> Experiment:
        """Return the only one."""
        return Experiment(EXPERIMENT, "kept", "", LifecycleStage.ACTIVE)

    def get_experiment_by_name(self, experiment_name: str) -> Experiment:
        """Return the only one, whatever its name."""
        return self.get_experiment(experiment_name)

    def create_experiment(self, name: str, *_given: Any, **_more: Any) -> str:
        """Return the only one."""
        return EXPERIMENT

    def create_run(
        self,
        experiment_id: str,
        user_id: str,
        start_time: int,
        tags: Sequence[RunTag],
        run_name: str | None,
    ) -> Run:
        """Return the attempt's run."""
        self.log_batch("", [], [], tags)
        return self.get_run("")

    def get_run(self, run_id: str) -> Run:
        """Return the attempt's run, with the last steps before: MLflow counts system metrics on from there."""
        info = RunInfo(
            run_id=self._points.head.run if self._points else NOBODY,
            experiment_id=EXPERIMENT,
            user_id="",
            status=self._status,
            start_time=self._begun,
            end_time=None,
            lifecycle_stage=LifecycleStage.ACTIVE,
            artifact_uri=(self._folder / kept.ARTIFACTS).as_uri(),
        )
        before = [Metric(key, 0.0, 0, step) for key, step in self._after.items()]
        return Run(info, RunData(metrics=before))

    def update_run_info(
        self, run_id: str, run_status: Any, end_time: int | None, run_name: str | None
    ) -> RunInfo:
        """Take the status for this process; how the run ends, the attempt says."""
        self._status = RunStatus.to_string(run_status)
        return self.get_run(run_id).info

    # What they log.

    def log_batch(
        self,
        run_id: str,
        metrics: Sequence[Metric],
        params: Sequence[Param],
        tags: Sequence[RunTag],
    ) -> None:
        """Keep it; of a step that an earlier attempt has logged, the first value stays.

        MLflow would keep both, and draw both.
        """
        if self._points is None:
            return
        lines = [line for one in metrics if (line := self._line_of(one))]
        lines += [{"param": one.key, "value": str(one.value)} for one in params]
        lines += [{"tag": one.key, "value": str(one.value)} for one in tags]
        if lines and not self._points.write(lines) and not self._told_full:
            self._told_full = True
            print("warning: points for MLflow cannot be kept: disk full?", flush=True)

    def _line_of(self, one: Metric) -> dict[str, Any]:
        """Return the line of a new point; empty for one that is there."""
        if one.step <= self._after.get(one.key, one.step - 1):
            return {}
        # Lightning (2.6) logs the number of the epoch with each group of metrics.
        point = one.step, one.value
        if self._last.get(one.key) == point:
            return {}
        self._last[one.key] = point
        return {
            "time": one.timestamp,
            "key": one.key,
            "value": one.value,
            "step": one.step,
        }
