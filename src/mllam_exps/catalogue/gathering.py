"""All experiments that the team's store, the share and this clone know of, each once."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mllam_exps.base import ownership, records
from mllam_exps.base.records import Trouble
from mllam_exps.catalogue import asked, in_git, submitted
from mllam_exps.catalogue.asked import Notes
from mllam_exps.catalogue.entries import Catalogue, Entry
from mllam_exps.catalogue.facts import Facts, OfRuns, Values
from mllam_exps.catalogue.in_git import Kept
from mllam_exps.catalogue.index import Index, Remembered
from mllam_exps.catalogue.marks import all_marks
from mllam_exps.dvc.cache_place import cache_directory
from mllam_exps.machines.values import FOLDER
from mllam_exps.machines.workspace import Workspace, is_reproduced
from mllam_exps.runs import layout
from mllam_exps.runs.state.judge import RunState
from mllam_exps.runs.store import Run, RunStore
from mllam_exps.sharing import share
from mllam_exps.submission.experiment import Experiment

if TYPE_CHECKING:
    from mllam_exps.views.rows import Row

_STORE_SETTING = b"run_store"
"""How the setting is called in machine files (`paths.run_store`)."""


def store_of(workspace: Workspace, cache: Path) -> RunStore:
    """Return the run store, as `Context.store` does; machine files that do not name one are not read."""
    files = workspace.origin / FOLDER
    named = _STORE_SETTING in os.fsencode(os.environ.get("MLLAM_MACHINE_OPTIONS", ""))
    if named or any(
        _STORE_SETTING in file.read_bytes() for file in files.glob("*.yaml")
    ):
        from mllam_exps.machines import machine_files

        machine = machine_files.pick(workspace.origin, os.environ, socket.gethostname())
        return RunStore(workspace.store_directory(machine, cache))
    return RunStore(cache / share.RUN_STORE)


def gather(tell: Callable[[int], None]) -> Catalogue:
    """Return the catalogue, as it is seen from the workspace of the current directory.

    Parameters
    ----------
    tell : callable
        Is told how many experiments are about to be read, which are not remembered.
    """
    workspace = Workspace.here()
    cache = cache_directory(workspace.origin)
    store = store_of(workspace, cache)
    look = _Gathering(workspace.origin, store, share.of_cache(cache), tell)
    try:
        return look.catalogue()
    except KeyboardInterrupt:
        # The next look goes on from here.
        look.index.write(look.fresh, {}, [])
        raise


@dataclass
class _Gathering:
    """One look at all experiments."""

    clone: Path
    store: RunStore
    shared: share.Share | None
    tell: Callable[[int], None]
    runs: OfRuns = field(default_factory=OfRuns)
    fresh: dict[str, tuple[str, Facts]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Open what is remembered."""
        self.index = Index(self.store.directory)
        self.known = self.index.entries()

    def catalogue(self) -> Catalogue:
        """Return all of it."""
        entries = list(self._submitted())
        entries += self._saved(entries)
        notes = Notes(self.index.notes())
        asked_for = list(self._asked(notes, entries))
        _have_one_under_way(asked_for, self.clone)
        entries += asked_for
        self._mark(entries)
        seen = {entry.number for entry in entries}
        gone = [one.number for one in self.known.values() if one.number not in seen]
        return Catalogue(self.store, self.index, entries, self.fresh, notes.fresh, gone)

    def _entry(self, identity: str, before: Remembered) -> Entry:
        return Entry(identity, before.facts, before.number)

    def _submitted(self) -> Iterator[Entry]:
        unknown = []
        for place in submitted.places(self.store):
            identity = place.rpartition("/")[2]
            before = self.known.get(identity)
            watched = before.facts.watched if before else ()
            told = submitted.fingerprint(place, watched)
            if before is not None and before.fingerprint == told:
                yield self._entry(identity, before)
            else:
                unknown.append((identity, place))
        self.tell(len(unknown))
        for identity, place in unknown:
            found = _defended(
                Path(place), partial(submitted.read, place, self.runs, _look)
            )
            if found is None:
                continue
            facts, told = found
            if told:
                self.fresh[identity] = told, facts
            yield Entry(identity, facts)

    def _saved(self, ours: list[Entry]) -> list[Entry]:
        """Return what git keeps; what was submitted gets the name that it has there, and what the store lacks."""
        by_commit = self._by_commit(ours)
        places = [self.clone] + ([self.shared.directory] if self.shared else [])
        found: dict[str, Kept] = {}
        names: dict[str, set[str]] = {}
        for place in places:
            for one in in_git.kept(place):
                found.setdefault(one.commit, one)
                names.setdefault(one.commit, set()).add(one.name)
        wanted = []
        for commit, one in found.items():
            own = by_commit.get(commit)
            if own is not None and own.facts.name not in names[commit]:
                own.facts.name = one.name  # it was renamed
            if own is None or own.facts.is_partial:
                wanted.append(one)
        return list(self._read_commits(wanted, by_commit))

    def _read_commits(
        self, wanted: list[Kept], ours: Mapping[str, Entry]
    ) -> Iterator[Entry]:
        unknown = [one for one in wanted if one.commit not in self.known]
        self.tell(len(unknown))
        read = _read_commits(self.clone, unknown) if unknown else {}
        for one in wanted:
            facts = read.get(one.commit)
            if facts is not None:
                self.fresh[one.commit] = "", facts
                entry = Entry(one.commit, facts)
            elif before := self.known.get(one.commit):
                entry = self._entry(one.commit, before)
            else:
                continue
            entry.facts.name = one.name
            own = ours.get(one.commit)
            if own is None or not self._complete(own, entry):
                yield entry

    def _by_commit(self, ours: list[Entry]) -> dict[str, Entry]:
        """Return the submitted experiments by their commits.

        A commit is its maker's: a colleague whose record names it, too, has learnt of
        it since.
        """
        found: dict[str, Entry] = {}
        for entry in ours:
            if not (commit := entry.facts.commit):
                continue
            other = found.setdefault(commit, entry)
            if other is entry:
                continue
            first, later = sorted((other, entry), key=self._saved_at)
            found[commit] = first
            self._disown(later)
        return found

    def _saved_at(self, entry: Entry) -> int:
        """Return when an experiment was saved, by a time that nobody can set."""
        place = self.store.directory / layout.EXPERIMENTS / entry.identity
        try:
            return (place / layout.RESULT).lstat().st_ctime_ns
        except OSError:
            return sys.maxsize

    def _disown(self, entry: Entry) -> None:
        """Take the commit from an experiment whose own it is not."""
        place = self.store.directory / layout.EXPERIMENTS / entry.identity
        why = f"says that it is saved as {entry.facts.commit[:7]}, which is another experiment, and does not count"
        records.tell(Trouble(place / layout.RESULT, why))
        entry.facts.commit = ""

    def _complete(self, own: Entry, kept: Entry) -> bool:
        """Put into what is known of an experiment what its commit tells; False if that is another's.

        Of a colleague's the commit alone says with what it was made, and what became of
        it.
        """
        facts, theirs = own.facts, kept.facts
        if not _holds_all(theirs, facts):
            self._disown(own)
            return False
        told = self._values(kept)
        if facts.person == ownership.user_name(os.getuid()):
            told = {**told, **self._values(own)}
        before = self.known.get(own.identity)
        if own.number is not None and before is not None:
            self.fresh[own.identity] = before.fingerprint, facts
            own.number = None
        facts.values = told
        facts.data = tuple(dict.fromkeys((*facts.data, *theirs.data)))
        facts.parent = tuple(dict.fromkeys((*facts.parent, *theirs.parent)))
        facts.is_partial = False
        return True

    def _values(self, entry: Entry) -> Values:
        if entry.number is None:
            return entry.facts.values
        return self.index.values_of([entry.number]).get(entry.number, {})

    def _asked(self, notes: Notes, others: list[Entry]) -> Iterator[Entry]:
        """Yield what `dvc exp run` ran and no commit that is known here holds."""
        keys = records.entries(self.store.directory / layout.RUNS)
        by_name: dict[str, list[Facts]] = {}
        askers_of: dict[int, tuple[Facts, list[str]]] = {}
        for entry in others:
            by_name.setdefault(entry.facts.name, []).append(entry.facts)
        for who, theirs in notes.of(self.store, keys).items():
            identity = asked.identity(who)
            told = asked.fingerprint(self.store, theirs)
            before = self.known.get(identity)
            if before is not None and before.fingerprint == told:
                entry = self._entry(identity, before)
            else:
                place = self.store.directory / layout.RUNS / next(iter(theirs))
                how = partial(asked.read, self.store, who, theirs, self.runs)
                if (found := _defended(place, how)) is None:
                    continue
                facts, runs = found
                facts.state = submitted.word_of(state := _state(facts.name, runs))
                if state is RunState.DONE:
                    self.fresh[identity] = told, facts
                entry = Entry(identity, facts)
            saved = [one for one in by_name.get(who[2], ()) if _holds(one, entry.facts)]
            for one in saved:
                askers_of.setdefault(id(one), (one, []))[1].append(who[0])
            if not saved:
                yield entry
        for one, owners in askers_of.values():
            if len(set(owners)) == 1:
                one.person = owners[0]  # git knows what its author calls themselves

    def _mark(self, entries: list[Entry]) -> None:
        """Put everybody's tags and notes on the experiments that they are on."""
        marks = all_marks(self.store)
        if not marks:
            return
        known: dict[str, Entry] = {}
        for entry in entries:
            known[entry.identity] = entry
            if entry.facts.commit:
                known.setdefault(entry.facts.commit, entry)
        for mark in marks:
            entry_of = known.get(mark.experiment) or known.get(mark.commit or "-")
            if entry_of is None:
                continue
            if mark.tag:
                entry_of.tags += (mark,)
            else:
                entry_of.notes += (mark,)


