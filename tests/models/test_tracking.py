"""Tracking: where it goes, that sixteen at once lose nothing, that a lost server fails no preparation."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import sqlite3
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mllam_exps.attempts import tracked
from mllam_exps.attempts.tracked import Synced
from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.runs.spec import Spec
from mllam_exps.stages import mlflow_patch, tracking
from mllam_exps.stages.points import kept, offline_wandb

SIXTEEN = """
import os, sys
from mllam_exps.stages import mlflow_patch, tracking
import mlflow, mlflow.store.tracking.sqlalchemy_store  # once, for all: 2.4 s each otherwise
project, artifacts = sys.argv[1:]

def train(number):
    tracking.make(project, artifacts)
    mlflow_patch.apply()  # as each program that logs
    client = mlflow.MlflowClient()
    run = client.create_run(client.get_experiment_by_name(project).experiment_id).info.run_id
    for step in range(10):
        values = [mlflow.entities.Metric(f"m{n}", number + step / 100, step, step) for n in range(20)]
        client.log_batch(run, metrics=values)

children = []
for number in range(16):
    child = os.fork()
    if not child:
        code = 1
        try:
            train(number)
            code = 0
        finally:
            os._exit(code)
    children.append(child)
sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))
"""


def run(
    code: str, origin: Path, *arguments: str, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run a Python program as an attempt does, in a folder of its own."""
    work = origin / "attempt"
    work.mkdir(exist_ok=True)
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MLLAM_", "MLFLOW_", "WANDB_"))
    }
    environ = {**inherited, **tracking.environment(origin, more), **more}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=work,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


def ask(origin: Path, question: str) -> list[tuple]:
    with closing(sqlite3.connect(origin / "mlflow.db")) as database:
        return database.execute(question).fetchall()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository's folder with a database made by `prepare`."""
    pytest.importorskip("mlflow")
    origin = tmp_path_factory.mktemp("a repo")
    environ = {**os.environ, **tracking.environment(origin, {})}
    tracking.prepare([sys.executable], origin, environ)
    return origin


def test_environment(tmp_path: Path) -> None:
    found = tracking.environment(
        tmp_path, {"MLFLOW_TRACKING_PASSWORD": "secret", "WANDB_API_KEY": "secret"}
    )
    assert found[tracking.URI] == f"sqlite:///{tmp_path}/mlflow.db"
    assert found["WANDB_DIR"] == str(tmp_path)
    assert "secret" not in found.values()
    assert (
        tracking.environment(tmp_path, {tracking.URI: "https://a.org/x"})[tracking.URI]
        == "https://a.org/x"
    )
    relative = tracking.environment(tmp_path, {tracking.URI: "sqlite:///other.db"})
    assert relative[tracking.URI] == f"sqlite:///{tmp_path}/other.db"


