"""The repository as it is now, frozen: one clone for each submitted experiment.

What runs is what was there at submission, with uncommitted changes, as ``dvc exp run
--queue`` takes them: tracked and staged files. The first clone is laid out from the
checkout itself; the others of one submission are copies of it, whose large files (git's
pack, data that lie in git) are hard links: a hundred clones cost hardly more than one.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mllam_exps.base import ownership, records, symlinks
from mllam_exps.base.errors import UsageError
from mllam_exps.base.git import ask_git, git, shown
from mllam_exps.dvc import local_settings
from mllam_exps.dvc.local_settings import Settings
from mllam_exps.machines.way_in import git_add
from mllam_exps.repository import checkouts
from mllam_exps.repository.checkouts import Checkout

SMALL = 32 * 1024
"""Files up to this size are copied. Larger ones are nobody's to write in place: git and DVC replace them."""

NAMED = 3

BEGINNINGS = ("dvc.yaml", ".dvc/config")
"""Without these a clone is no DVC repository with stages."""

KEPT = "refs/mllam-exps"
"""Where a repository names what experiments start from, for as long as they are at work."""

_WHOSE = ("user.name", "user.email")


@dataclass(frozen=True)
class State:
    """What a repository holds now.

    Parameters
    ----------
    origin : Path
        The DVC repository.
    prefix : str
        Where it lies in its git repository.
    checkout : Checkout
        What the tracked files hold.
    tree : str
        A digest of that, but for machine files: these are read where the repository is,
        and change no result.
    edited : tuple of str
        The tracked files whose changes are not committed, seen from the DVC repository.
    identity : dict of str
        Whose commits the experiments will be, as git's settings.
    """

    origin: Path
    prefix: str
    checkout: Checkout
    tree: str
    edited: tuple[str, ...] = ()
    identity: dict[str, str] = field(default_factory=dict)

    @property
    def baseline(self) -> str:
        """The commit that is checked out."""
        return self.checkout.baseline


def state(origin: Path) -> State:
    """Return what a repository holds now; nothing in it is touched.

    Raises
    ------
    UsageError
        If git has no commit to start from, or unmerged files, or does not know whose
        commits it would make; if it does not track what DVC begins with.
    """
    place = git(origin, "rev-parse", "--show-toplevel", "--show-prefix")
    top, _, prefix = place.partition("\n")
    identity = whose(origin)
    checkout = checkouts.look(Path(top))
    _refuse_untracked_beginnings(origin, checkout.content)
    tree = _digest_without_machines(origin, prefix, checkout.content)
    commits = (checkout.baseline, checkout.content)
    changed = git(origin, "diff", "--name-only", "--relative", "-z", *commits)
    edited = tuple(shown(file) for file in changed.split("\0") if file)
    return State(origin, prefix, checkout, tree, edited, identity)


def _digest_without_machines(origin: Path, prefix: str, content: str) -> str:
    listing = git(origin, "ls-tree", "-r", "--full-tree", "-z", content)
    machines = f"\t{prefix}machines/"
    entries = [entry for entry in listing.split("\0") if machines not in entry]
    text = "\0".join(entries)
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def untracked(origin: Path, made: Collection[str] = ()) -> list[str]:
    """Return files that no clone has: git does not track them, and the repository itself says nothing of them.

    What only the user's own rules ignore (``*.nc`` in ``core.excludesFile``, say) is
    named as well. The first three, and dots for the others; those that begin with a dot
    are last. What stages have `made`, the files in such folders included, is left out.
    """
    words = ("ls-files", "--others", "--exclude-per-directory=.gitignore", "-z")
    files = []
    for file in filter(None, git(origin, *words).split("\0")):
        if {*made}.isdisjoint({file, *map(str, Path(file).parents)}):
            files.append(shown(file))
    files.sort(key=lambda file: (file.startswith("."), file))
    return [*files[:NAMED], "…"] if len(files) > NAMED else files


