"""Inputs that may be executed now, and could not when a known result was made from them; or the other way round.

DVC (3.67) takes a result as that of the same inputs where only their modes differ, and so
does a run key. git keeps the mode: a person should know.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mllam_exps.base.errors import CheckFailed
from mllam_exps.identity.content import executable
from mllam_exps.identity.definition import RunDefinition
from mllam_exps.runs import outputs
from mllam_exps.runs.store import Run


def notes(run: Run, definition: RunDefinition, root: Path) -> Iterator[str]:
    """Yield what to say of a run's known result.

    Parameters
    ----------
    root : Path
        The checkout whose inputs are to give that result. Of files in folders no mode
        was written down.
    """
    if not definition.commands or run.result is None:
        return
    try:
        read = outputs.result_attempt(run).inputs.by_path
    except CheckFailed:
        return  # whoever needs the record tells that it is damaged
    for source in definition.inputs:
        described, place = read.get(source.path), root / source.path
        if source.run or described is None or not place.is_file():
            continue
        is_now, was = bool(executable(place)), bool(described.get("isexec"))
        if is_now != was:
            change = "could be executed" if was else "could not be executed yet"
            yield (
                f"{definition.stage} has a result that was made when {source.path} {change}: "
                "a file's mode counts neither for DVC nor here; --force makes it again"
            )
