"""A patch of MLflow: it waits longer for a busy database file, where it would give up and lose values."""

from __future__ import annotations

from typing import Any

from mllam_exps.stages.patch import Issue, Patch

PATIENCE_SECONDS = 900
_ASKED = "PRAGMA busy_timeout"

PATCH = Patch(
    name="mlflow_patch",
    purpose="programs that log to one database file at the same time wait for each other, and lose no value",
    tried={"mlflow": ("3.17.2",), "sqlalchemy": ("2.1.9",)},
    spots={
        "mlflow.store.db.utils": _ASKED,
        "sqlalchemy.engine:Engine": "",
    },
    until="MLflow lets its users set the time that it waits for a busy SQLite database",
    issue=Issue(
        repository="mlflow/mlflow",
        title="Let users set SQLite's busy_timeout: 20 s are too short where many runs log at once",
        body="""\
`mlflow/store/db/utils.py` sets `PRAGMA busy_timeout = 20000` in each session of a SQLite store. SQLite
lets one process write at a time, in no order. With 16 training runs that log to one
`sqlite:///mlflow.db` on a slow disk, 7 of 16 ended with `sqlite3.OperationalError: database is locked`,
and their values are lost.

How it was seen (MLflow 3.17.2): 16 programs that log to the same `sqlite:///` address at once, on a
slow disk.

Proposal: an environment variable, e.g. `MLFLOW_SQLALCHEMYSTORE_BUSY_TIMEOUT` in seconds, 20 by default,
beside the other `MLFLOW_SQLALCHEMYSTORE_…` ones.
""",
    ),
)


def apply() -> None:
    """Make this process wait long for a busy database file.

    MLflow (3.17) sets the wait in each session. To be called in each program that logs;
    harmless when repeated, and with other kinds of address.
    """
    if not PATCH.fits():
        return
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    if not event.contains(Engine, "before_cursor_execute", _longer):
        event.listen(Engine, "before_cursor_execute", _longer, retval=True)


def _longer(  # noqa: PLR0917  # SQLAlchemy's signature
    connection: Any,
    cursor: Any,
    statement: str,
    parameters: Any,
    context: Any,
    many: bool,
) -> tuple[str, Any]:
    if statement.startswith(_ASKED):
        statement = f"{_ASKED} = {PATIENCE_SECONDS * 1000};"
    return statement, parameters
