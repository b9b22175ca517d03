"""The repository as it is now, frozen: one clone for each submitted experiment.

What runs is what was there at submission, with uncommitted changes, as ``dvc exp run --queue`` takes them: tracked and
staged files. The first clone is made by git; the others of one submission are copies of it, whose large files (git's
pack, data that lie in git) are hard links: a hundred clones cost hardly more than one.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mllam_exps import workspace
from mllam_exps.errors import MllamError, UsageError
from mllam_exps.workspace import run_git

SMALL = 32 * 1024
"""Files up to this size are copied. Larger ones are nobody's to write in place: git and DVC replace them."""

NAMED = 3

_SETTINGS = (
    # Times of inodes change when links to them are made: no reason to read the files again.
    "core.trustctime=false",
    "core.checkStat=minimal",
    "core.logAllRefUpdates=false",
    "gc.auto=0",
)


_WHY = re.compile(r"fatal: |error: (?!failed to push)|\[(remote )?rejected\]")
"""Where git (2.39) says why; what follows is general advice, most often."""


@dataclass(frozen=True)
class State:
    """What a repository holds now.

    Parameters
    ----------
    origin : Path
        The DVC repository.
    top, prefix : Path, str
        The git repository that it lies in, and where.
    baseline : str
        The commit that is checked out.
    content : str
        A commit, or the baseline itself, whose tree is what tracked files hold now.
    tree : str
        A digest of that tree, but for machine files: these are read where the repository is, and change no result.
    edited : tuple of str
        The tracked files whose changes are not committed, seen from the DVC repository.
    """

    origin: Path
    top: Path
    prefix: str
    baseline: str
    content: str
    tree: str
    edited: tuple[str, ...] = ()


def state(origin: Path) -> State:
    """Return what a repository holds now; nothing in it is touched.

    Raises
    ------
    UsageError
        If git has no commit to start from, or unmerged files.
    """
    top, _, prefix = git(origin, "rev-parse", "--show-toplevel", "--show-prefix").partition("\n")
    try:
        baseline = git(origin, "rev-parse", "--verify", "-q", "HEAD^{commit}")
    except MllamError:
        raise UsageError("has no commit yet", str(origin), next='git add -A; git commit -m "Begin"') from None
    # The tree that DVC's queue takes, without touching anything.
    done = run_git(origin, "stash", "create")
    if done.stderr.strip():
        why = " ".join(done.stderr.split())
        raise UsageError("git cannot tell its state", str(origin), why, "git status; git add, or commit, what it names")
    # Nothing is changed: empty output; with exit code 1 where only the times of files are (git 2.39).
    content = done.stdout.strip() or baseline
    machines = f"\t{prefix.strip()}machines/"
    files = git(origin, "ls-tree", "-r", "--full-tree", "-z", content).split("\0")
    tree = hashlib.sha256("\0".join(file for file in files if machines not in file).encode()).hexdigest()
    edited = git(origin, "diff", "--name-only", "--relative", baseline, content).splitlines()
    return State(origin, Path(top), prefix.strip(), baseline, content, tree, tuple(edited))


def untracked(origin: Path) -> list[str]:
    """Return files that git neither tracks nor ignores: no clone has them. The first three, and dots for the others."""
    found = git(origin, "ls-files", "--others", "--exclude-standard", "-z").split("\0")
    names = sorted(filter(None, found))
    return [*names[:NAMED], "…"] if len(names) > NAMED else names


def make(state: State, target: Path, cache: dict[str, str]) -> Path:
    """Clone a repository as it was when its `state` was taken.

    Parameters
    ----------
    target : Path
        Where the clone goes; must not exist.
    cache : dict
        DVC's settings of the cache, for the clone's own configuration. Remotes, and the credentials that they may
        carry, stay behind.

    Returns
    -------
    Path
        The DVC repository in the clone.
    """
    git(state.origin, "init", "--quiet", "--template=", "--", str(target))
    for setting in _SETTINGS:
        git(target, "config", *setting.split("=", 1))
    # One state, without its history: one small pack, whatever the repository's size. The state of uncommitted changes
    # is a commit that no ref names. A push from such a clone brings only what is new (git 2.39).
    serving = "git -c uploadpack.allowAnySHA1InWant=true upload-pack"
    options = ["--quiet", "--depth=1", "--no-tags", "--no-write-fetch-head", f"--upload-pack={serving}"]
    git(target, "-c", "fetch.unpackLimit=1", "fetch", *options, "--", str(state.top), *{state.baseline, state.content})
    # HEAD is the baseline, the files are those of the uncommitted state.
    git(target, "update-ref", "--no-deref", "HEAD", state.baseline)
    git(target, "read-tree", "-u", "--reset", state.content)
    root = target / state.prefix
    own = _identity(state.origin) | {"mllam-exps.origin": str(state.origin)}
    for key, value in own.items():
        git(target, "config", key, value)
    lines = ["[cache]", *(f"    {key} = {_quoted(value)}" for key, value in cache.items()), ""]
    local = root / ".dvc" / "config.local"
    local.write_text("\n".join(lines), encoding="utf-8")
    (root / ".dvc" / "tmp").mkdir(exist_ok=True)
    return root


def copy(source: Path, target: Path, *, linked: bool = True) -> None:
    """Copy a clone: small files by content; large ones as hard links, unless they are not to be `linked`."""
    for path, entry in _below(source, target):
        if entry.is_symlink():
            path.symlink_to(Path(entry.path).readlink())
        else:
            found = entry.stat()
            shared = (linked and found.st_size > SMALL) or "/.git/objects/" in entry.path
            if not (shared and _link(entry.path, path)):
                with open(entry.path, "rb") as file:  # noqa: PTH123 - a hundred clones of a hundred files
                    path.write_bytes(file.read())
                path.chmod(found.st_mode)
                os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def _link(source: str, target: Path) -> bool:
    """Make a hard link; False where that is impossible."""
    try:
        os.link(source, target)
    except OSError as error:
        # A colleague's file cannot be linked to (fs.protected_hardlinks), nor can any on some file systems.
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
    """Return whose commits these will be: the repository's own settings do not come along with a clone."""
    found = {}
    for key in ("user.name", "user.email"):
        if value := workspace.git(origin, "config", key):
            found[key] = value
    if len(found) < 2:
        raise UsageError(
            "git doesn't know who you are",
            why="the experiments' commits carry your name",
            next='git config --global user.name "Your Name"; git config --global user.email you@site.example',
        )
    return found


def _quoted(value: str) -> str:
    # DVC reads its files with configobj, whose lists are separated by commas; what holds one is a list there.
    return value if "," in value and '"' not in value else f'"{value}"'


def git(directory: Path, *arguments: str, input: str | None = None, index: Path | None = None) -> str:
    """Return the output of a git command.

    Raises
    ------
    MllamError
        With the line in which git says why.
    """
    done = run_git(directory, *arguments, input=input, index=index)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        why = next((line.strip() for line in said if _WHY.search(line)), said[-1])
        raise UsageError(f"git {arguments[0]} failed", str(directory), why)
    return done.stdout.strip()
