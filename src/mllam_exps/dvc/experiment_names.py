"""Names of experiments: which of them DVC has, which it takes, and new ones."""

from __future__ import annotations

import subprocess
from collections.abc import Collection
from pathlib import Path

from mllam_exps.base.errors import UsageError
from mllam_exps.dvc.saved import experiment_refs
from mllam_exps.identity.content import is_utf8

LONGEST_NAME = 200
"""git keeps a ref in a file of its name, and a lock beside it; a sweep's experiments are counted."""


def saved_in_git(origin: Path, baseline: str) -> dict[str, str]:
    """Return the DVC experiments that start from a commit: their own commits, by name."""
    found: dict[str, str] = {}
    for one in experiment_refs.saved(origin):
        if one.starts_from(baseline):
            found[one.name] = one.commit
    return found


def check_name(name: str) -> None:
    """Refuse a name that DVC or git would.

    Raises
    ------
    UsageError
        With what is wrong.
    """
    if not is_utf8(name):
        way_out = "export LC_ALL=C.UTF-8, or use another name"
        raise UsageError("is not UTF-8", f"-n {name!a}", next=way_out)
    if len(name.encode()) > LONGEST_NAME:
        what, where = "is too long for an experiment's name", f"-n {name[:20]}…"
        raise UsageError(what, where, f"{LONGEST_NAME} bytes fit")
    command = ["git", "check-ref-format", experiment_refs.ref_of("0" * 40, name)]
    is_ref = subprocess.run(command, check=False).returncode == 0
    if not is_ref or "/" in name or name.startswith("-"):
        raise UsageError(
            "cannot be an experiment's name",
            f"-n {name!r}",
            "git takes no spaces, `..`, `~^:?*[\\`, no dot at an end; DVC no slash",
            "letters, digits, - and _ are good",
        )


def new_name(taken: Collection[str]) -> str:
    """Return a name as DVC makes them up, that is not taken."""
    from dvc.repo.experiments.utils import gen_random_name

    while (name := str(gen_random_name())) in taken:
        pass
    return name
