"""Reads every file of results, in the run store and in DVC's cache, and sees to what is damaged."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import MllamError
from mllam_exps.base.records import Trouble
from mllam_exps.dvc.cache import Cache
from mllam_exps.dvc.stages.phases import is_before_the_last
from mllam_exps.identity.content import Difference
from mllam_exps.machines.workspace import OUTSIDE
from mllam_exps.runs import outputs
from mllam_exps.runs.locks import SUBMISSIONS, lock
from mllam_exps.runs.results import Result
from mllam_exps.runs.state.assess import assess
from mllam_exps.runs.state.judge import RunState
from mllam_exps.runs.store import Run, RunStore
from mllam_exps.submission import experiments
from mllam_exps.submission.applying import apply_command, made_again
from mllam_exps.submission.experiment import Experiment

IN_STORE, IN_CACHE = "the run store", "DVC's cache"

LEFT, MAKE_READABLE = "left as it is", "make it readable, or ask its owner to"

NOT_BELIEVED = "not believed"
"""What is done about a result of which the record is damaged: who makes it again sets the record aside."""


@dataclass(frozen=True)
class Damage:
    """A damaged file, and what becomes of it.

    Parameters
    ----------
    file, what : str
        Which one, and what is wrong with it.
    place : str
        `IN_STORE` or `IN_CACHE`.
    run, stage : str
        What made it.
    experiments : list of str
        Those that need it.
    done : str
        What was done about it.
    next : str
        What to type; empty where nothing has to be.
    """

    file: str
    what: str
    place: str
    run: str
    stage: str
    experiments: list[str]
    done: str
    next: str


@dataclass
class FoundDamage:
    """What was read, and what of it is damaged."""

    results: int = 0
    files: int = 0
    bytes: int = 0
    damaged: list[Damage] = field(default_factory=list)
    brought_back: list[str] = field(default_factory=list)
    """Saved experiments of which DVC's cache had lost something, which it has again from the run store."""

    def to_record(self) -> dict[str, Any]:
        """Return it, JSON-able."""
        return asdict(self)


@dataclass
class Verifier:
    """Verifies results of a run store.

    Parameters
    ----------
    store, cache
        The run store, and DVC's cache of the repository.
    tell : callable
        Is told the size of each file that was read.
    origin : str
        That repository: the cache of another one may be another cache.
    """

    store: RunStore
    cache: Cache
    tell: Callable[[int], None] = lambda _bytes: None
    origin: str = ""

    def __post_init__(self) -> None:
        self.found = FoundDamage()
        self._everything = list(experiments.of_store(self.store))
        self._seen: set[str] = set()
        self._missed: set[str] = set()

    def size(self, runs: Iterable[Run]) -> int:
        """Return how many bytes the results of runs have."""
        size = 0
        for run in runs:
            result = run.result
            if result is not None:
                size += sum(int(out.size or 0) for out in result.outputs.values())
        return size

    def verify(self, runs: Iterable[Run]) -> FoundDamage:
        """Read all that runs have made."""
        for run in runs:
            if run.result is not None:
                self.found.results += 1
                self._verify_result(run)
            elif run.damage is not None:
                self._note_record(run, run.damage)
            self._verify_cache(run)
            self._bring_back(run)
        return self.found

    def verify_known(self, experiment: Experiment) -> None:
        """Read what an experiment has of DVC's cache alone: results that DVC knew when it was submitted."""
        for step in experiment.steps:
            for path, known in step.known.items():
                run = self.store.run(step.key)
                self._verify_objects(run, path, str(known["digest"]))

    def _verify_result(self, run: Run) -> None:
        damaged = list(outputs.damage(run, thorough=True, tell=self._count))
        if not damaged and (stale := outputs.made_from_another(run)):
            damaged = [stale]
        if not damaged:
            return
        # Submissions hold this lock: none is about to hand out what is set aside here.
        with lock(self.store, SUBMISSIONS, wait=True):
            error = outputs.set_aside(run, damaged)
        done, way_out = "set aside", ""
        if run.result is not None:
            done, way_out = error.why or LEFT, error.next
        for difference in damaged:
            self._note(run, difference, IN_STORE, done, way_out)

    def _note_record(self, run: Run, trouble: Trouble) -> None:
        done, way_out = NOT_BELIEVED, ""
        if trouble.hidden:
            done, way_out = LEFT, MAKE_READABLE
        self.found.results += 1
        difference = Difference(trouble.path, trouble.why)
        self._note(run, difference, IN_STORE, done, way_out)

    def _verify_cache(self, run: Run) -> None:
        """Read the objects of a run's outputs that are files of their own; of a result that was set aside, too."""
        same = self._files_of_the_store(run)
        result = run.result or _set_aside_last(run)
        for path, output in result.outputs.items() if result else ():
            self._verify_objects(run, path, output.digest, same)
            if run.result is None and self._kept(run, path):
                self._refuse_missing(run, output.digest)

    def _bring_back(self, run: Run) -> None:
        """Give DVC's cache again what it has lost of saved experiments, as by ``dvc gc --workspace``."""
        needing = self._needing(run)
        own = [one for one in needing if one.origin == self.origin]
        names = [one.name for one in own if one.saving.result is not None]
        if run.result is None or not names or _is_before_the_last(run, needing):
            return
        # What is damaged is told already.
        with contextlib.suppress(outputs.Damaged):
            if outputs.bring_back(self.cache, run):
                new = {*names} - {*self.found.brought_back}
                self.found.brought_back += sorted(new)

    def _kept(self, run: Run, path: str) -> bool:
        """Tell whether an output is one that DVC's cache keeps: not git, nor the next phase alone."""
        if _is_before_the_last(run, self._needing(run)):
            return False
        definition = run.definition
        made = definition.outputs if definition else ()
        return any(output.path == path and output.cached for output in made)

    def _refuse_missing(self, run: Run, digest: str) -> None:
        """Note what DVC's cache lacks and the run store cannot give back, as somebody set the result aside."""
        for one in self.cache.objects(digest):
            if not self.cache.holds(one) and one not in self._missed:
                self._missed.add(one)
                self._note(
                    run,
                    Difference(self.cache.path(one), "is gone"),
                    IN_CACHE,
                    "removed",
                    "dvc pull",
                )

    def _files_of_the_store(self, run: Run) -> set[tuple[int, int]]:
        """Return the files of a good result: the same ones are not read again under their second name."""
        if run.result is None:
            return set()
        attempt = outputs.result_attempt(run)
        found = set()
        for place in attempt.manifest.files_in(attempt.outputs):
            # What cannot be looked at is told already, and the others are read.
            with contextlib.suppress(OSError):
                one = place.stat()
                found.add((one.st_dev, one.st_ino))
        return found

    def _verify_objects(
        self,
        run: Run,
        path: str,
        digest: str,
        same: Iterable[tuple[int, int]] = frozenset(),
    ) -> None:
        # First the list of a folder's files, which names the others.
        for sizes in ({digest: None}, self.cache.objects(digest)):
            unseen = {}
            for one, size in sizes.items():
                if one not in self._seen and not self._is_in(one, same):
                    unseen[one] = size
            self._seen |= unseen.keys()
            found = self.cache.damage(unseen, thorough=True, tell=self._count)
            for difference in list(found):
                self._mend(run, path, difference)

    def _is_in(self, digest: str, same: Iterable[tuple[int, int]]) -> bool:
        try:
            found = self.cache.path(digest).stat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) in same

    def _mend(self, run: Run, path: str, difference: Difference) -> None:
        """Remove a damaged object, and give the cache a good one where the run store has it."""
        done, way_out = _remove(difference)
        made = outputs.description(run, path)
        if done == "removed" and made is not None:
            try:
                outputs.into_cache(self.cache, run, {path: made})
                done, way_out = "replaced from the run store", ""
            except (MllamError, OSError) as error:
                done = f"removed, and not replaced: {error}"
        self._missed.add(difference.path.parent.name + difference.path.name)
        self._note(run, difference, IN_CACHE, done, way_out)

    def _note(
        self, run: Run, difference: Difference, place: str, done: str, way_out: str
    ) -> None:
        needing = self._needing(run)
        names = sorted({one.name for one in needing}) or sorted({*_asked_for_by(run)})
        if done in {"set aside", NOT_BELIEVED}:
            way_out = _way_out(run, needing, names)
        elif done == "removed":
            way_out = f"{way_out}, or {_way_out(run, needing, names)}"
        file, what = str(difference.path), difference.what
        self.found.damaged.append(
            Damage(file, what, place, run.key, run.stage, names, done, way_out)
        )

    def _needing(self, run: Run) -> list[Experiment]:
        found = []
        for experiment in self._everything:
            if run.key in [step.key for step in experiment.steps]:
                found.append(experiment)
        return found

    def _count(self, size: int) -> None:
        self.found.files += 1
        self.found.bytes += size
        self.tell(size)


