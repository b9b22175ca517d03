"""Freezes what a program made: out of its reach, read-only, hashed. From here on the run store holds the files."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mllam_exps.base import records, symlinks
from mllam_exps.base.errors import CheckFailed, MllamError
from mllam_exps.dvc.cache import lay_out
from mllam_exps.dvc.counted import LINK, Counted
from mllam_exps.identity.content import (
    Described,
    describe,
    executable,
    regular,
    unknown_to_dvc,
)
from mllam_exps.runs import layout
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.results import Contents, Output

READ_ONLY = 0o444
SHORT = 200
"""Letters of a name that another one can begin with: names have 255 bytes at most."""
NAMED = 3
"""Of so many files that are left out an attempt's log has the names."""


def check_made(attempt: Attempt, paths: Iterable[str]) -> None:
    """Refuse a success that lacks an output which ``dvc.yaml`` declares.

    Raises
    ------
    CheckFailed
        Naming it.
    """
    for path in paths:
        made = attempt.work / path
        _refuse_behind_a_link(attempt, path)
        if made.is_symlink() and not made.exists():
            what = f"the output {path} is a link that leads nowhere"
            raise CheckFailed(what, str(made), f"its target is {made.readlink()}")
        if not made.exists():
            what = f"the stage did not make its output {path}"
            raise CheckFailed(what, where=str(made))


def _refuse_behind_a_link(attempt: Attempt, path: str) -> None:
    """Refuse an output in a folder behind a link that leads away: it is moved, and that would take it from there.

    Raises
    ------
    CheckFailed
        Naming it.
    """
    made = attempt.work / path
    try:
        symlinks.in_folder(attempt.top, made)
    except MllamError as error:
        what = f"the output {path} {error.what}"
        way_out = f"have the stage write {path} to a folder of the repository"
        raise CheckFailed(what, str(made), next=way_out) from None


def freeze(attempt: Attempt, paths: Iterable[str]) -> dict[str, Output]:
    """Move the outputs out of reach of the program, make them read-only, and hash them.

    Links become what they point to, as in DVC's cache: their targets go with the work
    directory. What DVC does not count of a folder is removed; the manifest names it, so
    that no program that would read it runs without it. Empty folders, and which files
    in a folder may be executed, DVC does not know: the manifest does.

    Returns
    -------
    dict
        For each output its digest, size in bytes and number of files, as the run's
        result has them.

    Raises
    ------
    CheckFailed
        If an output is, or contains, what has no content: a link that leads nowhere, a
        pipe.
    """
    outs = list(paths)
    # All of them before any is moved: one may point into another.
    counted = Counted(attempt.work)
    left = {path: _resolve(attempt.work / path, path, counted) for path in outs}
    _part_from_others(attempt, outs)
    # All of them before any is made read-only: two names may be one file.
    executables = {path: _executables(attempt.work / path) for path in outs}
    manifest: dict[str, Described] = {}
    for path in outs:
        frozen = attempt.outputs / path
        frozen.parent.mkdir(parents=True, exist_ok=True)
        # A rename, unless the attempt worked on another file system.
        shutil.move(attempt.work / path, frozen)
        _make_read_only(frozen)
        manifest[path] = _described(frozen, executables[path], left[path])
    place = attempt.directory / layout.MANIFEST
    records.replace(place, Contents(manifest).to_record())
    return {path: _summary(described) for path, described in manifest.items()}


def _make_read_only(frozen: Path) -> None:
    for file in frozen.rglob("*") if frozen.is_dir() else [frozen]:
        if file.is_file():
            file.chmod(READ_ONLY)


def _described(
    frozen: Path, executables: set[str], left: Mapping[str, str]
) -> Described:
    """Describe a frozen output, with what DVC does not know of it."""
    # An object of DVC's cache is not executable: `spread` and DVC make copies of it so.
    described = describe(frozen)
    for file in described["files"] or [described]:
        if file.get("relpath", "") in executables:
            file["isexec"] = True
    empty = []
    for folder in frozen.rglob("*"):
        if folder.is_dir() and not any(folder.iterdir()):
            empty.append(folder.relative_to(frozen).as_posix())
    return described | unknown_to_dvc(empty, left)


def _summary(described: Described) -> Output:
    files = described["files"]
    return Output(
        described["digest"],
        described["size"],
        1 if files is None else len(files),
        bool(described.get("isexec")),
    )


def _executables(made: Path) -> set[str]:
    """Return the files of an output that their owner may execute, as seen from it; a file is seen from itself as ''."""
    if made.is_file():
        return {""} if executable(made) else set()
    found = set()
    for file in made.rglob("*"):
        if file.is_file() and executable(file):
            found.add(file.relative_to(made).as_posix())
    return found


