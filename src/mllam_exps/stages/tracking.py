"""Tracking with MLflow or Weights & Biases: where it goes, what labels it, and that many at once lose nothing.

neural-lam logs its own trainings and evaluations; `neural_lam.preparation` tracks what
it has no part in. What they log to MLflow goes by `points`.
Importing this imports neither client: MLflow alone takes 2.4 s.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shlex
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from mllam_exps.base.endings.last_words import last_line
from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.stages import mlflow_patch

_ARROW = "  → "

URI = "MLFLOW_TRACKING_URI"
PROJECT = "neural_lam"
"""neural-lam's own default of ``--logger-project``: MLflow's experiment, wandb's project."""

_LABELS = {
    "stage": "MLLAM_EXPS_STAGE",
    "experiment": "MLLAM_EXPS_EXPERIMENT",
    "git_commit": "MLLAM_EXPS_COMMIT",
    "machine": "MLLAM_EXPS_MACHINE",
    "job": "MLLAM_EXPS_JOB",
    "run_key": "MLLAM_EXPS_KEY",
}


def environment(
    origin: Path, environ: Mapping[str, str], project: str = PROJECT
) -> dict[str, str]:
    """Return the variables that tell MLflow and wandb where to log; none of them is a secret.

    Parameters
    ----------
    origin : Path
        The repository in which the user works.
    environ : mapping
        The user's: a `MLFLOW_TRACKING_URI` there wins over the database in the
        repository.
    project : str
        What the runs are listed under; where it is empty the user's word counts.

    Raises
    ------
    UsageError
        When the user's address carries a password, which would end up in records and
        job scripts.
    """
    uri = environ.get(URI) or "sqlite:///mlflow.db"
    if uri.startswith(
        "sqlite:///"
    ):  # relative to the repository, not to each program's own folder
        uri = f"sqlite:///{origin.resolve() / uri.removeprefix('sqlite:///')}"
    if urlsplit(uri).password:
        raise UsageError(
            "carries a password, which would be written into job scripts",
            URI,
            next=f"export {URI}={public(uri)}, with the password in ~/.mlflow/credentials or ~/.pgpass",
        )
    # neural-lam 0.7 starts an MLflow run on each rank; only rank zero's names its
    # experiment itself.
    named = {"MLFLOW_EXPERIMENT_NAME": project} if project else {}
    return {
        URI: uri,
        **named,
        # MLflow 3 reports its use over the network, which compute nodes do not have.
        "MLFLOW_DISABLE_TELEMETRY": environ.get("MLFLOW_DISABLE_TELEMETRY", "true"),
        "WANDB_DIR": environ.get(
            "WANDB_DIR", str(origin.resolve())
        ),  # wandb makes `wandb/` in it
    }


def public(uri: str) -> str:
    """Return an address without user and password, to be shown."""
    return re.sub(r"(?<=://)[^/@]*@", "", uri)


def reachable(uri: str, timeout: float = 5.0, server: str = "the MLflow server") -> str:
    """Return why a tracking server's address cannot be used, in one line; empty when it may be.

    Cheap, without MLflow: a connection, or for a database file whether it can be
    written. MLflow itself tries an absent server for minutes. Whether a server's
    certificate and our credentials are good, only MLflow's client knows, as only that
    has the site's settings for it: `prepare` asks with it.
    """
    parts = urlsplit(uri)
    if parts.scheme == "sqlite":
        file = _database(uri)
        blocked = file if file.exists() else file.parent
        return "" if os.access(blocked, os.W_OK) else f"{blocked} cannot be written"
    # A folder, or a name such as `databricks` that only MLflow knows; or a host that is
    # reached by a proxy.
    if not parts.hostname or _by_proxy(parts.scheme, parts.hostname):
        return ""
    known = {"http": 80, "https": 443, "mysql": 3306, "mssql": 1433}
    try:
        port = parts.port or known.get(parts.scheme.partition("+")[0], 5432)
        socket.create_connection((parts.hostname, port), timeout).close()
    except (OSError, ValueError) as error:
        return f"{server} {public(uri)} does not answer: {error}"
    return ""


def _by_proxy(scheme: str, host: str) -> bool:
    from urllib.request import getproxies, proxy_bypass

    proxies = getproxies()
    return ("all" in proxies or scheme in proxies) and not proxy_bypass(host)


