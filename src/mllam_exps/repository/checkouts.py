"""A checkout of git's, looked at and laid out elsewhere: the same bytes, the same commits, submodules included.

What tracked files hold is read in the checkout itself, and by git with that
repository's own settings. So whatever stands between a file and what git keeps of it
(filters, line ends, git-lfs) is what it is there, and no program that smudges is called
again.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import shutil
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mllam_exps.base.errors import UsageError
from mllam_exps.base.git import GitFailed, git, run_git, shown
from mllam_exps.machines import workspace
from mllam_exps.repository import converted

SETTINGS = (
    # Times of inodes change when links to them are made: no reason to read the files
    # again.
    "core.trustctime=false",
    "core.checkStat=minimal",
)
"""How git looks at files that were copied with their times."""

_STRICTLY = ("core.trustctime=true", "core.checkStat=default")
"""How git looks at the checkout, whatever it is set to there: a file that kept size and time may have been edited."""

_WHOLE = (
    # Of a sparse checkout all is laid out, as an experiment's commit holds all of it.
    "core.sparseCheckout=false",
    "index.sparse=false",
    "core.splitIndex=false",
    # It asks whether line ends would survive a round trip, and refuses; nothing here
    # makes that trip.
    "core.safecrlf=false",
)
_BROUGHT = r"^(filter\..*|core\.(autocrlf|eol|filemode|symlinks|ignorecase|attributesfile|excludesfile))$"
"""Settings by which a repository reads and writes files, for commands that ask git in a copy of it."""

_NO_FILE = re.compile(r"error: (.*): can only add regular files")
"""How git (2.39) refuses to add a pipe or a device."""

_INDEX = ("ls-files", "--stage", "-z")
_SUBMODULE = "160000"
_EXECUTABLE = "100755"
"""How git (2.39) calls a submodule, and a file that may be executed, in its index."""


@dataclass(frozen=True)
class Checkout:
    """What the tracked files of a checkout hold.

    Parameters
    ----------
    top : Path
        Where it is.
    baseline : str
        The commit that is checked out.
    content : str
        A commit, or the baseline itself, with what the tracked files hold now.
    index, indexed : bytes, int
        git's index of that content, with the times and sizes of these files, and when
        it was written: what was written later than that, or at that moment, is read
        again.
    passed_over : tuple of str
        Files that git was told not to look at (``skip-worktree``, ``assume-unchanged``,
        a sparse checkout): what counts is what git keeps of them.
    submodules : dict of Checkout
        Those that are checked out, by path.
    """

    top: Path
    baseline: str
    content: str
    index: bytes = field(repr=False)
    indexed: int
    passed_over: tuple[str, ...] = ()
    submodules: dict[str, Checkout] = field(default_factory=dict)


@dataclass(frozen=True)
class Elsewhere:
    """The git of one checkout, at work on files that lie elsewhere, with an index of their own.

    Its settings, filters and objects are the checkout's; nothing that lies beside the
    files is executed.

    Parameters
    ----------
    files, index : Path
        The files, and their index.
    git_dir : str
        The checkout's repository.
    copied : bool
        Whether the files are copies of those that the index describes, with their
        times.
    """

    files: Path
    index: Path
    git_dir: str
    copied: bool

    @classmethod
    def of(cls, top: Path, files: Path, index: Path) -> Elsewhere:
        """Take the git of the checkout at `top`, once git has said that it trusts whoever owns that."""
        return cls(
            files, index, git(top, "rev-parse", "--absolute-git-dir"), files != top
        )

    def git(self, *arguments: str, input: str | None = None, below: str = "") -> str:
        """Return the output of a git command, in a folder of the files.

        Raises
        ------
        GitFailed
            With the line in which git says why.
        """
        where = self.files / below
        environ = {
            "GIT_DIR": self.git_dir,
            "GIT_WORK_TREE": str(self.files),
            "GIT_INDEX_FILE": str(self.index),
        }
        settings = [*_WHOLE, *(SETTINGS if self.copied else _STRICTLY)]
        words = [word for setting in settings for word in ("-c", setting)]
        return git(where, *words, *arguments, input=input, environ=environ)

    def submodules(self) -> list[str]:
        """Return where the index has submodules."""
        return _submodules(self.git(*_INDEX))


def submodules(folder: Path) -> list[str]:
    """Return where git has submodules below a folder of a checkout, checked out or not."""
    return _submodules(run_git(folder, *_INDEX).stdout)


def _submodules(listed: str) -> list[str]:
    found = [line for line in _split(listed) if line.startswith(_SUBMODULE)]
    return [line.partition("\t")[2] for line in found]


def look(top: Path) -> Checkout:
    """Return what a checkout holds now; nothing in it is touched.

    Raises
    ------
    UsageError
        If git has no commit to start from, or what the files hold could not be
        recorded.
    """
    try:
        baseline = git(top, "rev-parse", "--verify", "-q", "HEAD^{commit}")
    except GitFailed:
        begin = 'git add -A; git commit -m "Begin"'
        raise UsageError("has no commit yet", str(top), next=begin) from None
    _refuse_unmerged(top)
    try:
        with tempfile.TemporaryDirectory(prefix="mllam-exps-") as folder:
            return _look(top, baseline, Path(folder) / "index")
    except GitFailed as error:
        why, way_out = error.why, "git status; git add --update"
        if found := _NO_FILE.search(why):
            # It stands where git keeps a file; `git restore` removes it.
            way_out = f"git restore {workspace.typed(top, found[1])}"
        if os.strerror(errno.EROFS) in why:
            way_out = f"git clone {shlex.quote(str(top))} to where you may write"
        what = "git cannot tell its state"
        raise UsageError(what, str(top), why, way_out) from error


def _refuse_unmerged(top: Path) -> None:
    # The first entry: mode, object, stage, a tab, the path.
    entry = git(top, "ls-files", "--unmerged", "-z").partition("\0")[0]
    if entry:
        file = shown(entry.partition("\t")[2])
        way_out = f"git status; git add {file}"
        raise UsageError("is not merged", str(top / file), next=way_out)


def _look(top: Path, baseline: str, index: Path) -> Checkout:
    # With its time: what was written later than that, or at that moment, git reads
    # again.
    shutil.copy2(top / git(top, "rev-parse", "--git-path", "index"), index)
    here = Elsewhere.of(top, top, index)
    # Changed, removed and (`git add`, `git add -N`) new files: what `git commit --all`
    # would take.
    here.git("add", "--update")
    passed_over = _passed_over(here)
    if passed_over:
        # Of two marks in one command git (2.39) sets the first.
        for mark in ("--no-skip-worktree", "--no-assume-unchanged"):
            here.git("update-index", mark, "-z", "--stdin", input=_join(passed_over))
    submodules = {}
    for path in here.submodules():
        # Where it is not checked out, git (2.39) has an empty folder.
        if (top / path / ".git").exists():
            submodules[path] = inner = _look_at_submodule(top, path)
            entry = f"{_SUBMODULE},{inner.baseline},{path}"
            here.git("update-index", "--cacheinfo", entry)
    tree = here.git("write-tree")
    content = baseline
    if tree != here.git("rev-parse", f"{baseline}^{{tree}}"):
        message = "What is not committed yet"
        content = here.git("commit-tree", tree, "-p", baseline, "-m", message)
    indexed = index.stat().st_mtime_ns
    return Checkout(
        top,
        baseline,
        content,
        index.read_bytes(),
        indexed,
        tuple(passed_over),
        submodules,
    )


def _passed_over(here: Elsewhere) -> list[str]:
    """Return the files that git was told not to look at."""
    paths = []
    for line in _split(here.git("ls-files", "-v", "-z")):
        # git (2.39) marks skip-worktree by S, and assume-unchanged by a small letter.
        mark, path = line[0], line[2:]
        if mark == "S" or mark.islower():
            paths.append(path)
    return paths


def _look_at_submodule(top: Path, path: str) -> Checkout:
    submodule = look(top / path)
    if submodule.content != submodule.baseline:
        # It may be a submodule of a submodule, and the command be typed in a folder.
        folder = workspace.typed(top, path)
        raise UsageError(
            "the submodule has changes that are not committed",
            str(top / path),
            "an experiment records which commit of it is checked out, and nothing else",
            f"git -C {folder} commit --all, or git -C {folder} stash",
        )
    return submodule


def hidden_changes(checkout: Checkout) -> list[str]:
    """Return files that were changed, and of which git was told to take no notice."""
    if not checkout.passed_over:
        return []
    with tempfile.TemporaryDirectory(prefix="mllam-exps-") as folder:
        index = Path(folder) / "index"
        _write_index(checkout, index)
        here = Elsewhere.of(checkout.top, checkout.top, index)
        changed = _split(here.git("diff-files", "--name-only", "--diff-filter=M", "-z"))
    return [shown(path) for path in changed if path in checkout.passed_over]


def embedded(checkout: Checkout) -> list[str]:
    """Return git repositories in a checkout that are no submodules: git keeps a commit, and not where it is from."""
    found: list[str] = []
    words = (
        "config",
        "-f",
        ".gitmodules",
        "--get-regexp",
        "-z",
        r"^submodule\..*\.path$",
    )
    named = _split(run_git(checkout.top, *words).stdout)
    # "submodule.nl.path", a line's end, "nl"
    known = {entry.partition("\n")[2] for entry in named}
    for path, inner in checkout.submodules.items():
        found += [] if path in known else [path]
        found += [f"{path}/{below}" for below in embedded(inner)]
    return found


def lay_out(checkout: Checkout, target: Path) -> None:
    """Lay a checkout out in a new folder, as a repository without a history.

    Raises
    ------
    UsageError
        If a file was changed since it was looked at.
    """
    git(target.parent, "init", "--quiet", "--template=", "--", str(target))
    settings = [*SETTINGS, "core.logAllRefUpdates=false", "gc.auto=0"]
    for setting in [*settings, *_own_settings(checkout.top)]:
        git(target, "config", *setting.split("=", 1))
    _bring_objects(checkout, target)
    # HEAD is the baseline, the files hold the content.
    (target / ".git" / "shallow").write_text(f"{checkout.baseline}\n", encoding="ascii")
    git(target, "update-ref", "--no-deref", "HEAD", checkout.baseline)
    index = target / ".git" / "index"
    _write_index(checkout, index)
    there = Elsewhere.of(checkout.top, target, index)
    _bring_files(checkout, there)
    _refuse_edited(checkout, there)
    _check_out(there, converted.files(there.git, checkout.baseline, checkout.content))
    for path, inner in checkout.submodules.items():
        lay_out(inner, target / path)


def _bring_objects(checkout: Checkout, target: Path) -> None:
    """Write git's objects of one state into a new repository: one small pack, whatever the checkout's history."""
    commits = list(dict.fromkeys([checkout.baseline, checkout.content]))
    objects = git(checkout.top, "rev-list", "--objects", "--no-walk", *commits)
    # git (2.39) writes a pack into its own folder and renames it: that has to be on the
    # clone's file system.
    place = target / ".git" / "objects"
    own = git(
        checkout.top, "rev-parse", "--path-format=absolute", "--git-path", "objects"
    )
    quoted = own.replace("\\", "\\\\").replace('"', '\\"')
    environ = {
        "GIT_OBJECT_DIRECTORY": str(place),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": f'"{quoted}"',
    }
    pack = ("pack-objects", "--quiet", str(place / "pack" / "pack"))
    git(checkout.top, *pack, input=f"{objects}\n", environ=environ)


def _bring_files(checkout: Checkout, there: Elsewhere) -> None:
    """Copy the tracked files; those that git was told not to look at are as git keeps them."""
    passed_over = set(checkout.passed_over)
    for entry in _split(there.git("ls-files", "--stage", "-z")):
        # Mode, object, stage, a tab, the path.
        told, _, path = entry.partition("\t")
        if path not in passed_over:
            isexec = told.startswith(_EXECUTABLE)
            _copy(checkout.top / path, there.files / path, isexec=isexec)
    _check_out(there, checkout.passed_over)


def _check_out(there: Elsewhere, paths: Sequence[str]) -> None:
    """Lay files out as git keeps them."""
    for path in paths:
        # git (2.39) leaves one alone whose size and times it knows.
        (there.files / path).unlink(missing_ok=True)
    if paths:
        words = ("checkout-index", "-f", "-u", "-z", "--stdin")
        there.git(*words, input=_join(paths))


def _refuse_edited(checkout: Checkout, there: Elsewhere) -> None:
    # The copies have the files' times: git reads only what was changed since.
    words = ("diff-files", "--name-only", "--ignore-submodules=all", "-z")
    edited = _split(there.git(*words))
    if edited:
        where = str(checkout.top / shown(edited[0]))
        raise UsageError(
            "it was edited while it was being submitted", where, next="submit it again"
        )


def _own_settings(top: Path) -> list[str]:
    words = ("config", "--local", "--includes", "--get-regexp", "-z", _BROUGHT)
    done = run_git(top, *words)
    # "filter.lfs.clean", a line's end, its value; nothing where there is no such
    # setting
    return ["=".join(setting.split("\n", 1)) for setting in _split(done.stdout)]


def _write_index(checkout: Checkout, index: Path) -> None:
    index.write_bytes(checkout.index)
    os.utime(index, ns=(checkout.indexed, checkout.indexed))


def _copy(source: Path, target: Path, *, isexec: bool) -> None:
    """Copy a tracked file, with its times; one that is gone meanwhile is left out, and a submodule is a folder.

    Parameters
    ----------
    isexec : bool
        Whether git says that it may be executed: with ``core.fileMode=false`` git
        overlooks the mode that the file has here, and gives another one back.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        status = source.lstat()
        if stat.S_ISLNK(status.st_mode):
            target.symlink_to(source.readlink())
        elif stat.S_ISDIR(status.st_mode):
            target.mkdir(exist_ok=True)
        else:
            shutil.copyfile(source, target)
            if isexec:
                target.chmod(target.stat().st_mode | 0o111)
    except FileNotFoundError:
        return
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def _split(text: str) -> list[str]:
    return [part for part in text.split("\0") if part]


def _join(paths: Sequence[str]) -> str:
    return "".join(f"{path}\0" for path in paths)
