"""Sends the points of a run's attempts to MLflow: ``python -m mllam_exps.stages.points.sender PROJECT ORIGIN FOLDER…``.

It sends what is new each few seconds until its standard input ends; one line there
says how the run ended: ``{"status": "FAILED", "reason": "...", "time": 1764177100123}``.
What cannot be sent stays in the folders. Its own last line is JSON: how much was sent,
and why something is left.

Sending again what was sent before changes nothing (MLflow 3.17): a metric's time, step
and value are its key in the server's table, and the run is found by its tag.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import MllamError
from mllam_exps.stages import tracking
from mllam_exps.stages.points import kept, parents

PERIOD = 5.0
LONGEST_PERIOD = 60.0
"""Seconds between two tries to reach a server that is away."""
RUN_TAG = "mllam_exps.run"
"""By this tag a run is found again whose identity was not noted when it was made."""
REASON = "reason"
RUNNING = "RUNNING"
AT_ONCE = 1000
"""Lines that are sent at once, and then noted; MLflow's client makes parts of them that its server takes."""


@dataclass(frozen=True)
class End:
    """How a run ended: MLflow's word, empty as long as it goes on, the reason, and when, in milliseconds."""

    status: str = ""
    reason: str = ""
    time: int | None = None


GOES_ON = End()


