"""Freezes what a program made: out of its reach, read-only, hashed. From here on the run store holds the files."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllam_exps.base import records
from mllam_exps.base.errors import CheckFailed
from mllam_exps.identity.content import Described, describe, executable, regular

if TYPE_CHECKING:
    from mllam_exps.runs.attempts import Attempt

READ_ONLY = 0o444


def check_made(attempt: Attempt, paths: Iterable[str]) -> None:
    """Refuse a success that lacks an output which ``dvc.yaml`` declares.

    Raises
    ------
    CheckFailed
        Naming it.
    """
    for path in paths:
        made = attempt.work / path
        if made.is_symlink() and not made.exists():
            why = f"its target is {made.readlink()}"
            raise CheckFailed(
                f"the output {path} is a link that leads nowhere", str(made), why
            )
        if not made.exists():
            raise CheckFailed(
                f"the stage did not make its output {path}", where=str(made)
            )


def freeze(
    attempt: Attempt, paths: Iterable[str], ignored: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """Move the outputs out of reach of the program, make them read-only, and hash them.

    Links become what they point to, as in DVC's cache: their targets go with the work
    directory.

    Parameters
    ----------
    ignored : sequence of str
        Patterns of the repository's ``.dvcignore``: such files in folders are no
        outputs, and are removed.

    Returns
    -------
    dict
        For each output its digest, size in bytes and number of files, as
        ``result.json`` has them.

    Raises
    ------
    CheckFailed
        If an output is, or contains, what has no content: a link that leads nowhere, a
        pipe.
    """
    outs = list(paths)
    # All of them before any is moved: one may point into another.
    for path in outs:
        _resolve(attempt.work / path, path, ignored)
    manifest = {}
    for path in outs:
        made, frozen = attempt.work / path, attempt.outputs / path
        frozen.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(
            made, frozen
        )  # a rename, unless the attempt worked on another file system
        is_executable = executable(frozen) if frozen.is_file() else {}
        for file in frozen.rglob("*") if frozen.is_dir() else [frozen]:
            if file.is_file():
                file.chmod(READ_ONLY)
        # An object of DVC's cache is not executable: `spread` and DVC make copies of it
        # so.
        manifest[path] = describe(frozen) | is_executable
    records.replace(attempt.directory / "manifest.json", manifest)
    return {path: _summary(described) for path, described in manifest.items()}


def _summary(described: Described) -> dict[str, Any]:
    files = described["files"]
    kept = {key: value for key, value in described.items() if key != "mark"}
    return kept | {"files": 1 if files is None else len(files)}


def _resolve(made: Path, path: str, ignored: Sequence[str]) -> None:
    """Make an output what DVC (3.67) sees of it: content, and no links.

    DVC hashes what a link to a file points to. A link to a folder that lies in an
    output it leaves out.
    """
    target = made.resolve()
    if made.is_symlink() and target.is_dir():
        if made.parent.resolve().is_relative_to(target):
            raise CheckFailed(
                f"the output {path} is a link to a folder that it lies in", str(made)
            )
        for file in target.rglob("*"):
            if not file.is_dir():
                regular(file)
        made.unlink()
        # Links in it are seen from where they lie: they are followed while that is
        # copied.
        shutil.copytree(target, made, ignore=_links_to_folders)
    elif made.is_symlink():
        regular(made)
        made.unlink()
        shutil.copyfile(target, made)
        shutil.copymode(target, made)
    _drop(made, path, ignored)
    for file in list(made.rglob("*")) if made.is_dir() else [made]:
        if file.is_symlink() and file.is_dir():
            _say_left_out(file)
            file.unlink()
        elif not file.is_dir():
            regular(file)
            if file.is_symlink():
                target = file.resolve()
                file.unlink()
                shutil.copyfile(target, file)


def _links_to_folders(folder: str, names: list[str]) -> set[str]:
    found = {
        name
        for name in names
        if (path := Path(folder, name)).is_symlink() and path.is_dir()
    }
    for name in sorted(found):
        _say_left_out(Path(folder, name))
    return found


def _say_left_out(link: Path) -> None:
    print(
        f"note: {link.name}, in an output, is a link to a folder, and left out: DVC does the same",
        flush=True,
    )


def _drop(made: Path, path: str, ignored: Sequence[str]) -> None:
    if not ignored or not made.is_dir():
        return
    from pathspec import PathSpec

    spec = PathSpec.from_lines("gitwildmatch", ignored)
    for file in sorted(made.rglob("*"), reverse=True):
        if (file.is_symlink() or not file.is_dir()) and spec.match_file(
            f"{path}/{file.relative_to(made).as_posix()}"
        ):
            file.unlink()
