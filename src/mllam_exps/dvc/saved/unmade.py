"""What ``dvc repro`` would still run, or not find, in a new clone that has an experiment and all of its data.

DVC (3.67) tells of a workspace what has changed, and of a commit nothing.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mllam_exps.dvc.repository import Repository
from mllam_exps.dvc.saved import holdings
from mllam_exps.dvc.saved.commits import Commit


def unmade(repository: Repository, commit: str) -> dict[str, str]:
    """Return a sentence for each thing that is unmade in a commit, or that nobody else can have.

    With what mends it, and nothing where a run does.
    """
    found: dict[str, str] = {}
    with repository.at(commit) as there:
        index = there.opened.index
        kept = [Path(out.fs_path) for out in index.outs]
        for stage in index.stages:
            name = getattr(stage, "name", there.relative(stage.path))
            told = [*_not_kept(there, stage)]
            if stage.cmd and not stage.frozen:
                told = [*_open(there, stage, kept), *told]
            found |= {f"{name} {what}": mends for what, mends in told}
    held = holdings.of(Commit(repository.root, commit))
    return found | {
        f"{stage}: {why}": "" for stage, why in (held.left if held else {}).items()
    }


def _open(there: Repository, stage: Any, kept: list[Path]) -> Iterator[tuple[str, str]]:
    """Say whether a stage was never run, or reads what neither git nor DVC keeps."""
    if not all(one.hash_info for one in (*stage.outs, *stage.deps)):
        yield "was not run", ""
    for dep in stage.deps:
        path = Path(dep.fs_path)
        if not dep.is_in_repo or dep.fs.exists(str(path)):
            continue
        # It may be a part of an output, or a folder with outputs in it.
        if not any(path in {one, *one.parents} or one in path.parents for one in kept):
            name = there.relative(path)
            mends = f"dvc add {shlex.quote(name)}, git commit, then dvc exp run"
            yield f"reads {name}, which neither git nor DVC has", mends


def _not_kept(there: Repository, stage: Any) -> Iterator[tuple[str, str]]:
    """Say which outputs stay where they were made."""
    for out in stage.outs:
        name = there.relative(out.fs_path)
        if out.use_cache and not out.can_push:
            mends = f"leave out push: false of {name} in dvc.yaml, then dvc exp run"
            yield f"makes {name}, which is not to be pushed (push: false)", mends
        # What `dvc repro` makes each time, wherever it runs, nobody has to have.
        if out.use_cache or stage.always_changed or not out.is_in_repo:
            continue
        if not out.fs.exists(out.fs_path):
            mends = f"leave out cache: false of {name} in dvc.yaml, then dvc exp run"
            yield f"makes {name}, which neither git nor DVC has (cache: false)", mends