@records.for_nobody_else_to_write()
def make(state: State, target: Path, settings: Settings) -> Path:
    """Clone a repository as it was when its `state` was taken, for nobody else to write to, whatever the umask.

    Parameters
    ----------
    target : Path
        Where the clone goes; must not exist.
    settings : dict
        Those of DVC's that the clone's own configuration gets. Remotes, and the
        credentials that they may carry, stay behind.

    Returns
    -------
    Path
        The DVC repository in the clone.
    """
    checkouts.lay_out(state.checkout, target)
    of_git = state.identity | {"mllam-exps.origin": str(state.origin)}
    for key, value in of_git.items():
        git(target, "config", key, value)
    root = target / state.prefix
    place = symlinks.clear(target, root / ".dvc" / "config.local")
    local_settings.write(place, settings)
    (root / ".dvc" / "tmp").mkdir(exist_ok=True)
    return root


def keep(origin: Path, identity: str, content: str) -> None:
    """Have a repository keep what an experiment starts from, whatever becomes of the branch that it was on."""
    git(origin, "update-ref", f"{KEPT}/{identity}", content)


def release(origin: Path, identity: str) -> None:
    """End what `keep` began; where it began nothing, that is all right."""
    ask_git(origin, "update-ref", "-d", f"{KEPT}/{identity}")


@records.for_nobody_else_to_write()
def copy(source: Path, target: Path, *, linked: bool = True) -> None:
    """Copy a clone: small files by content; large ones as hard links, unless they are not to be `linked`.

    What is copied is for nobody else to write to, whatever the umask and the modes in
    the source.
    """
    for path, entry in _below(source, target):
        if entry.is_symlink():
            path.symlink_to(Path(entry.path).readlink())
            continue
        status = entry.stat()
        large = linked and status.st_size > SMALL
        may_be_shared = large or "/.git/objects/" in entry.path
        if not may_be_shared or not _link(entry.path, path):
            _copy_content(entry.path, path, status)


def _copy_content(source: str, target: Path, status: os.stat_result) -> None:
    with open(source, "rb") as file:  # noqa: PTH123 - a hundred clones of a hundred files
        target.write_bytes(file.read())
    target.chmod(status.st_mode & ~ownership.OTHERS)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _link(source: str, target: Path) -> bool:
    """Make a hard link; False where that is impossible."""
    try:
        os.link(source, target)
    except OSError as error:
        # A colleague's file cannot be linked to (fs.protected_hardlinks), nor can any
        # on some file systems.
        if error.errno not in {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP}:
            raise
        return False
    return True


def _below(source: Path, target: Path) -> Iterator[tuple[Path, os.DirEntry[str]]]:
    target.mkdir(exist_ok=True)
    with os.scandir(source) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _below(Path(entry.path), target / entry.name)
            else:
                yield target / entry.name, entry


def whose(origin: Path) -> dict[str, str]:
    """Return whose commits these will be; where they are made, git may not find the user's own settings."""
    identity = {key: _whose(origin, key) for key in _WHOSE}
    if not all(identity.values()):
        raise UsageError(
            "git doesn't know who you are",
            why="the experiments' commits carry your name",
            next='git config --global user.name "Your Name"; git config --global user.email you@site.example',
        )
    return identity


def _whose(origin: Path, key: str) -> str:
    """Return what git would put into a commit: a variable comes before the setting (2.39)."""
    part = key.rpartition(".")[2].upper()
    given = os.environ.get(f"GIT_AUTHOR_{part}", "").strip()
    return given or ask_git(origin, "config", key)


def _refuse_untracked_beginnings(origin: Path, content: str) -> None:
    listing = git(origin, "ls-tree", "--name-only", content, "--", *BEGINNINGS)
    tracked = listing.splitlines()
    for file in BEGINNINGS:
        if file not in tracked and (origin / file).is_file():
            raise _not_tracked(origin, file)


def _not_tracked(origin: Path, file: str) -> UsageError:
    what, where = "git does not track it", str(origin / file)
    way_out = git_add(origin, file)
    rule = ask_git(origin, "check-ignore", "--verbose", file).partition("\t")[0]
    if rule:
        return UsageError(what, where, f"{rule} ignores it", way_out)
    why = "experiments have what git tracks, as with `dvc exp run --queue`"
    return UsageError(what, where, why, way_out)
