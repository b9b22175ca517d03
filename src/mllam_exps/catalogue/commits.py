"""What commits of experiments hold, for the catalogue. It does not change, so each is read once.

git is asked without hooks, and runs no filter for what is asked here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mllam_exps.base.git import ask_git, git_objects
from mllam_exps.catalogue.facts import (
    Facts,
    parameters,
    parents,
    scores,
    with_hash,
)
from mllam_exps.catalogue.in_git import Kept
from mllam_exps.dvc.lockfile import FILE as LOCK
from mllam_exps.dvc.saved.lock_facts import Lock, read_values
from mllam_exps.identity.definition import RESUME_FROM, VERSIONS_FILE, is_parent
from mllam_exps.runs.state.judge import RunState
from mllam_exps.views.rows import INCOMPLETE

LARGEST = 2**24
"""Bytes of a file that are read of a commit."""
AT_ONCE = 500
"""Commits that are read at a time."""


class Reader:
    """Reads commits.

    Parameters
    ----------
    prefix : str
        Where DVC's repository lies in git's; empty at the top.
    """

    def __init__(self, clone: Path) -> None:
        self.prefix = ask_git(clone, "rev-parse", "--show-prefix")

    def read(self, wanted: Sequence[Kept]) -> Iterator[tuple[str, Facts]]:
        """Yield commits with what is known of them."""
        by_place: dict[Path, list[Kept]] = {}
        for one in wanted:
            by_place.setdefault(one.repository, []).append(one)
        for repository, there in by_place.items():
            for first in range(0, len(there), AT_ONCE):
                yield from self._read(repository, there[first : first + AT_ONCE])

    def _read(
        self, repository: Path, several: Sequence[Kept]
    ) -> Iterator[tuple[str, Facts]]:
        def told(one: Kept, path: str) -> str:
            return f"{one.commit}:{self.prefix}{path}"

        names = [name for one in several for name in (one.commit, told(one, LOCK))]
        names += [told(one, "dvc.yaml") for one in several]
        found = git_objects(repository, names, LARGEST)
        locks = {
            one.commit: Lock(_text(found[told(one, LOCK)]) or "") for one in several
        }
        names = []
        for one in several:
            lock = locks[one.commit]
            paths = {*lock.parameter_files, *lock.facts(lambda _: None).scores}
            names += [told(one, path) for path in paths]
        found |= git_objects(repository, names, LARGEST)
        for one in several:

            def text_of(path: str, one: Kept = one) -> str | None:
                return _text(found.get(told(one, path)))

            facts = _facts(one, _text(found[one.commit]) or "")
            _add(facts, locks[one.commit], text_of)
            yield one.commit, facts


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode("utf-8", errors="replace")


def _facts(one: Kept, commit: str) -> Facts:
    """Return who made a commit, and when."""
    author, at = "", 0.0
    for line in commit.split("\n\n", 1)[0].splitlines():
        who, _, when = line.rpartition("> ")
        if who.startswith("author "):
            author = who.removeprefix("author ").partition(" <")[0]
        if who.startswith("committer ") and when.split(" ")[0].isdigit():
            at = min(float(when.split(" ")[0]), 1e11)
    return Facts(one.name, author, str(RunState.DONE), at, commit=one.commit)


def _add(facts: Facts, lock: Lock, text_of: Callable[[str], str | None]) -> None:
    """Put into the facts of an experiment what its commit tells."""
    told = lock.facts(text_of)
    facts.values |= parameters(told.params)
    for path in told.scores:
        if (text := text_of(path)) is not None:
            facts.values |= scores(path, text.encode())
    facts.data = tuple(with_hash(*one) for one in told.inputs.items())
    facts.outs = told.outs
    facts.parent = tuple(_parents(told.params.get(VERSIONS_FILE, {})))
    stages = (read_values("dvc.yaml", text_of("dvc.yaml") or "") or {}).get("stages")
    if told.left or not lock.has_all(stages):
        facts.state = INCOMPLETE


def _parents(versions: Mapping[str, Any]) -> Iterator[str]:
    for name, value in versions.items():
        if is_parent(name) and isinstance(value, Mapping):
            # Either of one stage, or of all by stage.
            each = value.values() if name == RESUME_FROM else (value,)
            for one in each:
                yield from parents(one) if isinstance(one, Mapping) else ()
