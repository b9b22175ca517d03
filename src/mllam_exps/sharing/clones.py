"""The clones that use a share, each with what it needs there: a member cannot look into another's home.

``clones/UID-DIGEST.json`` in the share, each its owner's to write.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mllam_exps.base import records
from mllam_exps.base.errors import MllamError, first_line
from mllam_exps.base.git import ask_git
from mllam_exps.base.ownership import user_name
from mllam_exps.base.shapes import Shape, list_of, number, text
from mllam_exps.base.terminal import warn
from mllam_exps.runs.store import RunStore
from mllam_exps.sharing import needs
from mllam_exps.sharing.share import CLONES, FOLDER, Share, of_cache
from mllam_exps.submission import experiments

SHAPE: Shape = {"path": text, "host": text, "told": number, "needs": list_of(text)}


@dataclass(frozen=True)
class Clone:
    """A clone that uses a share, as it was when its owner last said what it needs.

    Parameters
    ----------
    path : Path
        Where it lies, by its owner's account.
    owner : int
        Whose it is.
    host : str
        From which host that was said.
    told : float
        When that was said, by the clock of the share's file system; 0 if it never was.
    needs : frozenset of str
        Objects of DVC's cache; what is in a folder is not named.
    is_looked_at : bool
        Whether that is what it needs now.
    """

    path: Path
    owner: int
    host: str = ""
    told: float = 0.0
    needs: frozenset[str] = frozenset()
    is_looked_at: bool = False

    @property
    def owner_name(self) -> str:
        """The name of its owner."""
        return user_name(self.owner)

    @property
    def is_mine(self) -> bool:
        """Whether this user can say what it needs."""
        return self.owner == os.getuid()

    @property
    def is_gone(self) -> bool:
        """Whether it was removed; one on another host's disk, or that this user may not look at, may be there."""
        try:
            is_there = (self.path / ".dvc" / "config").exists()
        except OSError:
            return False
        return self.host == socket.gethostname() and not is_there


def look_at(share: Share, root: Path, *, links: bool = True) -> Clone:
    """Return what a clone of this user's needs by now; see `needs.of_files`.

    Raises
    ------
    MllamError
        If that cannot be found out.
    """
    told = records.now(share.directory)
    top = Path(ask_git(root, "rev-parse", "--show-toplevel") or root)
    found = frozenset(needs.of_git(top) | needs.of_files(top, links=links))
    here = socket.gethostname()
    return Clone(root, os.getuid(), here, told, found, is_looked_at=True)


def tell(share: Share, clone: Clone) -> None:
    """Write down for the others what a clone of this user's needs."""
    record = {
        "path": str(clone.path),
        "host": clone.host,
        "told": clone.told,
        "needs": sorted(clone.needs),
    }
    records.replace(folder(share) / _name(clone), record)


def tell_if_shared(cache: Path, root: Path) -> None:
    """Write it down where a clone's cache is a share's; where that cannot be done, say so."""
    share = of_cache(cache)
    if share is None:
        return
    try:
        tell(share, look_at(share, root, links=False))
    except (OSError, MllamError) as error:
        why = first_line(error)
        warn(f"note: {share.directory} is not told what this clone needs: {why}")


def folder(share: Share) -> Path:
    """Make the folder of them, unless it is there: shares that were made earlier have none."""
    place = share.directory / CLONES
    if not place.is_dir():
        records.folder(place)
        place.chmod(FOLDER | 0o1000)
    return place


def known(share: Share) -> Iterator[Clone]:
    """Yield the clones that use a share, those as well that submitted from there and have never said what they need."""
    named = set()
    for clone in _told(share):
        named.add((clone.path, clone.owner))
        yield clone
    for experiment in experiments.of_store(RunStore(share.run_store)):
        origin = Path(experiment.origin)
        owner = experiment.saving.directory.stat().st_uid
        if (origin, owner) not in named:
            named.add((origin, owner))
            yield Clone(origin, owner)


def _told(share: Share) -> Iterator[Clone]:
    place = share.directory / CLONES
    for name in records.entries(place):
        uid, dash, _ = name.partition("-")
        path = place / name
        # What one member says in the name of another does not count.
        if not dash or not _is_owned(path, uid):
            continue
        record = records.look(path, shape=SHAPE)
        if isinstance(record, dict):
            found = frozenset(record["needs"])
            place_of_it = Path(record["path"])
            yield Clone(place_of_it, int(uid), record["host"], record["told"], found)
        elif record is not None:
            yield Clone(path, int(uid))


def _is_owned(path: Path, uid: str) -> bool:
    try:
        return str(path.lstat().st_uid) == uid
    except OSError:
        return False


def forget(share: Share, clone: Clone) -> None:
    """Remove what a clone that is gone said; another's stays, if only its owner may remove it."""
    with contextlib.suppress(PermissionError):
        (share.directory / CLONES / _name(clone)).unlink(missing_ok=True)


def _name(clone: Clone) -> str:
    which = hashlib.sha256(os.fsencode(clone.path)).hexdigest()[:16]
    return f"{clone.owner}-{which}.json"