def _have_one_under_way(asked_for: list[Entry], clone: Path) -> None:
    """Call the newest of a clone's running, while `dvc exp run` works there: what is done of it may be a part."""
    own = [one for one in asked_for if one.facts.origin == str(clone)]
    newest = max(own, key=lambda one: one.facts.at, default=None)
    if newest is None or newest.facts.state != RunState.DONE:
        return
    if is_reproduced(clone):
        # What is remembered of it stays as it is.
        newest.facts = replace(newest.facts, state=str(RunState.RUNNING))


def _read_commits(clone: Path, wanted: list[Kept]) -> dict[str, Facts]:
    from mllam_exps.catalogue.commits import Reader  # a parser, which few looks need

    return dict(Reader(clone).read(wanted))


def _look(experiment: Experiment) -> Row:
    """Find out how an experiment stands."""
    # What asks schedulers takes as long to import as all the rest.
    from mllam_exps.views import looking

    return looking.of_experiment(experiment)


def _state(name: str, runs: Mapping[str, Run]) -> RunState:
    """Find out how an experiment stands that was not submitted."""
    from mllam_exps.views import looking
    from mllam_exps.views.rows import Row

    cells = {stage: looking.of_run(run) for stage, run in runs.items()}
    return looking.as_it_stays(Row(name, cells)).state


_Found = TypeVar("_Found")


def _defended(place: Path, read: Callable[[], _Found]) -> _Found | None:
    """Return what is read of a record that a colleague may have written; None, which is told, where that is nothing."""
    try:
        return read()
    except FileNotFoundError:
        return None  # it is being removed
    except OSError as error:
        why = f"cannot be read ({error.strerror})"
        records.tell(Trouble(place, why, hidden=True))
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        records.tell(Trouble(place, "is damaged: it makes no sense"))
    return None


def _holds_all(saved: Facts, ran: Facts) -> bool:
    """Tell whether a commit contradicts nothing that an experiment has made; what it leaves out, it does not."""
    shared = saved.outs.keys() & ran.outs
    return all(saved.outs[path] == ran.outs[path] for path in shared)


def _holds(saved: Facts, ran: Facts) -> bool:
    """Tell whether a commit holds all that an experiment of its name has made."""
    return bool(ran.outs) and ran.outs.items() <= saved.outs.items()
