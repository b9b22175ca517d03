"""Tells people that a submitted experiment has ended: by a command, or by a webhook. Mail is Slurm's."""

from __future__ import annotations

import http.client
import json
import os
import stat
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from mllam_exps import schedulers
from mllam_exps.base.errors import Problem
from mllam_exps.machines.machine_files import Machine
from mllam_exps.runs.records import Outcome
from mllam_exps.submission.experiment import Experiment

PATIENCE = 30.0


def message(experiment: Experiment, outcome: str, problem: Problem) -> dict[str, Any]:
    """Return what is told."""
    failed = outcome != Outcome.SUCCEEDED
    told, way_out = problem.sentence, problem.next
    text = f"experiment {experiment.name} {'failed: ' + told if failed else 'is done'}"
    return {
        "text": f"{text}\n{way_out or f'mllam-exps show {experiment.name}'}",
        "experiment": experiment.name,
        "state": "failed" if failed else "done",
        "reason": told,
        "parameters": " ".join(experiment.changed),
        "repository": experiment.origin,
        "user": experiment.user,
    }


def tell(
    experiment: Experiment, machine: Machine, outcome: str, problem: Problem
) -> None:
    """Tell whom the machine file names. A message that does not get through is no failure: it is said in the log."""
    settings = machine.notify
    if ("end" if outcome == Outcome.SUCCEEDED else "fail") not in settings.on:
        return
    text = json.dumps(message(experiment, outcome, problem))
    failures = []
    if settings.command:
        failures.append(_run(list(settings.command), text, Path(experiment.origin)))
    if settings.webhook_file:
        failures.append(_post(Path(settings.webhook_file).expanduser(), text))
    for failure in filter(None, failures):
        print(f"warning: nobody was told: {failure}", flush=True)


def _run(command: list[str], text: str, directory: Path) -> str:
    environ = schedulers.child_environment(os.environ)
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            env=environ,
            input=text,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"notify.command: {error}"
    return f"notify.command: exit code {done.returncode}" if done.returncode else ""


def _post(file: Path, text: str) -> str:
    """Post to the URL in a file; what the file says is a secret, and in no message."""
    try:
        if stat.S_IMODE(file.stat().st_mode) & 0o077:
            return (
                f"notify.webhook_file: {file} may be read by others; chmod 600 {file}"
            )
        url = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        return f"notify.webhook_file: {error.strerror}: {file}"
    if not url.startswith(("https://", "http://")):
        return f"notify.webhook_file: {file} holds no URL"
    request = urllib.request.Request(  # noqa: S310
        url, text.encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE):  # noqa: S310 - checked above
            return ""
    except (
        urllib.error.URLError,
        OSError,
        ValueError,
        http.client.HTTPException,
    ) as error:
        # Not what they say: some quote the URL.
        return f"notify.webhook_file: {type(error).__name__}"
