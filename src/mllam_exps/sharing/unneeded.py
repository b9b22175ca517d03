"""Objects of a share that nobody needs: they are set aside first, and deleted when nobody has missed them.

``unneeded/YYYY-MM-DD/cache`` and ``…/remote`` hold what was set aside that day, as the
cache and the remote have it. Clones say now and then what they need, and `dvc` says
nothing: what is needed after all comes back.
"""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mllam_exps.base import records
from mllam_exps.base.ownership import user_name
from mllam_exps.dvc.cache import Cache
from mllam_exps.sharing.share import OBJECTS, UNNEEDED, Share

DAY = 86400.0
PATIENCE = 14 * DAY
"""Seconds for which something is set aside before it is deleted."""
_DIGEST = re.compile(r"[0-9a-f]{32}(\.dir)?")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True)
class Object:
    """A file of DVC's cache or remote, or one that was set aside.

    Parameters
    ----------
    home : Path
        The cache or remote that it belongs to.
    path : Path
        Where it lies now.
    digest : str
        What DVC calls it.
    size : int
        Bytes.
    owner : int
        Whose it is.
    changed : float
        When it came there, at the latest; of one that was set aside, the end of that day.
    has_other_names : bool
        Whether a run's result has it, too: to remove it here frees nothing.
    """

    home: Path
    path: Path
    digest: str
    size: int
    owner: int
    changed: float
    has_other_names: bool = False

    @property
    def owner_name(self) -> str:
        """The name of its owner."""
        return user_name(self.owner)


def objects(share: Share) -> Iterator[Object]:
    """Yield all objects of a share's cache and remote."""
    for home in homes(share).values():
        yield from _in(home, home)


def homes(share: Share) -> dict[str, Path]:
    """Return the folders that have objects, by what they are called where these are set aside."""
    return {"cache": share.cache, "remote": share.directory}


def set_aside(share: Share) -> Iterator[Object]:
    """Yield the objects that were set aside, the earliest first."""
    for day in _days(share):
        date = datetime.datetime.fromisoformat(day).replace(tzinfo=datetime.UTC)
        for name, home in homes(share).items():
            place = share.directory / UNNEEDED / day / name
            yield from _in(home, place, date.timestamp() + DAY)


def _days(share: Share) -> list[str]:
    names = records.entries(share.directory / UNNEEDED)
    return [name for name in names if _DATE.fullmatch(name)]


def _in(home: Path, place: Path, since: float | None = None) -> Iterator[Object]:
    folder = place / OBJECTS / "md5"
    for two in records.entries(folder):
        if len(two) != 2 or not (folder / two).is_dir():
            continue
        for rest in records.entries(folder / two):
            if not _DIGEST.fullmatch(two + rest):
                continue  # being written
            try:
                found = (folder / two / rest).lstat()
            except FileNotFoundError:
                continue
            # DVC keeps the time of the file that became an object; its inode changed
            # when that was.
            changed = since or max(found.st_mtime, found.st_ctime)
            yield Object(
                home,
                folder / two / rest,
                two + rest,
                found.st_size,
                found.st_uid,
                changed,
                found.st_nlink > 1,
            )


def with_parts(share: Share, needed: Iterable[str]) -> set[str]:
    """Return objects, and what is in those that are folders, wherever in a share that is listed."""
    aside = [share.directory / UNNEEDED / day for day in _days(share)]
    places = [
        *homes(share).values(),
        *(one / name for one in aside for name in homes(share)),
    ]
    caches = [Cache(str(place)) for place in places]
    found = set()
    for digest in needed:
        found.add(digest)
        if digest.endswith(".dir"):
            lists = (cache.folder(digest) for cache in caches)
            listed = next((one for one in lists if one is not None), [])
            found.update(file["md5"] for file in listed)
    return found


def may_go(
    there: Iterable[Object], needed: Collection[str], before: float
) -> list[Object]:
    """Return what nobody needs, of that which came before a time."""
    return [
        one
        for one in there
        if one.digest not in needed and not one.has_other_names and one.changed < before
    ]


def move_aside(share: Share, going: Iterable[Object], day: datetime.date) -> None:
    """Set objects aside.

    Raises
    ------
    OSError
        If one of them may not be moved.
    """
    names = {home: name for name, home in homes(share).items()}
    for one in going:
        place = share.directory / UNNEEDED / day.isoformat() / names[one.home]
        _move(one, place)


def bring_back(coming: Iterable[Object]) -> None:
    """Put objects that were set aside back to where they belong."""
    for one in coming:
        _move(one, one.home)


def _move(one: Object, place: Path) -> None:
    folder = place / OBJECTS / "md5" / one.digest[:2]
    target = records.folder(folder) / one.digest[2:]
    if target.exists():
        # Made, or sent, once more meanwhile.
        one.path.unlink(missing_ok=True)
    else:
        one.path.rename(target)


def delete(going: Iterable[Object]) -> None:
    """Delete objects, and the folders that are empty then, of those that were set aside."""
    for one in going:
        one.path.unlink(missing_ok=True)


def tidy(share: Share) -> None:
    """Remove the folders of `unneeded` in which nothing is left."""
    for place, _, _ in os.walk(share.directory / UNNEEDED, topdown=False):
        try:
            os.rmdir(place)  # noqa: PTH106 - what os.walk gives is text
        except OSError:
            continue