@pytest.mark.parametrize(
    "uri", ["https://me:secret@a.org/x", "postgresql://me:secret@a.org/x"]
)
def test_a_password_in_the_address_is_refused_and_not_shown(
    uri: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as refused:
        tracking.environment(tmp_path, {tracking.URI: uri})
    assert "secret" not in str(refused.value) and "://a.org/x" in str(refused.value)


def test_importing_and_a_ready_database_cost_no_mlflow(prepared: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from mllam_exps.stages import tracking; "
        "tracking.prepare(['/no/such/python'], Path('.'), os.environ); "
        "print([m for m in ('mlflow', 'wandb', 'torch', 'yaml', 'numpy') if m in sys.modules])"
    )
    done = run(code, prepared)
    assert done.stdout == "[]\n", done.stderr


def test_prepared_artifacts_lie_in_the_repository(prepared: Path) -> None:
    places = dict(ask(prepared, "SELECT name, artifact_location FROM experiments"))
    assert places["neural_lam"] == f"{prepared}/mlartifacts/neural_lam"
    assert (
        places["Default"].endswith(f"{prepared.name}/mlruns/0".replace(" ", "%20"))
        or str(prepared) in places["Default"]
    )


@pytest.mark.models
def test_sixteen_at_once_lose_nothing(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    done = run(SIXTEEN, tmp_path, "neural_lam", str(tmp_path / "mlartifacts"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert ask(tmp_path, "SELECT count(*), count(DISTINCT run_uuid) FROM metrics") == [
        (16 * 10 * 20, 16)
    ]
    assert ask(
        tmp_path, "SELECT count(*) FROM experiments WHERE name = 'neural_lam'"
    ) == [(1,)]
    # Write-ahead logging needs shared memory, which nodes of a cluster do not have.
    assert ask(tmp_path, "PRAGMA journal_mode") == [("delete",)]


def test_patience_beats_what_mlflow_sets(tmp_path: Path) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/x.db")
    mlflow_patch.apply()
    mlflow_patch.apply()
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("PRAGMA busy_timeout = 20000;"))
        assert (
            connection.execute(sqlalchemy.text("PRAGMA busy_timeout")).scalar()
            == 900_000
        )


class Known(http.server.BaseHTTPRequestHandler):
    """Knows one experiment."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        experiment = {
            "experiment_id": "1",
            "name": "neural_lam",
            "lifecycle_stage": "active",
        }
        self.wfile.write(json.dumps({"experiment": experiment}).encode())

    def log_message(self, *given: object) -> None: ...


@pytest.fixture
def server() -> Iterator[tuple[str, list[int]]]:
    """Return the address of an HTTP server, and the status that it answers with."""
    status = [200]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status[0])
            self.end_headers()

        def log_message(self, *given: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as here:
        threading.Thread(target=here.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{here.server_port}", status
        here.shutdown()


SAID = "API request to https://a.org/api/2.0/mlflow/experiments/get-by-name failed with exception HTTPSConnectionPool("
SAID += "host='a.org', port=443): Max retries exceeded with url: /api/2.0/mlflow/experiments/get-by-name (Caused by "


@pytest.mark.parametrize(
    ("said", "why", "way_out"),
    [  # MLflow 3.17.2's own words
        (
            f"{SAID}SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: "
            "self-signed certificate (_ssl.c:1006)')))",
            "the server's certificate is not trusted (self-signed certificate)",
            "MLFLOW_TRACKING_SERVER_CERT_PATH",
        ),
        (
            "API request to https://a.org/x failed with exception Could not find a suitable TLS CA certificate bundle, "
            "invalid path: /nowhere.pem",
            "there is no file /nowhere.pem on this host",
            "MLFLOW_TRACKING_SERVER_CERT_PATH",
        ),
        (
            f"{SAID}ProxyError('Unable to connect to proxy', NewConnectionError(\"HTTPSConnection(host='127.0.0.1', "
            'port=9): Failed to establish a new connection: [Errno 111] Connection refused")))',
            "the proxy does not answer: Connection refused",
            "no_proxy",
        ),
        (
            f"{SAID}NameResolutionError(\"HTTPConnection(host='nohost.invalid', port=80): Failed to resolve "
            "'nohost.invalid' ([Errno -2] Name or service not known)\"))",
            "the server does not answer: Name or service not known",
            "",
        ),
        (
            "API request to endpoint /api/2.0/mlflow/experiments/get-by-name failed with error code 401 != 200. "
            "Response body: '<html>Service says no</html>'",
            "the server refuses our credentials (401)",
            "~/.mlflow/credentials",
        ),
        (
            "API request to endpoint /api/2.0/x failed with error code 404 != 200. Response body: ''",
            "the server answers 404",
            "",
        ),
        (
            f"{SAID}ResponseError('too many 503 error responses'))",
            "the server answers 503",
            "",
        ),
        (
            f"{SAID}ReadTimeoutError(\"HTTPSConnectionPool(host='a.org', port=443): Read timed out. (read "
            'timeout=20)"))',
            "the server does not answer within 20 s",
            "",
        ),
        (
            "API request to endpoint was successful but the response body was not in a valid JSON format. Response "
            "body: '<html>Service says no</html>'",
            "what answers there is no MLflow server",
            "",
        ),
        (
            "(psycopg2.OperationalError) no\nmore of it",
            "(psycopg2.OperationalError) no",
            "",
        ),
    ],
)
def test_what_the_client_says_in_one_line(said: str, why: str, way_out: str) -> None:
    told, out = tracking.explain(said)
    assert told == why
    assert way_out in out and bool(way_out) == bool(out)


def test_an_experiment_in_the_trash_is_named_with_the_way_out(
    prepared: Path, tmp_path: Path
) -> None:
    origin = tmp_path / "repo"
    origin.mkdir()
    shutil.copy(prepared / "mlflow.db", origin)
    with closing(sqlite3.connect(origin / "mlflow.db")) as database:
        database.execute(
            "UPDATE experiments SET lifecycle_stage = 'deleted' WHERE name = 'neural_lam'"
        )
        database.commit()
    [(identity,)] = ask(
        origin, "SELECT experiment_id FROM experiments WHERE name = 'neural_lam'"
    )
    environ = {**os.environ, **tracking.environment(origin, {})}
    with pytest.raises(MllamError) as told:
        tracking.prepare([sys.executable], origin, environ)
    assert "neural_lam is in MLflow's trash" in str(told.value)
    assert f"mlflow experiments restore --experiment-id {identity}" in told.value.next


@pytest.fixture
def own_certificate(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Return the address of a server with a certificate of its own, and the file of that."""
    pytest.importorskip("mlflow")
    certificate, key = tmp_path / "site.pem", tmp_path / "key.pem"
    make = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    make += [
        "-keyout",
        str(key),
        "-out",
        str(certificate),
        "-subj",
        "/CN=site",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ]
    subprocess.run(make, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Known) as here:
        here.socket = context.wrap_socket(here.socket, server_side=True)
        threading.Thread(target=here.serve_forever, daemon=True).start()
        yield f"https://127.0.0.1:{here.server_port}", certificate
        here.shutdown()


def test_a_certificate_is_judged_with_the_settings_of_mlflows_client(
    own_certificate: tuple[str, Path], tmp_path: Path
) -> None:
    address, certificate = own_certificate
    environ = {
        **os.environ,
        tracking.URI: address,
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
    with pytest.raises(MllamError, match="certificate is not trusted"):
        tracking.prepare([sys.executable], tmp_path, environ)
    environ["MLFLOW_TRACKING_SERVER_CERT_PATH"] = str(certificate)
    tracking.prepare([sys.executable], tmp_path, environ)


def test_reachable(server: tuple[str, list[int]], tmp_path: Path) -> None:
    address, status = server
    assert tracking.reachable(address) == ""
    status[0] = 503
    assert tracking.reachable(address) == "", (
        "only MLflow's client knows what an answer means"
    )
    assert tracking.reachable(address.replace("http", "postgresql")) == ""
    for scheme in ("http", "postgresql"):
        why = tracking.reachable(f"{scheme}://me:secret@127.0.0.1:9/x")
        assert (
            "does not answer" in why
            and "refused" in why
            and "secret" not in why
            and "\n" not in why
        )
    assert tracking.reachable(f"sqlite:///{tmp_path}/mlflow.db") == ""
    assert "cannot be written" in tracking.reachable(
        "sqlite:////no/such/folder/mlflow.db"
    )


def test_prepare_says_in_one_line_what_is_wrong(tmp_path: Path) -> None:
    environ = {**os.environ, tracking.URI: "http://127.0.0.1:9"}
    with pytest.raises(MllamError, match=r"does not answer.*refused"):
        tracking.prepare([sys.executable], tmp_path, environ)
    environ[tracking.URI] = f"sqlite:///{tmp_path}/mlflow.db"
    with pytest.raises(MllamError, match="no room"):
        tracking.prepare(
            ["sh", "-c", "echo trace >&2; echo no room >&2; exit 1"], tmp_path, environ
        )


PREPARATION = """
import sys, time
from pathlib import Path
from mllam_exps.stages.neural_lam.preparation import preparation
output = Path("out.zarr")
Path("datastore.yaml").write_text("inputs: {danra: {path: /data/danra.zarr, dims: [time, x]}}\\n")
try:
    with preparation(Path("datastore.yaml"), output, interval=0.5):
        output.mkdir(exist_ok=True)
        for number in range(4):
            (output / str(number)).write_bytes(b"0" * 1000)
            time.sleep(0.4)
        if len(sys.argv) > 1:
            raise ValueError("the source has a hole")
except ValueError as error:
    print("raised", error)
print("prepared")
"""


@pytest.mark.models
def test_preparation_logs_configuration_load_and_size(prepared: Path) -> None:
    more = {
        "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "0.5",
        "MLLAM_EXPS_EXPERIMENT": "toy",
        "MLLAM_EXPS_KEY": "feed",
    }
    done = run(PREPARATION, prepared, **more)
    assert done.stdout == "prepared\n", done.stderr
    [(identity, status)] = ask(
        prepared, "SELECT run_uuid, status FROM runs WHERE name = 'prepare-toy'"
    )
    assert status == "FINISHED"
    mine = f"run_uuid = '{identity}'"
    sizes = [
        size
        for (size,) in ask(
            prepared, f"SELECT value FROM metrics WHERE key = 'output_bytes' AND {mine}"
        )
    ]
    assert len(sizes) >= 2 and sizes == sorted(sizes) and sizes[-1] == 4000
    assert (
        ask(
            prepared,
            f"SELECT count(*) FROM metrics WHERE key LIKE 'system/%' AND {mine}",
        )[0][0]
        > 0
    )
    assert ("inputs.danra.path", "/data/danra.zarr") in ask(
        prepared, f"SELECT key, value FROM params WHERE {mine}"
    )
    assert ("run_key", "feed") in ask(
        prepared, f"SELECT key, value FROM tags WHERE {mine}"
    )
    assert list(
        (prepared / "mlartifacts/neural_lam").glob("*/artifacts/datastore.yaml")
    )


@pytest.mark.models
def test_a_failed_preparation_fails_as_ever(prepared: Path) -> None:
    done = run(PREPARATION, prepared, "fail", MLLAM_EXPS_EXPERIMENT="failing")
    assert done.stdout == "raised the source has a hole\nprepared\n"
    assert ask(prepared, "SELECT status FROM runs WHERE name = 'prepare-failing'") == [
        ("FAILED",)
    ]


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:9", "sqlite:////no/such/folder/mlflow.db"]
)
def test_a_lost_server_is_one_warning(uri: str, tmp_path: Path) -> None:
    done = run(PREPARATION, tmp_path, MLFLOW_TRACKING_URI=uri)
    assert done.returncode == 0 and done.stdout == "prepared\n"
    assert (
        done.stderr.startswith("warning: data preparation is not tracked: ")
        and done.stderr.count("\n") == 1
    )


LABELLED = """
import os
from pathlib import Path
from pytorch_lightning.loggers import MLFlowLogger
from mllam_exps.stages import tracking

class Custom(MLFlowLogger): ...  # as neural-lam's is one

logger = Custom(experiment_name="neural_lam", tracking_uri=os.environ["MLFLOW_TRACKING_URI"])
tracking.label(logger, Path("tracking.json"))
print(logger.run_id)
"""


@pytest.mark.models
def test_labels_on_mlflow(prepared: Path) -> None:
    pytest.importorskip("pytorch_lightning")
    more = {
        "MLLAM_EXPS_STAGE": "train",
        "MLLAM_EXPS_EXPERIMENT": "toy",
        "MLLAM_EXPS_COMMIT": "0123abc",
        "MLLAM_EXPS_JOB": "",
    }
    done = run(LABELLED, prepared, **more)
    identity = done.stdout.strip()
    assert len(identity) == 32, done.stderr
    tags = dict(
        ask(prepared, f"SELECT key, value FROM tags WHERE run_uuid = '{identity}'")
    )
    assert (
        tags["stage"] == "train" and tags["experiment"] == "toy" and "job" not in tags
    )
    assert tags["git_commit"] == tags["mlflow.source.git.commit"] == "0123abc"
    assert json.loads((prepared / "attempt/tracking.json").read_text()) == {
        "logger": "mlflow",
        "run": identity,
    }


WANDB = """
from pathlib import Path
from pytorch_lightning.loggers import WandbLogger
from mllam_exps.stages import tracking
from mllam_exps.stages.points import offline_wandb
offline_wandb.log_steps_once()
tracking.wandb_folder(Path("runs/train-toy"), Path(".."))
# As neural-lam: with neither an identity nor what to do about it.
logger = WandbLogger(project="neural_lam", name="train-toy", save_dir="runs/train-toy", id=None, resume=None)
tracking.label(logger, Path("tracking.json"))
for step in range(4):
    logger.log_metrics({"loss": 1.0}, step)
print(dict(logger.experiment.config["mllam_exps"]))
logger.experiment.finish()
"""


@pytest.mark.models
def test_wandb_offline(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    name = "f" * 32
    kept.begin(tmp_path / "points", kept.Head(name, 2, {"loss": 1}, "wandb"), {})
    environ = {"WANDB_BASE_URL": "http://127.0.0.1:9", "MLLAM_EXPS_EXPERIMENT": "toy"}
    given, why = offline_wandb.variables(name, environ)
    assert given["WANDB_MODE"] == "offline"
    assert "the wandb server http://127.0.0.1:9 does not answer" in why
    told = {kept.VARIABLE: str(tmp_path / "points")} | given
    done = run(WANDB, tmp_path, **environ, **told)
    assert "{'experiment': 'toy'}" in done.stdout, done.stderr
    steps = [line.get("step") for _, line in kept.read(tmp_path / "points")]
    assert steps == [None, 2, 3], "of a step that is there nothing is logged again"
    [folder] = offline_wandb.folders(tmp_path, name)
    assert (folder / f"run-{name}.wandb").exists()
    (folder / f"run-{name}.wandb.synced").touch()
    assert not offline_wandb.folders(tmp_path, name)


def test_wandb_is_online_where_it_can_be(
    server: tuple[str, list[int]], tmp_path: Path
) -> None:
    environ = {"WANDB_BASE_URL": server[0], "NETRC": str(tmp_path / "netrc")}
    given, why = offline_wandb.variables("f", environ)
    assert given["WANDB_MODE"] == "offline"
    assert why == "there is no key for 127.0.0.1: wandb login"
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login user password key\n")
    online = {"WANDB_RUN_ID": "f", "WANDB_RESUME": "allow"}, ""
    assert offline_wandb.variables("f", environ) == online
    del environ["NETRC"]
    assert offline_wandb.variables("f", environ | {"WANDB_API_KEY": "k"}) == online
    told = {"WANDB_MODE": "disabled", "WANDB_BASE_URL": "http://127.0.0.1:9"}
    assert offline_wandb.variables("f", told) == online


def test_offline_folders_of_wandb_are_sent_by_wandb_itself(
    server: tuple[str, list[int]], tmp_path: Path
) -> None:
    name = "f" * 32
    folder = tmp_path / f"wandb/offline-run-20261126_120000-{name}"
    folder.mkdir(parents=True)
    settings = {"WANDB_DIR": str(tmp_path), "WANDB_BASE_URL": server[0]}
    spec = Spec("local", str(tmp_path), "toy", "", {}, settings)
    assert tracked._sync_wandb("e" * 32, spec, lambda words: ["false"]) is None
    refused = tracked._sync_wandb(name, spec, lambda words: ["echo", "no key"])
    assert refused == Synced(name, 0, "wandb sync: no key")

    def send(words: list[str]) -> list[str]:
        assert words[1:4] == ["-m", "wandb", "sync"]
        return ["touch", f"{words[4]}/run-{name}.wandb.synced"]

    assert tracked._sync_wandb(name, spec, send) == Synced(name, 1, "")
    settings["WANDB_BASE_URL"] = "http://127.0.0.1:9"
    (folder / f"run-{name}.wandb.synced").unlink()
    away = tracked._sync_wandb(name, spec, send)
    assert away and away.sent == 0 and "does not answer" in away.left
