"""What a repository needs of a DVC cache: each hash in a ``dvc.lock`` or a ``.dvc`` file, and what links lead to.

Of any commit, or on disk. More than `dvc gc` (3.67) looks at: also outputs of stages that ``dvc.yaml`` has no more,
and experiments that wait in DVC's queue. What is needed is never missed; what nobody
needs may be kept.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from mllam_exps.base.errors import MllamError
from mllam_exps.base.git import ask_git, git, git_objects
from mllam_exps.base.ownership import owner_of
from mllam_exps.base.records import LARGEST_FILE

_HASH = re.compile(rb"(?<![0-9a-f])[0-9a-f]{32}(?:\.dir)?(?![0-9a-f])")
_NAMES_HASHES = (":(top,glob)**/dvc.lock", ":(top,glob)**/*.dvc")
_STASHES = ("refs/stash", "refs/exps/stash", "refs/exps/celery")
_NONE = "0" * 40
_LONGEST = len("/ab/") + 30 + len(".dir")
"""How long the end of a link is that says to which object it leads."""


def of_git(root: Path) -> set[str]:
    """Return the objects that any commit names, of whatever ref, in a repository with or without a checkout.

    Raises
    ------
    MllamError
        If git cannot read all of it: what is not known may be needed.
    """
    blobs = _blobs(root)
    content = git_objects(root, blobs, LARGEST_FILE)
    unread = [name for name in blobs if content.get(name) is None]
    if unread:
        what = f"git cannot read {len(unread)} of {len(blobs)} files that say which data are needed"
        raise MllamError(what, str(root), f"{unread[0]}, say", f"git -C {root} fsck")
    return hashes(b"\n".join(one for one in content.values() if one))


def _blobs(root: Path) -> list[str]:
    """Return git's names of all that ever lay in such a file."""
    commits = "\n".join(["", git(root, "rev-list", "--all"), *_put_aside(root)]).strip()
    if not commits:
        return []
    # A log of paths (git 2.39) leaves out branches that a merge made of no account.
    words = ("diff-tree", "--stdin", "-r", "-m", "--root", "--no-commit-id")
    form = ("--raw", "--no-abbrev", "--no-renames", "-z", "--", *_NAMES_HASHES)
    told = git(root, *words, *form, input=f"{commits}\n")
    # ":100644 100644 BEFORE AFTER M", a zero byte, the path, a zero byte
    after = [one.split()[3] for one in told.split("\0")[:-1:2]]
    return [name for name in dict.fromkeys(after) if name != _NONE]


def _put_aside(root: Path) -> Iterator[str]:
    """Yield what was stashed, by git or DVC's queue (3.67): all but the last is in the log of a ref alone."""
    words = ("for-each-ref", "--format=%(refname)", *_STASHES)
    for ref in git(root, *words).splitlines():
        yield ask_git(root, "rev-list", "--walk-reflogs", ref)


def of_files(folder: Path, *, links: bool = True) -> set[str]:
    """Return the objects that files on disk name, committed or not, at any depth, and that links lead to.

    Parameters
    ----------
    links : bool
        Whether links count: a network file system takes a moment for each, and a
        dataset has thousands, which a file of DVC's names as well, most often.

    Raises
    ------
    MllamError
        If one of them cannot be read.
    """
    found: set[str] = set()
    for entry in _entries(folder):
        try:
            if links and entry.is_symlink():
                found |= _linked(entry.path)
            if entry.name == "dvc.lock" or entry.name.endswith(".dvc"):
                found |= hashes(Path(entry.path).read_bytes())
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _unread(Path(entry.path), error) from error
    return found


def _entries(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    """Yield all files, at any depth, but for git's own and those of DVC's cache."""
    skipped = {".git", "cache"} if Path(folder).name == ".dvc" else {".git"}
    try:
        with os.scandir(folder) as entries:
            there = list(entries)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unread(Path(folder), error) from error
    for entry in there:
        if not entry.is_dir(follow_symlinks=False):
            yield entry
        elif entry.name not in skipped:
            yield from _entries(entry.path)


def _unread(path: Path, error: OSError) -> MllamError:
    what = "cannot be read, and may say which data are needed"
    way_out = f"have {owner_of(path)} put that right"
    return MllamError(what, str(path), error.strerror or "", way_out)


def _linked(link: str) -> set[str]:
    """Return the object that a link leads to, whatever cache it is in."""
    two, _, rest = os.readlink(link)[-_LONGEST:].rpartition("/")  # noqa: PTH115 - thousands
    return hashes(f"{two[-2:]}{rest}".encode())


def hashes(content: bytes) -> set[str]:
    """Return whatever looks like a hash of DVC's; a folder's ends in ``.dir``."""
    return {one.decode() for one in _HASH.findall(content)}
