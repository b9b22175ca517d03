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
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mllam_exps.base import ownership, records
from mllam_exps.base.errors import UsageError
from mllam_exps.base.git import ask_git, git, shown
from mllam_exps.repository import checkouts
from mllam_exps.repository.checkouts import Checkout

SMALL = 32 * 1024
"""Files up to this size are copied. Larger ones are nobody's to write in place: git and DVC replace them."""

NAMED = 3

BEGINNINGS = ("dvc.yaml", ".dvc/config")
"""Without these a clone is no DVC repository with stages."""

KEPT = "refs/mllam-exps"
"""Where a repository names what experiments start from, for as long as they are at work."""


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
    top, _, prefix = git(
        origin, "rev-parse", "--show-toplevel", "--show-prefix"
    ).partition("\n")
    identity = _identity(origin)
    checkout = checkouts.look(Path(top))
    _refuse_untracked_beginnings(origin, checkout.content)
    machines = f"\t{prefix}machines/"
    files = git(origin, "ls-tree", "-r", "--full-tree", "-z", checkout.content).split(
        "\0"
    )
    text = "\0".join(file for file in files if machines not in file)
    tree = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
    changed = git(
        origin,
        "diff",
        "--name-only",
        "--relative",
        "-z",
        checkout.baseline,
        checkout.content,
    )
    edited = tuple(shown(file) for file in changed.split("\0") if file)
    return State(origin, prefix, checkout, tree, edited, identity)


def untracked(origin: Path) -> list[str]:
    """Return files that no clone has: git does not track them, and the repository itself says nothing of them.

    What only the user's own rules ignore (``*.nc`` in ``core.excludesFile``, say) is
    named as well. The first three, and dots for the others; those that begin with a dot
    are last.
    """
    found = git(
        origin, "ls-files", "--others", "--exclude-per-directory=.gitignore", "-z"
    ).split("\0")
    names = sorted(
        map(shown, filter(None, found)), key=lambda name: (name.startswith("."), name)
    )
    return [*names[:NAMED], "…"] if len(names) > NAMED else names


@records.for_nobody_else_to_write()
def make(state: State, target: Path, cache: dict[str, str]) -> Path:
    """Clone a repository as it was when its `state` was taken, for nobody else to write to, whatever the umask.

    Parameters
    ----------
    target : Path
        Where the clone goes; must not exist.
    cache : dict
        DVC's settings of the cache, for the clone's own configuration. Remotes, and the
        credentials that they may carry, stay behind.

    Returns
    -------
    Path
        The DVC repository in the clone.
    """
    checkouts.lay_out(state.checkout, target)
    for key, value in (
        state.identity | {"mllam-exps.origin": str(state.origin)}
    ).items():
        git(target, "config", key, value)
    root = target / state.prefix
    lines = [
        "[cache]",
        *(f"    {key} = {_quoted(value)}" for key, value in cache.items()),
        "",
    ]
    local = root / ".dvc" / "config.local"
    local.write_text("\n".join(lines), encoding="utf-8")
    (root / ".dvc" / "tmp").mkdir(exist_ok=True)
    return root


def keep(origin: Path, identity: str, content: str) -> None:
    """Have a repository keep what an experiment starts from, whatever becomes of the branch that it was on."""
    git(origin, "update-ref", f"{KEPT}/{identity}", content)


def release(origin: Path, identity: str) -> None:
    """End that; where there is nothing to end, that is all right."""
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
        else:
            found = entry.stat()
            shared = (
                linked and found.st_size > SMALL
            ) or "/.git/objects/" in entry.path
            if not (shared and _link(entry.path, path)):
                with open(entry.path, "rb") as file:  # noqa: PTH123 - a hundred clones of a hundred files
                    path.write_bytes(file.read())
                path.chmod(found.st_mode & ~ownership.OTHERS)
                os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


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


def _identity(origin: Path) -> dict[str, str]:
    """Return whose commits these will be; where they are made, git may not find the user's own settings."""
    found = {
        key: value
        for key in ("user.name", "user.email")
        if (value := ask_git(origin, "config", key))
    }
    if len(found) < 2:
        raise UsageError(
            "git doesn't know who you are",
            why="the experiments' commits carry your name",
            next='git config --global user.name "Your Name"; git config --global user.email you@site.example',
        )
    return found


def _refuse_untracked_beginnings(origin: Path, content: str) -> None:
    tracked = git(
        origin, "ls-tree", "--name-only", content, "--", *BEGINNINGS
    ).splitlines()
    for file in BEGINNINGS:
        if file not in tracked and (origin / file).is_file():
            ignored = ask_git(origin, "check-ignore", "--verbose", file).partition(
                "\t"
            )[0]
            raise UsageError(
                "git does not track it",
                str(origin / file),
                f"{ignored} ignores it"
                if ignored
                else "experiments have what git tracks, as with `dvc exp run --queue`",
                f"git add {'--force ' if ignored else ''}{file}",
            )


def _quoted(value: str) -> str:
    # DVC reads its files with configobj, whose lists are separated by commas; what
    # holds one is a list there.
    return value if "," in value and '"' not in value else f'"{value}"'
