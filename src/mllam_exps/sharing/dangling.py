"""Finds links of a clone that lead to objects which a share's cache has no more, and gives these back."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from mllam_exps.dvc.cache import Cache
from mllam_exps.sharing import unneeded
from mllam_exps.sharing.inspection import Finding
from mllam_exps.sharing.share import OBJECTS, Share

_NOT_OURS = {".git", ".dvc"}


def findings(share: Share, root: Path) -> Iterator[Finding]:
    """Yield the links in a workspace that lead to nothing in a share's cache."""
    objects = share.cache / OBJECTS / "md5"
    for place, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in _NOT_OURS]
        for name in files:
            link = Path(place, name)
            if not link.is_symlink() or link.exists():
                continue
            target = Path(os.path.realpath(link))
            if target.is_relative_to(objects):
                what = "leads to an object that the share's cache has not"
                mend = partial(give_back, share, target)
                yield Finding(link, what, link.lstat().st_uid, mend)


def give_back(share: Share, lost: Path) -> None:
    """Give the cache an object back that was set aside, or that the share's remote has.

    Raises
    ------
    OSError
        If neither has it.
    """
    digest = lost.parent.name + lost.name
    aside = (one for one in unneeded.set_aside(share) if one.digest == digest)
    for one in aside:
        if one.home == share.cache:
            unneeded.bring_back([one])
            return
    inside = lost.relative_to(share.cache)
    for place in (share.directory / inside, *(one.path for one in aside)):
        if place.is_file():
            Cache(str(share.cache), "group").copy_in(digest, place)
            return
    why = "nor has its remote: dvc repro makes it again"
    raise OSError(errno.ENOENT, why, str(lost))