def _resolve(made: Path, path: str, counted: Counted) -> dict[str, str]:
    """Make an output what DVC (3.67) sees of it: content, and no links.

    DVC hashes what a link to a file points to. A link to a folder that lies in an
    output it leaves out.

    Returns
    -------
    dict
        What is left out of a folder, with the reason.
    """
    left: dict[str, str] = {}
    if made.is_symlink() and made.resolve().is_dir():
        left = _copy_linked_folder(made, path)
    elif made.is_symlink():
        _follow(made)
    if not made.is_dir():
        regular(made)
        return left
    _open_folders(made)
    files, dropped = counted.look(made)
    for file, why in dropped.items():
        left[file.relative_to(made).as_posix()] = why
        if file.is_dir() and not file.is_symlink():
            shutil.rmtree(file)
        else:
            file.unlink()
    for file in files:
        regular(file)
        if file.is_symlink():
            _follow(file)
    _say_left_out(path, left)
    return left


def _follow(link: Path) -> None:
    """Put the file that a link points to in its place."""
    target = link.resolve()
    regular(link)
    link.unlink()
    shutil.copyfile(target, link)
    shutil.copymode(target, link)


def _part_from_others(attempt: Attempt, outs: Iterable[str]) -> None:
    """Give files of outputs that have another name elsewhere a content of their own.

    Whoever writes to that name (``ln /scratch/big.nc out.nc``) would write into the run
    store, and could not any more once the file is read-only. What an attempt at this
    run keeps in its scratch folder is none of that: a checkpoint may have a name there,
    too.
    """
    names: dict[tuple[int, int], list[Path]] = {}
    links: dict[tuple[int, int], int] = {}
    for path in outs:
        for file, found in _regular_files(attempt.work / path):
            if found.st_nlink > 1:
                inode = (found.st_dev, found.st_ino)
                names.setdefault(inode, []).append(file)
                links[inode] = found.st_nlink
    if not names:
        return
    for number in range(1, attempt.number + 1):
        for _, found in _regular_files(Attempt(attempt.run, number).scratch):
            if (inode := (found.st_dev, found.st_ino)) in links:
                links[inode] -= 1
    for inode, files in names.items():
        if links[inode] > len(files):
            _copy_in_place(files)


def _regular_files(place: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield a file, or those below a folder, with what is known of each."""
    for file in [place] if place.is_file() else place.rglob("*"):
        found = file.lstat()
        if stat.S_ISREG(found.st_mode):
            yield file, found


def _copy_in_place(names: Sequence[Path]) -> None:
    """Make names of one file names of a copy of it; on some file systems that shares the bytes until one is written."""
    first, *others = names
    aside = first.with_name(f".{first.name[:SHORT]}.{os.getpid()}")
    lay_out([first], [aside], ["reflink", "copy"])
    shutil.copymode(first, aside)
    aside.replace(first)
    for other in others:
        other.unlink()
        other.hardlink_to(first)


def _copy_linked_folder(made: Path, path: str) -> dict[str, str]:
    """Put the folder that a link points to in its place; return what is left out, with the reason."""
    target = made.resolve()
    if made.parent.resolve().is_relative_to(target):
        what = f"the output {path} is a link to a folder that it lies in"
        raise CheckFailed(what, str(made))
    for file in target.rglob("*"):
        if not file.is_dir():
            regular(file)
    made.unlink()
    # Links in it are seen from where they lie: they are followed while that is copied.
    left = dict.fromkeys(_links_to_folders(target), LINK)
    unwanted = _not_these({target / name for name in left})
    shutil.copytree(target, made, ignore=unwanted)
    return left


def _open_folders(made: Path) -> None:
    """Let the owner into all folders of an output, and write there: nobody could remove it else."""
    for folder in _folders(made):
        mode = folder.stat().st_mode
        if mode & stat.S_IRWXU != stat.S_IRWXU:
            folder.chmod(mode | stat.S_IRWXU)


def _folders(made: Path) -> Iterator[Path]:
    """Yield all folders, each before it is looked into."""
    yield made
    for path in _below(made):
        if not path.is_symlink():
            yield path


def _links_to_folders(folder: Path) -> list[str]:
    links = [path for path in _below(folder) if path.is_symlink()]
    return [path.relative_to(folder).as_posix() for path in links]


def _below(folder: Path) -> Iterator[Path]:
    """Yield the folders below a folder, and the links to folders, which are not followed."""
    for place, folders, _ in os.walk(folder):
        for name in folders:
            yield Path(place, name)


def _not_these(left: set[Path]) -> Callable[[str, list[str]], set[str]]:
    """Return what `shutil.copytree` asks which names of a folder not to copy."""
    return lambda folder, names: {name for name in names if Path(folder, name) in left}


def _say_left_out(path: str, left: Mapping[str, str]) -> None:
    for name in list(left)[:NAMED]:
        what = f"{path}/{name} is left out, as DVC does not count it: {left[name]}"
        print(f"note: {what}", flush=True)
    if len(left) > NAMED:
        print(f"note: so are {len(left) - NAMED} more in {path}", flush=True)
