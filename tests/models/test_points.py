"""What is logged to MLflow: kept beside the attempt, sent once, and one run whatever became of its attempts."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from support.experiment import Experiment, eventually

from mllam_exps.attempts import tracked
from mllam_exps.base.errors import MllamError
from mllam_exps.runs.store import Run
from mllam_exps.stages import tracking
from mllam_exps.stages.points import keep_points, kept, parents, sender

# Not imported here: each of pytest's workers would, which takes seconds of a processor.
pytestmark = [
    pytest.mark.models,
    pytest.mark.skipif(find_spec("mlflow") is None, reason="it is not installed"),
]

NAME = "0123456789abcdef" * 2


class Server:
    """MLflow's own server, in this process: `mlflow server` starts two, which takes them many seconds."""

    def __init__(self, folder: Path) -> None:
        from mlflow.server import app

        self.folder, self._app = folder, app
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.uri = f"http://127.0.0.1:{self.port}"
        self._here: Any = None

    def come(self) -> None:
        from werkzeug.serving import make_server

        if self._here is None:
            self._here = make_server("127.0.0.1", self.port, self._app, threaded=True)
            threading.Thread(target=self._here.serve_forever, daemon=True).start()

    def go_away(self) -> None:
        if self._here is not None:
            self._here.shutdown()
            self._here.server_close()
            self._here = None

    def ask(self, question: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(self.folder / "mlflow.db")) as database:
            return database.execute(question).fetchall()

    def run(self, name: str, tag: str = sender.RUN_TAG) -> dict[str, Any]:
        """Return what the server has of the run whose name is that on our side."""
        [(identity, status)] = self.ask(
            "SELECT run_uuid, status FROM runs JOIN tags USING (run_uuid) WHERE"
            f" tags.key = '{tag}' AND tags.value = '{name}'"
            " AND lifecycle_stage = 'active'"
        )
        of = f"WHERE run_uuid = '{identity}'"
        return {
            "id": identity,
            "status": status,
            "points": self.ask(
                f"SELECT key, step, value FROM metrics {of} ORDER BY 1, 2"
            ),
            "params": dict(self.ask(f"SELECT key, value FROM params {of}")),
            "tags": dict(self.ask(f"SELECT key, value FROM tags {of}")),
        }


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    told = {
        "FILE_STORE": f"sqlite:///{folder}/mlflow.db",
        "ARTIFACT_ROOT": "mlflow-artifacts:/",
        "ARTIFACT_DESTINATION": str(folder / "files"),
        "SERVE_ARTIFACTS": "true",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in told.items():  # as `mlflow server` (3.17) does
            patch.setenv(f"_MLFLOW_SERVER_{name}", value)
        server = Server(folder)
        yield server
        server.go_away()


@pytest.fixture
def server(started: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A tracking server that answers, and whose address this process has."""
    started.come()
    monkeypatch.setenv(tracking.URI, started.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return started


def attempt(
    folder: Path, number: int = 1, name: str = NAME, after: dict[str, int] | None = None
) -> Path:
    place = folder / str(number)
    kept.begin(place, kept.Head(name, number, after or {}), {"attempt": str(number)})
    return place


def points(folder: Path, steps: range, value: float = 1.0) -> None:
    line = {"time": 1764177100000, "key": "loss", "value": value}
    assert kept.Points(folder).write(
        [line | {"step": step, "time": line["time"] + step} for step in steps]
    )


def a_sender(*folders: Path) -> sender.Sender:
    return sender.Sender("toy", folders[0].parent, folders)


# The file.


def test_a_line_that_was_cut_off_costs_that_line(tmp_path: Path) -> None:
    place = attempt(tmp_path)
    points(place, range(2))
    with (place / kept.POINTS).open("a") as file:
        file.write('{"key": "lo')
    before = kept.reached(place)
    assert before == {"loss": 1}, "it may be written at this moment"
    with (place / kept.POINTS).open("a") as file:
        file.write("\n")
    points(place, range(2, 4))
    assert kept.reached(place) == {"loss": 3}


def test_what_a_full_disk_cuts_off_spoils_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = attempt(tmp_path)
    file, write = kept.Points(place), os.write
    monkeypatch.setattr(os, "write", lambda where, what: write(where, what[:5]))
    assert not file.write([{"param": "a", "value": "1"}])
    monkeypatch.undo()
    assert file.write([{"param": "b", "value": "2"}])
    assert [line for _, line in kept.read(place)][2:] == [{"param": "b", "value": "2"}]


# The client's side.


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """MLflow's client, whose address is set back."""
    import mlflow

    monkeypatch.setenv(tracking.URI, "http://127.0.0.1:9")
    yield mlflow
    mlflow.end_run()
    mlflow.set_tracking_uri(None)


def log_as_neural_lam(mlflow: Any, steps: range) -> str:
    """Do what neural-lam's logger does, which is made of Lightning's."""
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("toy")
    run = client.create_run(experiment.experiment_id, tags={"a": "1"}).info.run_id
    mlflow.start_run(run_id=run, log_system_metrics=False)
    mlflow.set_tag("mlflow.runName", "train-toy")
    mlflow.log_param("run_id", run)
    for step in steps:
        for key in ("loss", "epoch", "epoch"):
            metric = mlflow.entities.Metric(
                key, step / 8, int(time.time() * 1000), step
            )
            client.log_batch(run, metrics=[metric])
    mlflow.log_text("words", "notes/words.txt")
    client.set_terminated(run, "FINISHED")
    mlflow.end_run()
    return run


def test_a_program_logs_to_the_file_and_asks_no_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow: Any
) -> None:
    first = attempt(tmp_path)
    monkeypatch.setenv(kept.VARIABLE, str(first))
    keep_points.use_where_told()
    began = time.monotonic()
    assert log_as_neural_lam(mlflow, range(3)) == NAME
    assert time.monotonic() - began < 10, "nobody was waited for"
    lines = [line for _, line in kept.read(first)][1:]
    steps = [(one["key"], one["step"]) for one in lines if "key" in one]
    assert sorted(steps) == [(k, n) for k in ("epoch", "loss") for n in range(3)]
    assert {"param": "run_id", "value": NAME} in lines
    assert {"tag": "mlflow.runName", "value": "train-toy"} in lines
    assert [one.name for one in kept.artifacts(first)] == ["words.txt"]

    # The next attempt goes on from step 1, and logs step 2 another time.
    second = attempt(tmp_path, 2, after=kept.reached(first))
    monkeypatch.setenv(kept.VARIABLE, str(second))
    keep_points.use_where_told()
    log_as_neural_lam(mlflow, range(1, 5))
    lines = [line for _, line in kept.read(second)][1:]
    assert [one["step"] for one in lines if one.get("key") == "loss"] == [3, 4]
    run = mlflow.MlflowClient().get_run(NAME)
    assert run.data._metric_objs[0].step == 2, (
        "system metrics are counted on from there"
    )


def test_another_rank_logs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow: Any
) -> None:
    place = attempt(tmp_path)
    monkeypatch.setenv(kept.VARIABLE, str(place))
    keep_points.use_where_told(first=False)
    mlflow.start_run(run_id=None)
    mlflow.log_metric("loss", 1.0)
    assert len(list(kept.read(place))) == 2, "its head and the first tag"