_CREDENTIALS = "put the right ones into ~/.mlflow/credentials, mode 0600"
# What MLflow 3.17 says with requests 2.34: the pattern, what that means, and the way
# out.
_ANSWERS = (
    (
        re.compile(r"certificate verify failed: ([^('\"]*)"),
        "the server's certificate is not trusted ({})",
        "export MLFLOW_TRACKING_SERVER_CERT_PATH=FILE, with the certificate of the site's authority",
    ),
    (
        re.compile(r"TLS CA certificate bundle, invalid path: (.*)"),
        "there is no file {} on this host",
        "export MLFLOW_TRACKING_SERVER_CERT_PATH=FILE, one that the nodes see, too",
    ),
    (
        re.compile(r"ProxyError\(.*?(?:\[Errno -?\d+\] )([\w ]+)"),
        "the proxy does not answer: {}",
        "mend https_proxy, or name the server in no_proxy",
    ),
    (
        re.compile(r"error code (401|403)\b"),
        "the server refuses our credentials ({})",
        _CREDENTIALS,
    ),
    (re.compile(r"error code (\d+) != 200"), "the server answers {}", ""),
    (re.compile(r"too many (\d+) error responses"), "the server answers {}", ""),
    (
        re.compile(r"(not in a valid JSON format)"),
        "what answers there is no MLflow server",
        "",
    ),
    (
        re.compile(r"timed out.*?timeout=(\d+)"),
        "the server does not answer within {} s",
        "",
    ),
    (re.compile(r"\[Errno -?\d+\] ([\w ]+)"), "the server does not answer: {}", ""),
)


def explain(said: str) -> tuple[str, str]:
    """Return what MLflow's client says in one line for people, and the way out; pure."""
    for pattern, meaning, way_out in _ANSWERS:
        if found := pattern.search(said):
            return meaning.format(found[1].strip()), way_out
    return public(said.strip().splitlines()[0]) if said.strip() else "", ""


