"""The tree of trainings that go on from one another, across experiments: ``mllam-exps show EXP --lineage``.

It is read from the run store: a run that is a phase names the run before it; one that
goes on from another experiment's names the files that it takes, by their hashes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mllam_exps import stages
from mllam_exps.identity.definition import VERSIONS_FILE, RunDefinition, flat, same
from mllam_exps.runs import askers, outputs
from mllam_exps.runs.state.judge import judge
from mllam_exps.runs.state.observe import observe
from mllam_exps.runs.store import Run, RunStore
from mllam_exps.submission import experiments

NEW = "new"


@dataclass
class Training:
    """One run of a stage that goes on from others, in the tree.

    Parameters
    ----------
    name : str
        Its stage, with the phase, if it is one; of a checkpoint from elsewhere its
        hash.
    key : str
        Its run; empty of a checkpoint from elsewhere.
    experiments : list of str
        Those that it belongs to.
    state : str
        As `status` says it; empty of a checkpoint from elsewhere.
    differs : list of str
        The parameters that are others than in the training that it goes on from.
    asked : bool
        Whether it belongs to the experiment that was asked for.
    then : list of Training
        Those that go on from it.
    """

    name: str
    key: str = ""
    experiments: list[str] = field(default_factory=list)
    state: str = ""
    differs: list[str] = field(default_factory=list)
    asked: bool = False
    then: list[Training] = field(default_factory=list)

    @property
    def line(self) -> str:
        """What it is, in a line."""
        parts = [self.name]
        if self.experiments:
            parts.append(f"of {', '.join(self.experiments)}")
        if self.differs:
            parts.append(f"({', '.join(self.differs)})")
        told = " ".join(parts)
        return f"{told}: {self.state}" if self.state else told

    def to_record(self) -> dict[str, Any]:
        """Return it and what goes on from it, JSON-able."""
        return {
            "name": self.name,
            "key": self.key or None,
            "experiments": self.experiments,
            "state": self.state or None,
            "differs": self.differs,
            "asked": self.asked,
            "then": [one.to_record() for one in self.then],
        }


def trees(store: RunStore, asked: Collection[str]) -> list[Training]:
    """Return the trees in which runs stand, as `Family.trees` does."""
    return Family.of(store).trees(asked)


@dataclass
class Family:
    """The runs of a store that go on from others, or could be gone on from."""

    runs: dict[str, tuple[Run, RunDefinition]]
    names: Mapping[str, list[str]]
    _before: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, store: RunStore) -> Family:
        """Read the runs of a store."""
        runs: dict[str, tuple[Run, RunDefinition]] = {}
        for run in store.runs():
            is_ours = stages.has_program(run.stage)
            if is_ours and stages.get(run.stage).goes_on is not None:
                definition = run.definition
                if definition is not None:
                    runs[run.key] = run, definition
        names: dict[str, list[str]] = {}
        for experiment in experiments.of_store(store):
            for step in experiment.steps:
                names.setdefault(step.key, []).append(experiment.name)
        for key, (run, _) in runs.items():
            others = [one.name for one in askers.of(run, names.get(key, ()))]
            names.setdefault(key, []).extend(others)
        known = cls(runs, names)
        made = known._made()
        for key, (_, definition) in runs.items():
            if before := known._comes_behind(definition, made):
                known._before[key] = before
        return known

    def trees(self, asked: Collection[str]) -> list[Training]:
        """Return the trees in which runs stand: from the first training on, with all that go on from one of them.

        Parameters
        ----------
        asked : collection of str
            The keys of the runs of one experiment.
        """
        roots = dict.fromkeys(self._first(key) for key in asked if key in self.runs)
        return [self._tree(root, None, {*asked}) for root in roots]

    def _made(self) -> dict[tuple[str, str], str]:
        """Return the runs that made the files which others go on from, by path and hash."""
        paths: set[str] = set()
        for _, definition in self.runs.values():
            paths |= {*(definition.parent.get("files") or ())}
        found: dict[tuple[str, str], str] = {}
        for key, (run, _) in self.runs.items():
            for path in paths if run.result is not None else ():
                if digest := outputs.known_digest(run, path):
                    found.setdefault((path, digest), key)
        return found

    @staticmethod
    def _comes_behind(
        definition: RunDefinition, made: Mapping[tuple[str, str], str]
    ) -> str:
        """Return the key of the run that one goes on from, or what else is known of it; empty where it begins."""
        if definition.phase_before:
            return definition.phase_before
        files: Mapping[str, str] = definition.parent.get("files") or {}
        if not files:
            return ""
        path, digest = next(iter(files.items()))
        return made.get((path, digest), f"{path} {digest[:8]}, made elsewhere")

    def _first(self, key: str) -> str:
        """Return the first of those that a run goes on from, one behind the other."""
        seen = {key}
        while (before := self._before.get(key)) and before not in seen:
            seen.add(before)
            key = before
        return key

    def _tree(self, key: str, before: str | None, asked: set[str]) -> Training:
        """Return a run with all that go on from it."""
        behind = [one for one, other in self._before.items() if other == key]
        then = [self._tree(one, key, asked) for one in sorted(behind, key=self._begun)]
        if key not in self.runs:
            return Training(key, then=then)
        run, definition = self.runs[key]
        phase = f", phase {definition.phase}" if definition.phase else ""
        return Training(
            name=f"{run.stage}{phase}",
            key=key,
            experiments=list(dict.fromkeys(self.names.get(key, ()))),
            state=str(judge(observe(run)).state).replace(NEW, "not run"),
            differs=list(self._differences(definition, before)),
            asked=key in asked,
            then=then,
        )

    def _begun(self, key: str) -> float:
        return self.runs[key][0].begun_at

    def _differences(
        self, definition: RunDefinition, before: str | None
    ) -> Iterator[str]:
        if before not in self.runs:
            return
        other = self.runs[before][1]
        for file, values in definition.params.items():
            if file == VERSIONS_FILE:
                continue
            there = other.params.get(file, {})
            for name, value in flat(values):
                if not same(value, dict(flat(there)).get(name)):
                    yield f"{name}: {value}"