class Sender:
    """Sends what the attempts of one run have kept, oldest first.

    Parameters
    ----------
    project : str
        MLflow's experiment, made where it is not there.
    origin : Path
        The user's repository: files of a database there lie in its ``mlartifacts/``.
    folders : sequence of Path
        Of the attempts that go on with one tracking run.
    """

    def __init__(self, project: str, origin: Path, folders: Sequence[Path]) -> None:
        self.uri = os.environ[tracking.URI]
        self.server = tracking.public(self.uri)
        self.project = project
        self.artifacts = origin.resolve() / "mlartifacts"
        self.folders = folders
        self.count = 0
        head = kept.head(folders[-1])
        if head is None:
            raise MllamError("holds no points", str(folders[-1]))
        self._name = head.run
        self._family = head.family
        self._client: Any = None
        self._run = ""
        self._params: set[str] = set()

    def is_done(self, end: str) -> bool:
        """Tell whether all is there."""
        return not kept.is_any_left(self.folders, self.server, end)

    def send(self, end: End = GOES_ON) -> None:
        """Send what is new, and how the run ended.

        Raises
        ------
        MllamError
            If the server cannot be reached, or refuses; what was sent is noted.
        """
        if self.is_done(end.status):
            return
        if why := tracking.reachable(self.uri):
            self._client = None
            raise MllamError(why)
        try:
            self._contact()
            for folder in self.folders:
                with _alone(folder):
                    self._send_points(folder)
                    self._send_artifacts(folder)
            self._tell_end(end)
        except MllamError:
            raise
        except Exception as error:  # the client raises its own kinds
            self._client = None
            why, way_out = tracking.explain(str(error))
            raise MllamError(why or type(error).__name__, next=way_out) from error

    # The run on the server.

    def _contact(self) -> None:
        """Find the run on the server, or make it; it is running again, and so is its parent, if it has one."""
        if self._client is not None:
            return
        tracking.make(self.project, str(self.artifacts))
        import mlflow

        client = mlflow.MlflowClient(self.uri)
        # `track sync` may be typed while the attempt's own process sends.
        with _alone(self.folders[0]):
            run = self._find(client) or self._make(client)
            self._note(self.folders[0], run=run.info.run_id)
        if run.info.lifecycle_stage != "active":
            what = f"the run {run.info.run_id} was deleted in MLflow"
            restore = f"mlflow runs restore --run-id {run.info.run_id}"
            raise MllamError(what, next=restore)
        self._run = run.info.run_id
        self._params = {*run.data.params}
        if run.info.status != RUNNING:
            client.update_run(self._run, status=RUNNING)
            self._note(self.folders[-1], end="")
        if REASON in run.data.tags:
            client.delete_tag(self._run, REASON)
        for folder in self.folders:
            self._note(folder, run=self._run)
        if self._family.first:
            parents.adopt(client, run, self._family)
        self._client = client

    def _find(self, client: Any) -> Any:
        for folder in self.folders:
            if identity := kept.sent(folder, self.server).run:
                return client.get_run(identity)
        experiment = client.get_experiment_by_name(self.project)
        found = client.search_runs(
            [experiment.experiment_id],
            f"tags.`{RUN_TAG}` = '{self._name}'",
            run_view_type=3,  # deleted ones, too
        )
        return found[0] if found else None

    def _make(self, client: Any) -> Any:
        experiment = client.get_experiment_by_name(self.project)
        begun = next(
            (line for _, line in kept.read(self.folders[0]) if "time" in line), {}
        )
        made = client.create_run(
            experiment.experiment_id,
            start_time=begun.get("time", int(time.time() * 1000)),
            tags={RUN_TAG: self._name},
        )
        return client.get_run(made.info.run_id)

    def _tell_end(self, end: End) -> None:
        if not end.status:
            return
        if end.reason:
            self._client.set_tag(self._run, REASON, end.reason)
        self._client.set_terminated(self._run, end.status, end.time)
        if self._family.first:
            run = self._client.get_run(self._run)
            parents.adopt(self._client, run, self._family)
        self._note(self.folders[-1], end=end.status)

    # What belongs to it.

    def _note(self, folder: Path, **changes: Any) -> None:
        kept.note_sent(folder, replace(kept.sent(folder, self.server), **changes))

    def _send_points(self, folder: Path) -> None:
        lines: list[dict[str, Any]] = []
        size = start = kept.sent(folder, self.server).size
        for size, line in kept.read(folder, start):
            lines.append(line)
            if len(lines) == AT_ONCE:
                self._send_lines(lines)
                self._note(folder, size=size)
                lines = []
        if lines:
            self._send_lines(lines)
            self._note(folder, size=size)

    def _send_lines(self, lines: list[dict[str, Any]]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        metrics, tags = [], []
        first: dict[str, str] = {}
        for line in lines:
            if "key" in line:
                value, when, step = line["value"], line["time"], line["step"]
                metrics.append(Metric(line["key"], float(value), when, step))
            elif "tag" in line:
                tags.append(RunTag(line["tag"], line["value"]))
            elif "param" in line and line["param"] not in self._params:
                # The first value counts: MLflow refuses another one, and a later
                # attempt has folders of its own. neural-lam logs the run's identity,
                # which was ours until now.
                value = self._run if line["value"] == self._name else line["value"]
                first.setdefault(line["param"], value)
        self._log(metrics, [Param(*one) for one in first.items()], tags)
        self._params |= {*first}
        self.count += len(metrics) + len(first) + len(tags)

    def _log(self, metrics: list[Any], params: list[Any], tags: list[Any]) -> None:
        """Log all at once; where MLflow refuses that, one by one, without what it refuses for ever."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.log_batch(self._run, metrics, params, tags)
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            kinds = (metrics, params, tags)
            if sum(map(len, kinds)) == 1:
                print(
                    f"warning: MLflow refuses a value: {_line(error)}", file=sys.stderr
                )
                return
            for place, kind in enumerate(kinds):
                for one in kind:
                    alone: list[list[Any]] = [[], [], []]
                    alone[place] = [one]
                    self._log(*alone)

    def _send_artifacts(self, folder: Path) -> None:
        place = folder / kept.ARTIFACTS
        for path in kept.artifacts(folder):
            parent = path.relative_to(place).parent.as_posix()
            self._client.log_artifact(
                self._run, str(path), None if parent == "." else parent
            )
            path.unlink(missing_ok=True)
            self.count += 1


def _line(error: Exception) -> str:
    return tracking.public((str(error).strip() or type(error).__name__).splitlines()[0])


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep another sender out, where the file system has locks; two at once do no harm, but twice the work."""
    with (folder / f".{kept.SENT}.lock").open("w") as lock:
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def follow(sender: Sender) -> dict[str, Any]:
    """Send until standard input ends; return how much was sent, and what keeps the rest from it."""
    end, pause, why, over = GOES_ON, PERIOD, "", False
    while True:
        try:
            sender.send(end)
            if why:
                print("MLflow answers again: its points are sent", file=sys.stderr)
            pause, why = PERIOD, ""
        except MllamError as error:
            if why != str(error):
                why = str(error)
                told = f"points are kept, and not sent to MLflow for now: {why}"
                print(f"warning: {told}", file=sys.stderr, flush=True)
            pause = min(2 * pause, LONGEST_PERIOD)
        if over:
            left = "" if sender.is_done(end.status) else why or "there is more by now"
            return {"sent": sender.count, "left": left}
        if select.select([sys.stdin], [], [], pause)[0]:
            over = True
            with contextlib.suppress(ValueError, TypeError):
                end = End(**json.loads(sys.stdin.readline()))


def main(arguments: Sequence[str]) -> int:
    """Send; 1 where something is left."""
    project, origin, *folders = arguments
    # What is away is tried again later.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    done = follow(Sender(project, Path(origin), [Path(one) for one in folders]))
    print(json.dumps(done), flush=True)
    return 1 if done["left"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
