"""A patch of MLflow's client: what a program logs is written to its attempt's file of points, and no server is asked.

MLflow (3.17) takes a store by the scheme of its address, and lets packages add schemes
by an entry point. Ours is added in the process itself, where an attempt has named a
file of points: elsewhere there is none.
"""

from __future__ import annotations

import os
from pathlib import Path

from mllam_exps.stages import mlflow_patch
from mllam_exps.stages.patch import Issue, Patch
from mllam_exps.stages.points import kept

SCHEME = "mllam-exps"

PATCH = Patch(
    name="keep_points",
    purpose="a tracking server that goes away stops no program and loses no value: what is logged is kept in a file",
    tried={"mlflow": ("3.17.2",)},
    spots={
        "mlflow.tracking._tracking_service.utils:_register": "register(scheme, builder)",
        "mlflow.store.tracking.abstract_store:AbstractStore": "def log_batch(",
    },
    until="MLflow keeps what it cannot send",
    issue=Issue(
        repository="mlflow/mlflow",
        title="Keep what a client logs while the tracking server is away, and send it later",
        body="""\
A training that logs each step waits for the tracking server in each step. When the server goes away, a
call waits for the client's retries, minutes by default, and then raises: the training ends, or the value
is lost. Clusters whose compute nodes have no internet cannot log to a server at all.

How it was seen (MLflow 3.17.2): `mlflow server`, stopped while a program called `MlflowClient.log_batch`
in a loop.

Proposal: a store that appends to a file and sends from there, as `wandb` has with `WANDB_MODE=offline` and
`wandb sync`. Sending the same metric twice is harmless already: the primary key of the SQL store's metrics
holds key, value, step and timestamp.
""",
    ),
)


def use_where_told(*, first: bool = True) -> kept.Head | None:
    """Have this process log to the file of points that its attempt has named; as ever where it has named none.

    Parameters
    ----------
    first : bool
        Whether this is the first of the processes that work on one thing. The others
        log nothing: what they would start is no run of its own.

    Returns
    -------
    Head or None
        What is known of the attempt's tracking run; None where nothing is kept.
    """
    mlflow_patch.apply()
    folder = os.environ.get(kept.VARIABLE)
    if not folder or not PATCH.fits():
        return None
    import mlflow
    from mlflow.tracking._tracking_service import utils

    from mllam_exps.stages.points.mlflow_store import KeptStore

    points = kept.Points(Path(folder))
    store = KeptStore(Path(folder), points if first else None)
    utils._register(SCHEME, lambda *_given, **_more: store)
    # MLflow remembers a store by its address.
    mlflow.set_tracking_uri(f"{SCHEME}:{folder}")
    return points.head
