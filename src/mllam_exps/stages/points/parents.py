"""One MLflow run above the phases of a training: their parent, as MLflow nests runs.

A phase belongs to the parent of the *first* phase that it goes on from, whose run key
the parent's tag `TAG` holds. So each phase has one parent, whoever asks for it, in
whatever job, and knows it before it has run; experiments that share their first phase
are children of one parent, and tell themselves apart by their tags ``experiment``,
``phase`` and ``phase_before``.

The parent logs nothing, and stands as its children do. All of it can be said again at
any time, and changes nothing then.
"""

from __future__ import annotations

from typing import Any

from mllam_exps.stages.points.kept import Family

TAG = "mllam_exps.first_phase"
CHILD_OF = "mlflow.parentRunId"
"""The tag by which MLflow (3.17) nests a run below another one."""
RUNNING, FINISHED = "RUNNING", "FINISHED"
_STRONGEST = (RUNNING, "FAILED", "KILLED")
"""What the parent is where one of its children is that; else it has finished."""


def adopt(client: Any, child: Any, family: Family) -> None:
    """Put a run below its parent, which is made where it is not there, and let that stand as its children do.

    Parameters
    ----------
    client : MlflowClient
    child : mlflow.entities.Run
        The run that is a phase.
    family : Family
        What it is a phase of.
    """
    parent = _found(client, child, family) or _made(client, child, family)
    identity = parent.info.run_id
    if child.data.tags.get(CHILD_OF) != identity:
        client.set_tag(child.info.run_id, CHILD_OF, identity)
    status, place = parent.info.status, child.info.experiment_id
    # Another child may end between the look and the word: whoever speaks last looks
    # once more.
    while (now := _standing(client, place, identity)) != status:
        status = now
        if status == RUNNING:
            client.update_run(identity, status=RUNNING)
        else:
            client.set_terminated(identity, status, child.info.end_time)


def _found(client: Any, child: Any, family: Family) -> Any:
    """Return the parent; of several, which were made at the same moment, the one that all take.

    MLflow keeps nobody from making a second one. Whoever sees two gives the first by
    name the children of the others, and removes these.
    """
    place = child.info.experiment_id
    found = client.search_runs([place], f"tags.`{TAG}` = '{family.first}'")
    several = sorted(found, key=lambda one: str(one.info.run_id))
    for one in several[1:]:
        theirs = f"tags.`{CHILD_OF}` = '{one.info.run_id}'"
        for other in client.search_runs([place], theirs):
            client.set_tag(other.info.run_id, CHILD_OF, several[0].info.run_id)
        client.delete_run(one.info.run_id)
    return several[0] if several else None


def _made(client: Any, child: Any, family: Family) -> Any:
    client.create_run(
        child.info.experiment_id,
        start_time=child.info.start_time,
        tags={TAG: family.first},
        run_name=family.name,
    )
    return _found(client, child, family)


def _standing(client: Any, place: str, identity: str) -> str:
    """Return how the parent stands, by those of its children that have not finished."""
    asked = f"tags.`{CHILD_OF}` = '{identity}' and attributes.status != '{FINISHED}'"
    theirs = {one.info.status for one in client.search_runs([place], asked)}
    return next((status for status in _STRONGEST if status in theirs), FINISHED)
