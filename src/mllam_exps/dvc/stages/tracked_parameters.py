"""What counts of the parameters of a stage: that its program says, and nobody else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mllam_exps import stages
from mllam_exps.dvc.graph import StageEntry
from mllam_exps.dvc.stages.results import refuse_what_dvc_cannot_hash
from mllam_exps.identity.definition import VERSIONS_FILE, plain, without_names


def that_count(
    stage: StageEntry, file: str, values: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what counts of the values that a stage tracks of a parameter file.

    What a parameter means to a program, its stage says; a command of one's own takes
    each as it is.

    Parameters
    ----------
    file : str
        Seen from the repository's root.

    Raises
    ------
    UsageError
        If DVC cannot track a value.
    """
    if file == VERSIONS_FILE:
        values = without_names(values)
    else:
        refuse_what_dvc_cannot_hash(file, values)
    if file != VERSIONS_FILE and stage.is_ours:
        values = stages.counting(stage.name, file, values)
    return {name: plain(value, f"{file}: {name}") for name, value in values.items()}