# The server's side.


def test_what_cannot_be_sent_is_sent_later_once(server: Server, tmp_path: Path) -> None:
    place = attempt(tmp_path, name="a" * 32)
    points(place, range(1500))
    kept.Points(place).write([{"param": "run_id", "value": "a" * 32}])
    (place / kept.ARTIFACTS / "notes").mkdir()
    (place / kept.ARTIFACTS / "notes/words.txt").write_text("words")
    server.go_away()
    began = time.monotonic()
    with pytest.raises(MllamError, match=r"does not answer.*refused"):
        a_sender(place).send()
    assert time.monotonic() - began < 5
    server.come()
    sending = a_sender(place)
    sending.send()
    there = server.run("a" * 32)
    assert [step for _, step, _ in there["points"]] == [*range(1500)]
    assert there["status"] == "RUNNING"
    assert there["params"]["run_id"] == there["id"]
    [words] = server.folder.glob("files/*/*/artifacts/notes/words.txt")
    assert words.read_text() == "words"
    assert sending.is_done("") and not sending.is_done("FINISHED")

    # As if it had died after sending, before it could note that.
    (place / kept.SENT).unlink()
    a_sender(place).send()
    assert server.run("a" * 32) == there


def test_a_server_that_goes_away_while_points_are_sent(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = attempt(tmp_path, name="b" * 32)
    points(place, range(30))
    monkeypatch.setattr(sender, "AT_ONCE", 10)
    sending, log, calls = a_sender(place), sender.Sender._send_lines, []

    def lose(self: sender.Sender, lines: list[dict[str, Any]]) -> None:
        log(self, lines)
        calls.append(len(lines))
        if len(calls) == 2:
            raise ConnectionError("the answer was lost")

    monkeypatch.setattr(sender.Sender, "_send_lines", lose)
    with pytest.raises(MllamError, match="the answer was lost"):
        sending.send()
    sending.send()
    steps = [step for _, step, _ in server.run("b" * 32)["points"]]
    assert steps == [*range(30)] and sum(calls) > 32, "ten were sent twice"


def test_attempts_are_one_run_that_stands_as_they_do(
    server: Server, tmp_path: Path
) -> None:
    name = "c" * 32
    first = attempt(tmp_path, name=name)
    points(first, range(3))
    kept.Points(first).write([{"param": "load", "value": "None"}])
    a_sender(first).send(sender.End("FAILED", "out of memory", 1764177200000))
    there = server.run(name)
    assert (there["status"], there["tags"]["reason"]) == ("FAILED", "out of memory")
    assert server.ask(
        f"SELECT end_time FROM runs WHERE run_uuid = '{there['id']}'"
    ) == [(1764177200000,)]

    second = attempt(tmp_path, 2, name, kept.reached(first))
    points(second, range(3, 5), 2.0)
    kept.Points(second).write([{"param": "load", "value": "/attempts/2/last.ckpt"}])
    going_on = a_sender(first, second)
    going_on.send()
    there = server.run(name)
    assert there["status"] == "RUNNING" and "reason" not in there["tags"]
    going_on.send(sender.End("FINISHED"))
    there = server.run(name)
    assert there["status"] == "FINISHED" and there["tags"]["attempt"] == "2"
    assert there["params"]["load"] == "None", "the first value counts"
    values = [value for _, _, value in there["points"]]
    assert values == [1.0] * 3 + [2.0] * 2
    assert going_on.is_done("FINISHED")


def test_what_mlflow_refuses_for_ever_keeps_nothing_else_back(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = attempt(tmp_path, name="d" * 32)
    points(place, range(2))
    bad = {"time": 1, "key": "no*such?name", "value": 1.0, "step": 0}
    kept.Points(place).write([bad])
    points(place, range(2, 4))
    sending = a_sender(place)
    sending.send()
    assert [step for _, step, _ in server.run("d" * 32)["points"]] == [*range(4)]
    assert "warning: MLflow refuses a value: " in capsys.readouterr().err
    assert sending.is_done("")


# The phases of a training.


def phase(folder: Path, name: str, first: str) -> Path:
    family = kept.Family(first, "train-toy")
    kept.begin(folder, kept.Head(name, 1, family=family), {})
    points(folder, range(2))
    return folder


def test_phases_are_children_of_one_parent_whenever_they_are_sent(
    server: Server, tmp_path: Path
) -> None:
    first = "train-" + "1" * 32
    names = [digit * 31 + "a" for digit in "1234"]
    senders = [a_sender(phase(tmp_path / name, name, first)) for name in names]

    def parent_of(number: int) -> tuple[str, str]:
        found = server.run(first, parents.TAG)
        for name in names[:number]:
            assert server.run(name)["tags"][parents.CHILD_OF] == found["id"]
        return found["status"], found["tags"]["mlflow.runName"]

    senders[0].send()
    assert parent_of(1) == ("RUNNING", "train-toy")
    senders[0].send(sender.End("FINISHED"))
    assert parent_of(1)[0] == "FINISHED"
    # Two variants of the next phase at once; one that has failed is tried again.
    senders[1].send()
    senders[2].send()
    senders[1].send(sender.End("FAILED", "out of memory"))
    assert parent_of(3)[0] == "RUNNING"
    senders[2].send(sender.End("FINISHED"))
    assert parent_of(3)[0] == "FAILED"
    again = a_sender(tmp_path / names[1])
    again.send()
    assert parent_of(3)[0] == "RUNNING"
    again.send(sender.End("FINISHED"))
    # What another job has kept is sent when all is over, and another time.
    for _ in range(2):
        a_sender(tmp_path / names[3]).send(sender.End("FINISHED"))
        assert parent_of(4)[0] == "FINISHED"
        assert len(server.run(names[3])["points"]) == 2
        (tmp_path / names[3] / kept.SENT).unlink()


def test_two_that_make_the_parent_at_once_end_with_one(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = "train-" + "2" * 32
    names = [digit * 31 + "b" for digit in "12"]
    senders = [a_sender(phase(tmp_path / name, name, first)) for name in names]
    find = parents._found
    looks: list[Any] = []

    def too_early(*asked: Any) -> Any:
        """See nothing at the first look, as before the other one's word has come."""
        looks.append(asked)
        return None if len(looks) in {1, 3} else find(*asked)

    monkeypatch.setattr(parents, "_found", too_early)
    senders[0].send()
    senders[1].send()
    assert len(looks) == 4
    parent = server.run(first, parents.TAG)["id"]
    for name in names[:2]:
        assert server.run(name)["tags"][parents.CHILD_OF] == parent
    deleted = "SELECT COUNT(*) FROM runs WHERE lifecycle_stage = 'deleted'"
    assert server.ask(deleted) == [(1,)]


# All of it.


def test_a_run_whose_attempts_die(server: Server, toy: Experiment) -> None:
    toy.environ |= {tracking.URI: server.uri}
    toy.set("toy.yaml", grow__track=True, grow__do="raise", grow__at=1, phases=[{}])
    toy.ok("dvc", "repro", "make")
    said = toy.command("mllam-exps", "run", "grow").stdout
    assert "the weather is bad" in said
    [run] = toy.runs("grow")
    head = kept.head(run / "attempts/1/tracking")
    assert head is not None
    there = server.run(head.run)
    assert there["status"] == "FAILED" and "weather" in there["tags"]["reason"]
    parent = server.run(run.name, parents.TAG)
    assert parent["id"] == there["tags"][parents.CHILD_OF]
    assert parent["status"] == "FAILED"
    assert [step for _, step, _ in there["points"]] == [*range(5)]

    # It goes on from epoch 1, whose step 3 and 4 are there.
    toy.ok("mllam-exps", "run", "grow")
    there = server.run(head.run)
    assert there["status"] == "FINISHED" and "reason" not in there["tags"]
    assert server.run(run.name, parents.TAG)["status"] == "FINISHED"
    assert [step for _, step, _ in there["points"]] == [*range(9)]
    assert there["tags"]["attempt"] == "2" and "weather" in there["tags"]["attempt_1"]

    # An attempt and who waits for it are killed, as a node is lost; no server answers.
    ours, [made] = Run(run), toy.runs("make")
    server.go_away()
    toy.set("toy.yaml", grow__seconds=1.0, grow__epochs=30, grow__do="nothing")
    dying = toy.start("mllam-exps", "run", "grow")
    [run] = [one for one in eventually_runs(toy, 2) if one != run]
    log = run / "attempts/1/tracking" / kept.POINTS
    eventually(lambda: log.exists() and '"loss"' in log.read_text(), 60)
    started = json.loads((run / "attempts/1/started.json").read_text())
    for number in (dying.pid, started["pid"]):
        os.kill(number, signal.SIGKILL)
    dying.wait()
    # A page is added to the run that is over, too.
    page = toy.root / "page.html"
    page.write_text("the page")
    assert tracked.in_mlflow([Run(made), ours]) is ours
    tracked.keep_file(ours, page, "report.html")
    again = toy.command("mllam-exps", "track", "sync")
    assert again.returncode == 1, again.stdout
    assert "2 runs have points that are not sent: the MLflow server" in again.stdout
    listed = toy.ok("mllam-exps", "clean", "--dry-run", "--json")
    assert "not all that it logged was sent: mllam-exps track sync" in listed
    server.come()
    sent = toy.ok("mllam-exps", "track", "sync")
    assert f"{ours.key}: 1 values and files sent" in sent
    [added] = server.folder.glob("files/*/*/artifacts/report.html")
    assert added.read_text() == "the page"
    assert server.run(head.run)["status"] == "FINISHED"
    head = kept.head(log.parent)
    assert head is not None
    there = server.run(head.run)
    assert there["status"] == "FAILED" and there["tags"]["reason"]
    assert toy.ok("mllam-exps", "track", "sync") == "nothing is left to send\n"
    assert server.run(head.run) == there


def eventually_runs(toy: Experiment, number: int) -> list[Path]:
    eventually(lambda: len(toy.runs("grow")) == number, 60)
    return toy.runs("grow")
