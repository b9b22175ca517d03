"""Which variables go along with a job, and what is said of those that don't."""

from __future__ import annotations

import pytest

from mllam_exps.machines import job_environment
from mllam_exps.schedulers.slurm import batch_script

ALONG = {
    "HOME": "/h", "LC_ALL": "C.UTF-8", "LC_NUMERIC": "de_DE.UTF-8@euro", "WANDB_MODE": "offline",
    "WANDB_BASE_URL": "https://wandb.site.example", "MLFLOW_TRACKING_INSECURE_TLS": "true",
    "MLFLOW_TRACKING_SERVER_CERT_PATH": "/etc/site.pem", "REQUESTS_CA_BUNDLE": "/etc/site.pem",
    "https_proxy": "http://proxy.site.example:3128", "HTTP_PROXY": "proxy:3128", "no_proxy": "localhost,.site.example",
    "MLFLOW_TRACKING_URI": "postgresql://me@db.site.example/mlflow", "SSL_CERT_FILE": "/etc/site.pem",
}  # fmt: skip


def test_what_a_client_needs_goes_along() -> None:
    assert job_environment.of_job(ALONG) == ALONG
    assert batch_script.environment(ALONG) == ALONG
    assert job_environment.left_behind(ALONG) == []
    kept = {
        name: value for name, value in ALONG.items() if name in job_environment.CLIENTS
    }
    assert job_environment.settings(ALONG | {"MLLAM_VENV_PATH": "/v"}) == kept | {
        "MLLAM_VENV_PATH": "/v"
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LC_TOKEN", "hunter2"),
        ("LC_IDENTIFICATION", "hunter2"),  # a name that glibc knows, and no locale
        ("SLURM_JOB_ID", "1"),
        ("SBATCH_ACCOUNT", "x"),
        ("MY_PASSWORD", "hunter2"),
        ("OMP_NUM_THREADS", "4"),
    ],
)
def test_what_is_not_named_goes_nowhere(name: str, value: str) -> None:
    assert (
        job_environment.of_job({name: value})
        == job_environment.settings({name: value})
        == {}
    )


@pytest.mark.parametrize(
    ("name", "value", "way_out"),
    [
        ("WANDB_API_KEY", "hunter2", "~/.netrc"),
        ("MLFLOW_TRACKING_PASSWORD", "hunter2", "~/.mlflow/credentials"),
        ("MLFLOW_TRACKING_TOKEN", "hunter2", "environment.source"),
        ("AWS_SECRET_ACCESS_KEY", "hunter2", "~/.aws/credentials"),
        ("https_proxy", "http://me:hunter2@proxy:3128", "environment.source"),
        ("HTTPS_PROXY", "me:hunter2@proxy:3128", "environment.source"),
        ("all_proxy", "socks5://hunter2@proxy", "environment.source"),
        ("WANDB_BASE_URL", "https://site.example/?token=hunter2", "environment.source"),
        (
            "MLFLOW_TRACKING_URI",
            "https://me:hunter2@site.example",
            "environment.source",
        ),
        ("MLFLOW_GCS_DOWNLOAD_CHUNK_SIZE", "hunter2", "environment.variables"),
        ("MLFLOW_EXPERIMENT_NAME", "hunter2", "logger_project"),
    ],
)
def test_what_stays_behind_is_named_and_its_value_is_not(
    name: str, value: str, way_out: str
) -> None:
    assert (
        job_environment.of_job({name: value})
        == job_environment.settings({name: value})
        == {}
    )
    [note] = job_environment.left_behind({name: value})
    assert note.startswith(f"{name} does not reach a job")
    assert way_out in note and "hunter2" not in note
