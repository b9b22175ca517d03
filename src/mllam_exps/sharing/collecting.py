"""Finds what nobody needs in a share: who needs what is asked of git, of all clones, and of what is at work."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mllam_exps.base import records
from mllam_exps.base.errors import MllamError, some_of
from mllam_exps.runs.store import RunStore
from mllam_exps.sharing import clones, needs, unneeded
from mllam_exps.sharing.clones import Clone
from mllam_exps.sharing.share import Share
from mllam_exps.sharing.unneeded import Object
from mllam_exps.submission import experiments


@dataclass(frozen=True)
class Need:
    """Somebody, or something, that needs objects.

    Parameters
    ----------
    whose : str
        For people.
    digests : set of str
        The objects; what is in those that are folders, too.
    """

    whose: str
    digests: frozenset[str]


@dataclass(frozen=True)
class Found:
    """What is in a share, and what may go.

    Parameters
    ----------
    needs : tuple of Need
        Who needs what.
    there : tuple of Object
        All objects of cache and remote.
    going : tuple of Object
        Those that nobody needs.
    coming : tuple of Object
        Those that were set aside, and are needed after all.
    over : tuple of Object
        Those that were set aside, and that nobody has missed for long enough.
    waiting : tuple of Object
        Those that were set aside, and stay there for now.
    gone : tuple of Clone
        Clones that were removed.
    """

    needs: tuple[Need, ...]
    there: tuple[Object, ...]
    going: tuple[Object, ...]
    coming: tuple[Object, ...]
    over: tuple[Object, ...]
    waiting: tuple[Object, ...]
    gone: tuple[Clone, ...] = ()

    def ending(self, *, at_once: bool) -> tuple[Object, ...]:
        """Return what is to be deleted; `at_once` all that nobody needs, else what was set aside for long enough."""
        late = (*self.waiting, *self.going) if at_once else ()
        return (*self.over, *late)


def look(
    share: Share, here: Clone | None, *, age: float, without: Collection[str]
) -> Found:
    """Look at all of a share.

    Parameters
    ----------
    here : Clone, optional
        This user's clone, as it is now.
    age : float
        Seconds since an object came there, in which it does not go.
    without : collection of str
        Clones that are gone, and users, by this user's account: they need nothing.

    Raises
    ------
    MllamError
        If it is not known what a clone needs.
    """
    now = records.now(share.directory)
    there = tuple(unneeded.objects(share))
    using, gone = _using(share, here, without)
    silent = {one.owner_name for one in there} - {one.owner_name for one in using}
    others = [one for one in using if not one.is_looked_at]
    old = [one for one in others if one.told < now - unneeded.PATIENCE]
    _refuse_unknown(share, old, silent - {*without})
    # What came later, one of them may have come to need.
    before = min([now - age, *(one.told for one in others)])
    found = [
        Need("git's commits in the share", frozenset(needs.of_git(share.directory)))
    ]
    for clone in using:
        found.append(Need(f"{clone.path} ({clone.owner_name})", clone.needs))
    found.append(Need("your experiments that are to be saved", _of_unsaved(share)))
    whole = tuple(
        Need(one.whose, frozenset(unneeded.with_parts(share, one.digests)))
        for one in found
    )
    needed = frozenset().union(*(one.digests for one in whole))
    aside = tuple(unneeded.set_aside(share))
    over = unneeded.may_go(aside, needed, now - unneeded.PATIENCE)
    coming = tuple(one for one in aside if one.digest in needed)
    moved = {one.path for one in (*over, *coming)}
    return Found(
        needs=whole,
        there=there,
        going=tuple(unneeded.may_go(there, needed, before)),
        coming=coming,
        over=tuple(over),
        waiting=tuple(one for one in aside if one.path not in moved),
        gone=tuple(gone),
    )


def _of_unsaved(share: Share) -> frozenset[str]:
    """Return what is needed by what this user submitted and is in no commit yet; what failed may be retried.

    Nobody may look into the clone of a colleague's: its owner's `submit` has told of it.
    """
    found: set[str] = set()
    for experiment in experiments.unsaved(RunStore(share.run_store)):
        if experiment.is_mine:
            found |= needs.of_files(experiment.clone)
    return frozenset(found)


def _using(
    share: Share, here: Clone | None, without: Collection[str]
) -> tuple[list[Clone], list[Clone]]:
    """Return the clones that use a share, this user's as they are now, and those that are gone."""
    using = [here] if here else []
    gone = []
    for clone in clones.known(share):
        if here and (clone.path, clone.owner) == (here.path, here.owner):
            continue
        if clone.is_gone or not {str(clone.path), clone.owner_name}.isdisjoint(without):
            gone.append(clone)
        elif clone.is_mine and clone.path.is_dir():
            using.append(clones.look_at(share, clone.path))
        else:
            using.append(clone)
    return using, gone


def _refuse_unknown(
    share: Share, old: Sequence[Clone], silent: Collection[str]
) -> None:
    """Refuse to judge where it was not said for long, or never, what a clone or a user needs."""
    if not (old or silent):
        return
    place = shlex.quote(str(share.directory))
    users = sorted({one.owner_name for one in old} | {*silent})
    names = [str(one.path) for one in old] + [
        f"clones of {one}" for one in sorted(silent)
    ]
    what = f"it is not known what is needed by {some_of(names)}"
    why = (
        f"nobody has said so in the last {round(unneeded.PATIENCE / unneeded.DAY)} days"
    )
    ask = f"ask {', '.join(users)} to type in each clone: mllam-exps share join {place}"
    gone = " ".join(
        f"--without {shlex.quote(one)}"
        for one in [*(str(clone.path) for clone in old), *sorted(silent)]
    )
    way_out = f"{ask}; what is gone needs nothing: mllam-exps share gc {gone}"
    raise MllamError(what, str(share.directory), why, way_out)