def prepare(
    python: Sequence[str],
    origin: Path,
    environ: Mapping[str, str],
    project: str = PROJECT,
    timeout: float = 300.0,
) -> None:
    """Make sure that the place to log to is there, before any number of programs log to it at once.

    MLflow (3.17) makes its database without a lock: of 16 programs that did so at once,
    all 16 failed. And of those that make the same experiment at once, all but one fail.

    Parameters
    ----------
    python : sequence of str
        What starts the Python of the environment in which the stages run.
    origin : Path
        The repository in which the user works.
    environ : mapping
        The whole environment of the program, `environment`'s variables included.
    project : str
        The experiment to make.
    timeout : float
        Seconds, for waiting and making together.

    Raises
    ------
    MllamError
        When the place cannot be used, with the reason in one line.
    """
    uri = environ[URI]
    if _ready(uri, project):
        return
    if why := reachable(uri):
        hint = "start the server, or set logger: wandb in params.yaml"
        raise MllamError(why, URI, next=hint if not uri.startswith("sqlite:") else "")
    # The address comes by the environment: a command line is there for everyone to
    # read.
    command = [
        *python,
        "-m",
        "mllam_exps.stages.tracking",
        "prepare",
        project,
        str(origin.resolve() / "mlartifacts"),
    ]
    patience = {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
        **environ,
    }
    try:
        done = subprocess.run(
            command,
            cwd=origin,
            env=patience,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MllamError(
            "MLflow cannot be made ready", public(uri), str(error)
        ) from error
    if done.returncode:
        told = last_line(done.stderr) or f"exit code {done.returncode}"
        why, _, way_out = told.partition(_ARROW)
        raise MllamError("MLflow cannot be made ready", public(uri), why, way_out)


def wandb_folder(run: Path, origin: Path) -> None:
    """Let wandb's files of a run land in ``wandb/`` of the user's repository, where `wandb sync` finds them.

    neural-lam 0.7 hands wandb the run's own folder, which beats `WANDB_DIR`; so that
    folder gets a link.
    """
    home = origin.resolve() / "wandb"
    home.mkdir(exist_ok=True)
    run.mkdir(parents=True, exist_ok=True)
    if not (run / "wandb").exists():
        (run / "wandb").symlink_to(home)


def labels(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what a tracking run belongs to: stage, experiment, commit, machine, job, run key."""
    return {
        name: environ[variable]
        for name, variable in _LABELS.items()
        if environ.get(variable)
    }


def label(logger: Any, path: Path) -> None:
    """Label the tracking run behind a Lightning logger, and note its id.

    Parameters
    ----------
    logger : Logger
        Lightning's; other than MLflow's and wandb's are left alone.
    path : Path
        Where the id is noted.
    """
    kinds = {kind.__name__ for kind in type(logger).__mro__}
    given = labels(os.environ)
    if "MLFlowLogger" in kinds:
        from mlflow.entities import RunTag

        if commit := given.get("git_commit"):
            # MLflow finds none by itself: an attempt's folder is no repository.
            given["mlflow.source.git.commit"] = commit
        run = str(logger.run_id)
        logger.experiment.log_batch(
            run, tags=[RunTag(name, value) for name, value in given.items()]
        )
        path.write_text(json.dumps({"logger": "mlflow", "run": run}))
    if "WandbLogger" in kinds:
        logger.experiment.config.update({"mllam_exps": given}, allow_val_change=True)
        path.write_text(
            json.dumps({"logger": "wandb", "run": str(logger.experiment.id)})
        )


def _database(uri: str) -> Path:
    return Path(uri.removeprefix("sqlite:///").partition("?")[0])


def _ready(uri: str, project: str) -> bool:
    """Tell, without MLflow, whether a database file is complete and has the experiment."""
    if not uri.startswith("sqlite:///") or not _database(uri).is_file():
        return False
    asked = "SELECT name FROM experiments WHERE lifecycle_stage = 'active' OR experiment_id = 0"
    try:
        # The experiment 0, "Default", is the last thing that MLflow adds to a new
        # database.
        with contextlib.closing(
            sqlite3.connect(_database(uri), timeout=20)
        ) as database:
            return {"Default", project} <= {name for (name,) in database.execute(asked)}
    except sqlite3.Error:
        return False


def make(project: str, artifacts: str) -> None:
    """Make database and experiment; the one who holds the lock does, the others find it made."""
    uri = os.environ[URI]
    local = uri.startswith("sqlite:///")
    with contextlib.ExitStack() as held:
        if local:
            lock = held.enter_context(Path(f"{_database(uri)}.lock").open("w"))
            with contextlib.suppress(
                OSError
            ):  # a file system without locks: as unsafe as MLflow is by itself
                fcntl.flock(lock, fcntl.LOCK_EX)
        if _ready(uri, project):
            return
        from mlflow import MlflowClient

        mlflow_patch.apply()
        client = MlflowClient(uri)
        # MLflow's default is ./mlruns of whoever makes the experiment: an attempt's
        # folder, soon gone.
        place = str(Path(artifacts) / quote(project, safe="")) if local else None
        _make_experiment(client, project, place)


def _make_experiment(client: Any, project: str, place: str | None) -> None:
    known = client.get_experiment_by_name(project)
    if known is None:
        try:
            client.create_experiment(project, artifact_location=place)
        except Exception:
            # Someone else made it between the two calls, which is as good.
            known = client.get_experiment_by_name(project)
            if known is None:
                raise
    # MLflow 3.17 finds one that was deleted by its name, too, and makes no other of
    # that name.
    if known is not None and known.lifecycle_stage != "active":
        restore = f"mlflow experiments restore --experiment-id {known.experiment_id}"
        raise MllamError(
            f"the experiment {project} is in MLflow's trash",
            next=f"{URI}={shlex.quote(os.environ[URI])} {restore}, or another logger_project in params.yaml",
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Make ready what `MLFLOW_TRACKING_URI` names: ``prepare PROJECT ARTIFACTS``, called by `prepare`."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if len(given) != 3 or given[0] != "prepare":
        print(
            "usage: python -m mllam_exps.stages.tracking prepare PROJECT ARTIFACTS",
            file=sys.stderr,
        )
        return 2
    try:
        make(given[1], given[2])
    except MllamError as error:
        print(f"{error.what}{_ARROW}{error.next}", file=sys.stderr)
        return 1
    except Exception as error:
        why, way_out = explain(str(error))
        print(
            f"{why or type(error).__name__}{_ARROW if way_out else ''}{way_out}",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
