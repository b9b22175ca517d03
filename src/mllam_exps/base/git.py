"""Calls git: without hooks, without optional locks, and with messages in English."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from mllam_exps.base.disks import full_disks
from mllam_exps.base.errors import UsageError

GIT_PATIENCE = 300.0
"""Seconds that git may take; a filter that hangs must not keep a job's nodes until its time limit."""

_QUIET = ("-c", f"core.hooksPath={os.devnull}", "-c", "core.fsmonitor=false")
"""Without the hooks of a repository, or the user's: `update-ref` has one (git 2.39), and `fsmonitor` may be one."""

LOCAL_VARIABLES = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_KEY_",
    "GIT_CONFIG_PARAMETERS",
    "GIT_CONFIG_VALUE_",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
)
"""How the variables begin that name one repository (git 2.39, `git rev-parse --local-env-vars`): hooks have them."""

OF_THE_USER = frozenset(
    {
        "GIT_AUTHOR_EMAIL",
        "GIT_AUTHOR_NAME",
        "GIT_COMMITTER_EMAIL",
        "GIT_COMMITTER_NAME",
        "GIT_CONFIG_GLOBAL",
        "GIT_CONFIG_NOSYSTEM",
        "GIT_CONFIG_SYSTEM",
    }
)
"""Variables of git (2.39) that say who somebody is, and where the settings lie: they name no repository."""

_WHY = re.compile(r"fatal: |error: |\[(remote )?rejected\]")
"""Where git (2.39) says why; what follows is general advice, most often."""


class GitFailed(UsageError):
    """A git command failed. Before anything has started that means: something is wrong with the repository."""


def git(
    directory: Path,
    *arguments: str,
    input: str | None = None,
    environ: dict[str, str] | None = None,
) -> str:
    """Return the output of a git command.

    Raises
    ------
    GitFailed
        With the line in which git says why.
    """
    done = run_git(directory, *arguments, input=input, environ=environ)
    if done.returncode != 0:
        raise _failure(directory, arguments, done)
    return done.stdout.rstrip("\n")


def _failure(
    directory: Path,
    arguments: Sequence[str],
    done: subprocess.CompletedProcess[str],
) -> GitFailed:
    """Return the error of a git command, with the line in which git says why."""
    said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    why = shown(_reason_in(said))
    subcommand = next(word for word in arguments if word != "-c" and "=" not in word)
    # git (2.39) says that it cannot rename a file, say, and not why.
    paths = [word for word in arguments if word.startswith("/")]
    if full := full_disks([directory, *paths]):
        why = f"the disk is full: {full} ({why})"
    return GitFailed(f"git {subcommand} failed", str(directory), why)


def _reason_in(said: Sequence[str]) -> str:
    for line in said:
        if _WHY.search(line):
            return line.strip()
    return said[-1]


def ask_git(root: Path, *arguments: str) -> str:
    """Return the output of a git command, stripped; empty where it fails."""
    done = run_git(root, *arguments)
    return done.stdout.strip() if done.returncode == 0 else ""


def run_git(
    root: Path,
    *arguments: str,
    input: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a git command in a repository, and return its exit code and output; a failure raises nothing.

    No hooks are called, and git writes its own files only if the command is for that.
    Names that are not UTF-8 are decoded as by `os.fsdecode`. `environ` adds variables.
    """
    command, inherited = _command(root, arguments)
    try:
        return subprocess.run(
            command,
            env=inherited | dict(environ or {}),
            input=input,
            stdin=None if input is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=GIT_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(
            command, -1, "", f"fatal: no answer within {GIT_PATIENCE:.0f} s"
        )


def is_tracked(root: Path, path: str) -> bool:
    """Tell whether git tracks a file, or any in a folder."""
    return bool(ask_git(root, "ls-files", "-z", "--", f":(literal){path}"))


def is_ignored(root: Path, path: str) -> bool:
    """Tell whether git ignores a file, or would ignore it, by whatever rule."""
    return run_git(root, "check-ignore", "-q", "--", path).returncode == 0


def git_bytes(root: Path, *arguments: str) -> bytes | None:
    """Return the output of a git command to the byte, line ends included; None where it fails."""
    done = _run_bytes(root, arguments)
    return done.stdout if done and done.returncode == 0 else None


def git_objects(
    root: Path, names: Sequence[str], largest: int
) -> dict[str, bytes | None]:
    """Return what objects hold, by the names that git knows them by (``COMMIT:./FILE``); None of what is not there.

    Parameters
    ----------
    largest : int
        Bytes; what is larger counts as not there.
    """
    told = [name for name in dict.fromkeys(names) if "\n" not in name]
    sizes = _cat(root, "--batch-check=%(objectsize)", told)
    found: dict[str, bytes | None] = dict.fromkeys(names)
    small = []
    for name, line in zip(told, sizes.splitlines(), strict=False):
        if line.isdigit() and int(line) <= largest:
            small.append(name)
    content, at = _cat(root, "--batch=%(objectsize)", small), 0
    for name in small:
        size, _, _ = content[at : at + 32].partition(b"\n")
        if not size.isdigit():
            break  # git ended
        at += len(size) + 1
        found[name] = content[at : at + int(size)]
        at += int(size) + 1
    return found


def _cat(root: Path, how: str, names: Sequence[str]) -> bytes:
    lines = b"".join(os.fsencode(name) + b"\n" for name in names)
    done = _run_bytes(root, ["cat-file", how], lines)
    return done.stdout if done else b""


def _run_bytes(
    root: Path, arguments: Sequence[str], input: bytes = b""
) -> subprocess.CompletedProcess[bytes] | None:
    """Run a git command, whose output is not read as text; None where it takes too long."""
    command, environ = _command(root, arguments)
    try:
        return subprocess.run(
            command,
            env=environ,
            input=input,
            capture_output=True,
            timeout=GIT_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None


def _command(root: Path, arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the command line of a git command in a repository, and its environment."""
    # GIT_DIR and the like name another repository when a hook calls us.
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name in OF_THE_USER
    }
    # What git says is read, here and there, in the language that it was written in.
    ours = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LANGUAGE": "en"}
    return ["git", "-C", str(root), *_QUIET, *arguments], inherited | ours


def shown(name: str) -> str:
    """Return a file's name so that it can be printed and kept: bytes that are not UTF-8 are replaced by one sign."""
    return name.encode(errors="surrogateescape").decode(errors="replace")
