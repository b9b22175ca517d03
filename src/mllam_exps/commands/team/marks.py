"""``mllam-exps tag`` and ``note``: words on experiments, which the team sees, and on which no result depends."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from mllam_exps.base import ownership
from mllam_exps.base.errors import UsageError, nearest, some_of
from mllam_exps.base.terminal import say
from mllam_exps.catalogue import gathering, marks
from mllam_exps.catalogue.entries import Catalogue, Entry
from mllam_exps.catalogue.facts import Facts
from mllam_exps.machines.workspace import Workspace

SHORTEST = 6
"""Digits of a commit, or of a name in the store, by which an experiment can be named."""


def tag(words: Sequence[str], *, remove: bool) -> None:
    """Put tags on experiments, or take one's own away: words that name experiments come first."""
    catalogue = gathering.gather(lambda _: None)
    number = _experiments_among(catalogue, words)
    if not number:
        raise _unknown(catalogue, words[0])
    experiments = [one for word in words[:number] for one in _meant(catalogue, word)]
    tags = [marks.check_tag(word) for word in words[number:]]
    if not tags:
        raise UsageError(
            "no tag was given", next=f"mllam-exps tag {' '.join(words)} TAG"
        )
    _refuse_what_has_no_name_of_its_own(experiments)
    marked = [one.marked for one in experiments]
    names = some_of(dict.fromkeys(one.name for one in marked))
    if remove:
        removed = marks.remove(catalogue.store, marked, tags=tags)
        _tell_removed(removed, f"tags {', '.join(tags)}", names)
    else:
        marks.add(catalogue.store, marked, tags=tags)
        say(f"{names}: tagged {', '.join(tags)}")
    catalogue.remember()


def note(word: str, text: str, *, remove: bool) -> None:
    """Write a note on an experiment, take one's own away, or print everybody's."""
    catalogue = gathering.gather(lambda _: None)
    experiments = _meant(catalogue, word)
    if not experiments:
        raise _unknown(catalogue, word)
    _refuse_what_has_no_name_of_its_own(experiments)
    marked = [one.marked for one in experiments]
    if remove:
        removed = marks.remove(catalogue.store, marked, notes=True)
        _tell_removed(removed, "notes", word)
    elif text.strip():
        marks.add(catalogue.store, marked, note=text.strip())
        say(f"{some_of(dict.fromkeys(one.name for one in marked))}: noted")
    else:
        for entry in experiments:
            for mark in entry.notes:
                say(mark.line)
    catalogue.remember()


def _tell_removed(number: int, what: str, names: str) -> None:
    if not number:
        raise UsageError(
            f"{names}: there are no {what} of yours",
            why="those of others are theirs to remove",
        )
    say(f"{names}: removed your {what} ({number})")


def _experiments_among(catalogue: Catalogue, words: Sequence[str]) -> int:
    """Return how many words at the beginning name experiments; the last word is a tag in any case."""
    number = 0
    while number < len(words) - 1 and _meant(catalogue, words[number]):
        number += 1
    return number


def _meant(catalogue: Catalogue, word: str) -> list[Entry]:
    """Return the experiments that a word means: a name, a pattern, or how a commit or an identity begins.

    Raises
    ------
    UsageError
        If a name without a pattern could mean several.
    """
    is_pattern = any(sign in word for sign in "*?")
    found = [one for one in catalogue.entries if fnmatchcase(one.facts.name, word)]
    if not found and not is_pattern and len(word) >= SHORTEST:
        for one in catalogue.entries:
            if one.identity.startswith(word) or one.facts.commit.startswith(word):
                found.append(one)
    if len(found) > 1 and not is_pattern:
        told = [f"{_short(one)} of {one.facts.person}" for one in found]
        raise UsageError(
            f"{word} could be {len(found)} experiments",
            why=some_of(told),
            next=f"name one: {_short(found[0])}, say",
        )
    return found


def _short(entry: Entry) -> str:
    return entry.facts.commit[:7] or entry.identity


def _refuse_what_has_no_name_of_its_own(experiments: Sequence[Entry]) -> None:
    """Refuse experiments of which no commit is known here.

    Raises
    ------
    UsageError
        Naming the first, and who has to do what.
    """
    for one in experiments:
        if not one.can_be_marked:
            raise not_saved(one.facts, Workspace.here().origin)


def not_saved(facts: Facts, here: Path) -> UsageError:
    """Return what is said of an experiment that `dvc exp run` has not saved, or of which no commit is known here."""
    why = "nothing but its name tells it from others, and that is given again"
    is_mine = facts.person == ownership.user_name(os.getuid())
    if is_mine and facts.origin in {"", str(here)}:
        way_out = "type the same again when dvc exp run has ended: it saves it then"
        return UsageError(f"{facts.name} is not saved yet", why=why, next=way_out)
    push = f"mllam-exps push {shlex.quote(facts.name)}"
    where = f"in {shlex.quote(facts.origin)}" if facts.origin else "in its clone"
    way_out = f"type {where}, once it is saved: {push}"
    if not is_mine:
        way_out = f"ask {facts.person} to {way_out}"
    return UsageError(
        f"{facts.name} is not saved, or not pushed", why=why, next=way_out
    )


def _unknown(catalogue: Catalogue, word: str) -> UsageError:
    known = dict.fromkeys(one.facts.name for one in catalogue.entries)
    near = nearest(word, known)
    hint = f"did you mean {near}?" if near else "mllam-exps list"
    return UsageError(f"no experiment is called {word}", next=hint)
