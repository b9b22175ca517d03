"""Which variables of the submitter's environment a job gets: those that are named here, if they hold no secret.

Slurm keeps the environment of a job in its spool, and the run store keeps an
experiment's settings, which a team can read. So a job gets only variables that are
named here, and none whose value shows a credential.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_USER = (
    "HOME",
    "LOGNAME",
    "USER",
    "SHELL",
    "PATH",
    "TZ",
    "LANG",
    "LANGUAGE",
    "TMPDIR",
)

# ssh hands on whatever is called LC_…, so people put secrets there: only those of POSIX
# and glibc are locales.
_LOCALE = (
    "LC_ALL",
    "LC_COLLATE",
    "LC_CTYPE",
    "LC_MESSAGES",
    "LC_MONETARY",
    "LC_NUMERIC",
    "LC_TIME",
    "LC_ADDRESS",
    "LC_IDENTIFICATION",
    "LC_MEASUREMENT",
    "LC_NAME",
    "LC_PAPER",
    "LC_TELEPHONE",
)
# "C", "C.UTF-8", "POSIX", "de_DE.UTF-8@euro"
_A_LOCALE = re.compile(
    r"(C|POSIX|[a-z]{2,3}(_[A-Z]{2,3})?)(\.[\w-]{1,12})?(@\w{1,12})?"
)

OURS = ("MLLAM_MACHINE_OPTIONS", "MLLAM_VENV_PATH")
"""What counts when a job is submitted, and not inside of it."""

CLIENTS = (
    # MLflow 3.17: mlflow/environment_variables.py
    "MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_INSECURE_TLS",
    "MLFLOW_TRACKING_SERVER_CERT_PATH",
    "MLFLOW_TRACKING_CLIENT_CERT_PATH",
    "MLFLOW_TRACKING_AUTH",
    "MLFLOW_TRACKING_AWS_SIGV4",
    "MLFLOW_DISABLE_TELEMETRY",
    "MLFLOW_WORKSPACE",
    "MLFLOW_LOGGING_LEVEL",
    "MLFLOW_ALLOW_HTTP_REDIRECTS",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES",
    "MLFLOW_HTTP_REQUEST_TIMEOUT",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER",
    "MLFLOW_S3_ENDPOINT_URL",
    "MLFLOW_S3_IGNORE_TLS",
    "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD",
    "MLFLOW_ENABLE_MULTIPART_UPLOAD",
    "MLFLOW_ENABLE_ASYNC_LOGGING",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING",
    "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL",
    "MLFLOW_SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING",
    "DO_NOT_TRACK",
    # wandb 0.31: wandb/env.py, and its settings in upper case. Not what makes runs one:
    # WANDB_RUN_ID, WANDB_NAME.
    "WANDB_MODE",
    "WANDB_BASE_URL",
    "WANDB_APP_URL",
    "WANDB_ENTITY",
    "WANDB_HOST",
    "WANDB_USERNAME",
    "WANDB_DIR",
    "WANDB_CACHE_DIR",
    "WANDB_CONFIG_DIR",
    "WANDB_DATA_DIR",
    "WANDB_ARTIFACT_DIR",
    "WANDB_INSECURE_DISABLE_SSL",
    "WANDB_HTTP_TIMEOUT",
    "WANDB_INIT_TIMEOUT",
    "WANDB_HTTP_PROXY",
    "WANDB_HTTPS_PROXY",
    "WANDB_IDENTITY_TOKEN_FILE",
    "WANDB_CREDENTIALS_FILE",
    "WANDB_ERROR_REPORTING",
    "WANDB_SILENT",
    "WANDB_QUIET",
    "WANDB_CONSOLE",
    "WANDB_TAGS",
    "WANDB_NOTES",
    "WANDB_RUN_GROUP",
    "WANDB_DISABLE_CODE",
    "WANDB_DISABLE_GIT",
    "WANDB_SAVE_CODE",
    "WANDB_IGNORE_GLOBS",
    # Where certificates and credentials lie, which requests, urllib, botocore and libpq
    # read: paths, no secrets.
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NETRC",
    "PGPASSFILE",
    "AWS_CA_BUNDLE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
)
"""What a tracking client, or a proxy before it, needs in a job."""

SETTINGS = (*OURS, *CLIENTS)
"""What is kept with an experiment, and counts for its jobs whoever submits them later."""

_SCRIPT = "export it in a script, mode 0600, that environment.source of the machine file names"
_AWS = "put it into ~/.aws/credentials, mode 0600"
_MLFLOW_CREDENTIALS = "put it into ~/.mlflow/credentials, mode 0600"
_PROJECT = "logger_project in params.yaml is the name"
_OWN_RUN = "each attempt is a run of its own"
INSTEAD = {
    "WANDB_API_KEY": "put it into ~/.netrc (wandb login)",
    "MLFLOW_TRACKING_USERNAME": _MLFLOW_CREDENTIALS,
    "MLFLOW_TRACKING_PASSWORD": _MLFLOW_CREDENTIALS,
    "AWS_ACCESS_KEY_ID": _AWS,
    "AWS_SECRET_ACCESS_KEY": _AWS,
    "AWS_SESSION_TOKEN": _AWS,
    "MLFLOW_EXPERIMENT_NAME": _PROJECT,
    "WANDB_PROJECT": _PROJECT,
    "MLFLOW_RUN_ID": _OWN_RUN,
    "MLFLOW_EXPERIMENT_ID": _OWN_RUN,
    "WANDB_RUN_ID": _OWN_RUN,
    "WANDB_NAME": _OWN_RUN,
    "WANDB_RESUME": _OWN_RUN,
}
"""What never goes along, and where its client finds it instead."""
_OF_CLIENTS = ("MLFLOW_", "WANDB_", "AWS_")
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH")
# An address with user, password or token in it: https://me:secret@host,
# me:secret@host:3128, …?token=…
_CREDENTIAL = re.compile(
    r"://[^/\s]*@|[?&;][\w-]*(password|passwd|secret|token|key|sig)\w*=", re.IGNORECASE
)
_PROXY_CREDENTIAL = re.compile(r"^[^/\s@]+@")
# Databases name their user before the host; their password comes from ~/.pgpass or the
# like.
_USER_ONLY = re.compile(r"://[^/\s:@]*@")


def of_job(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what a job gets of its submitter's environment."""
    user = {name: environ[name] for name in _USER if name in environ}
    locale = {}
    for name in _LOCALE:
        if _A_LOCALE.fullmatch(environ.get(name, "")):
            locale[name] = environ[name]
    return user | locale | _without_credentials(environ, CLIENTS)


def settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what is kept of an environment with an experiment."""
    return _without_credentials(environ, SETTINGS)


def left_behind(environ: Mapping[str, str]) -> list[str]:
    """Name the variables of tracking clients and proxies that no job gets, why, and what to do; no values."""
    along = of_job(environ)
    notes = []
    for name in sorted(environ):
        why = _why_left_behind(name) if environ[name] and name not in along else ""
        if why:
            notes.append(f"{name} does not reach a job{why}")
    return notes


def _why_left_behind(name: str) -> str:
    """Say why no job gets a variable, and what to do; empty unless it belongs to a tracking client or a proxy."""
    if name in CLIENTS:
        return f", as it carries a credential: {_SCRIPT}"
    if name in INSTEAD:
        return f": {INSTEAD[name]}"
    if not name.startswith(_OF_CLIENTS):
        return ""
    if _SECRET_NAME.search(name):
        return f": {_SCRIPT}"
    return ": set it in environment.variables of the machine file"


def _without_credentials(
    environ: Mapping[str, str], names: tuple[str, ...]
) -> dict[str, str]:
    chosen = {}
    for name in names:
        value = environ.get(name)
        if value and not _holds_credential(name, value):
            chosen[name] = value
    return chosen


def _holds_credential(name: str, value: str) -> bool:
    if name in OURS:
        return False
    if name.endswith("_URI"):
        value = _USER_ONLY.sub("://", value, count=1)
    if name.lower().endswith("_proxy") and _PROXY_CREDENTIAL.search(value):
        return True
    return bool(_CREDENTIAL.search(value))