def _remove(difference: Difference) -> tuple[str, str]:
    """Remove a damaged object of DVC's cache; return what was done, and what is to be done."""
    if not difference.certain:
        return LEFT, MAKE_READABLE
    try:
        difference.path.unlink(missing_ok=True)
    except OSError as error:
        done = f"it cannot be removed ({error.strerror})"
        return done, "have its owner type mllam-exps verify"
    return "removed", "dvc pull"


def _way_out(run: Run, needing: list[Experiment], names: list[str]) -> str:
    """Return what makes a result again that was set aside."""
    unsaved = set()
    for experiment in needing:
        done = assess(experiment.saving).state is RunState.DONE
        if experiment.is_mine and not done:
            unsaved.add(experiment.name)
    if unsaved:
        return f"mllam-exps retry {' '.join(sorted(unsaved))}"
    if _is_before_the_last(run, needing):
        return "what is saved needs it no more; a phase that goes on from it makes it again"
    for experiment in sorted(needing, key=lambda one: one.name, reverse=True):
        if command := apply_command(experiment, Path(experiment.origin)):
            return made_again(command)
    if needing:
        return needing[-1].submit_again
    if names and names != [OUTSIDE]:
        return made_again(f"dvc exp apply {shlex.quote(names[-1])}")
    return "dvc exp run, or mllam-exps submit: what needs it makes it again"


def _is_before_the_last(run: Run, needing: list[Experiment]) -> bool:
    """Tell whether a run is a phase before the last of each experiment that has it."""
    named: set[str] = set()
    for experiment in needing:
        named |= {step.stage for step in experiment.steps if step.key == run.key}
    return bool(named) and all(map(is_before_the_last, named))


def _set_aside_last(run: Run) -> Result | None:
    """Return the newest result of a run that was set aside."""
    for attempt in reversed(run.attempts()):
        if (aside := attempt.set_aside) is not None and aside.result is not None:
            return aside.result
    return None


def _asked_for_by(run: Run) -> Iterator[str]:
    attempt = run.last_attempt()
    if attempt is not None and (claim := attempt.claim) is not None:
        yield claim.experiment


def runs_of(store: RunStore, chosen: Iterable[Experiment]) -> list[Run]:
    """Return the runs of experiments, each once."""
    keys = dict.fromkeys(step.key for one in chosen for step in one.steps)
    return [store.run(key) for key in keys if Path(store.run(key).directory).is_dir()]
