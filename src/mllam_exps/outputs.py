"""Where the one copy of an output is, from the program's last write to DVC's commit.

1. The program writes to its attempt's ``work/``. The stage's check reads it there.
2. `freeze` renames it to the attempt's ``outputs/``, makes its files read-only and hashes them, once. From here on the
   run store holds the files.
3. `publish` gives each file a second name, in DVC's cache (a hard link: no bytes are copied; where the cache is on
   another file system it is a copy), and has DVC link the output into the workspace from there.
4. DVC commits: it finds every hash in its state and every object in its cache, and copies nothing.

`dvc gc` may remove the second name: the first remains, and publishing again restores it. A driver or a DVC killed at
any point loses nothing: each step can be done again, by anybody.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllam_exps import records
from mllam_exps.dvc_cache import Cache
from mllam_exps.errors import CheckFailed, MllamError

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage as DvcStage

    from mllam_exps.store import Attempt, Run

READ_ONLY = 0o444
EXECUTABLE = 0o111


def md5_of_file(path: Path) -> str:
    """Return the MD5 by which DVC names a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def digest_of_folder(files: Iterable[Mapping[str, Any]]) -> tuple[str, bytes]:
    """Return a folder's digest, and the object that DVC (3.67) keeps under it.

    Parameters
    ----------
    files : iterable of mapping
        ``{"md5": …, "relpath": …}`` of each file in it.
    """
    listing = sorted(({"md5": f["md5"], "relpath": f["relpath"]} for f in files), key=lambda f: str(f["relpath"]))
    content = json.dumps(listing, sort_keys=True).encode()
    return f"{hashlib.md5(content, usedforsecurity=False).hexdigest()}.dir", content


def describe(path: Path, counts: Callable[[Path], bool] = lambda _file: True) -> dict[str, Any]:
    """Hash an output: a file, or a folder with all files below it that count."""
    if path.is_file():
        return {"digest": md5_of_file(path), "size": path.stat().st_size, "files": None} | _executable(path)
    files = [
        {"relpath": file.relative_to(path).as_posix(), "md5": md5_of_file(file), "size": file.stat().st_size}
        for file in sorted(path.rglob("*"))
        if file.is_file() and counts(file)
    ]
    return {"digest": digest_of_folder(files)[0], "size": sum(int(str(f["size"])) for f in files), "files": files}


def _executable(path: Path) -> dict[str, bool]:
    """Return what DVC (3.67) notes of a file that its owner may execute; of files in folders it notes nothing."""
    return {"isexec": True} if path.stat().st_mode & stat.S_IXUSR else {}


def check_made(attempt: Attempt, paths: Iterable[str]) -> None:
    """Refuse a success that lacks an output which ``dvc.yaml`` declares.

    Raises
    ------
    CheckFailed
        Naming it.
    """
    for path in paths:
        if not (attempt.work / path).exists():
            raise CheckFailed(f"the stage did not make its output {path}", where=str(attempt.work / path))


def freeze(attempt: Attempt, paths: Iterable[str], ignored: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Move the outputs out of reach of the program, make them read-only, and hash them.

    Parameters
    ----------
    ignored : sequence of str
        Patterns of the repository's ``.dvcignore``: such files in folders are no outputs, and are removed.

    Returns
    -------
    dict
        For each output its digest, size in bytes and number of files, as ``result.json`` has them.

    Raises
    ------
    CheckFailed
        If an output contains symbolic links, which DVC would follow.
    """
    manifest = {}
    for path in paths:
        made, frozen = attempt.work / path, attempt.outputs / path
        frozen.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(made, frozen)  # a rename, unless the attempt worked on another file system
        _drop(frozen, path, ignored)
        executable = _executable(frozen) if frozen.is_file() else {}
        for file in [frozen] if frozen.is_file() else frozen.rglob("*"):
            if file.is_symlink():
                raise CheckFailed(f"the output {path} contains a symbolic link, {file.name}")
            if file.is_file():
                file.chmod(READ_ONLY)
        # An object of DVC's cache is not executable: `spread` and DVC make copies of it so.
        manifest[path] = describe(frozen) | executable
    records.replace(attempt.directory / "manifest.json", manifest)
    return {path: d | {"files": 1 if d["files"] is None else len(d["files"])} for path, d in manifest.items()}


def _drop(frozen: Path, path: str, ignored: Sequence[str]) -> None:
    if not ignored or not frozen.is_dir():
        return
    from pathspec import PathSpec

    spec = PathSpec.from_lines("gitwildmatch", ignored)
    for file in sorted(frozen.rglob("*"), reverse=True):
        if not file.is_dir() and spec.match_file(f"{path}/{file.relative_to(frozen).as_posix()}"):
            file.unlink()


def spread(run: Run, path: str, target: Path) -> None:
    """Lay an output out as DVC would: folders of one's own, in which files are hard links to what was made.

    Where a link cannot be (another file system, or a colleague's file, which the kernel protects) it is a symbolic one.
    """
    manifest = records.read(result_attempt(run).directory / "manifest.json") or {}
    made = result_attempt(run).outputs / path
    whole = next((out for out in manifest if path == out or path.startswith(f"{out}/")), path)
    executable = bool(manifest.get(whole, {}).get("isexec"))
    for file in [made] if made.is_file() else made.rglob("*"):
        place = target if file == made else target / file.relative_to(made)
        if file.is_dir():
            place.mkdir(parents=True, exist_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if executable:
            shutil.copyfile(file, place)
            place.chmod(READ_ONLY | EXECUTABLE)
            continue
        try:
            os.link(file, place)
        except OSError as error:
            if error.errno not in {errno.EXDEV, errno.EPERM, errno.EMLINK}:
                raise
            place.symlink_to(file)


def known_digest(run: Run, path: str) -> str | None:
    """Return the digest of an output of a finished run, or None."""
    result = run.result
    output = result["outputs"].get(path) if result else None
    return str(output["digest"]) if output else None


def result_attempt(run: Run) -> Attempt:
    """Return the attempt whose outputs are the run's result."""
    from mllam_exps.store import Attempt

    result = run.result
    assert result is not None
    return Attempt(run, int(result["attempt"]))


def reject(run: Run, attempt: Attempt) -> None:
    """Set a result aside that the scheduler contradicts; its files stay with the attempt."""
    (run.directory / "result.json").rename(attempt.directory / "rejected.json")


def publish(repo: Repo, run: Run, stage: DvcStage) -> None:
    """Put a finished run's outputs into DVC's cache and into the workspace.

    Raises
    ------
    MllamError
        If the store's own files are not what its record says.
    """
    root = Path(repo.root_dir)
    outs = {Path(out.fs_path).relative_to(root).as_posix(): out for out in stage.outs}
    manifest = hand_over(Cache.of(repo), run, root, {path: bool(out.use_cache) for path, out in outs.items()})
    for path, out in outs.items():
        if out.use_cache:
            _into_workspace(repo, out, manifest[path]["digest"])


def hand_over(cache: Cache, run: Run, root: Path, outs: Mapping[str, bool]) -> dict[str, Any]:
    """Put a finished run's outputs into DVC's cache, and what git keeps into the workspace.

    Parameters
    ----------
    outs : mapping
        By path, seen from the workspace's root: whether DVC's cache holds it, else git does.

    Returns
    -------
    dict
        What is known of each output, by path: its digest, size and files.

    Raises
    ------
    MllamError
        If the store's own files are not what its record says.
    """
    attempt = result_attempt(run)
    manifest = records.read(attempt.directory / "manifest.json")
    if manifest is None:
        raise MllamError("the manifest of this run is missing", where=str(attempt.directory), next=_redo(run))
    for path, cached in outs.items():
        frozen = attempt.outputs / path
        if cached:
            _into_cache(cache, run, frozen, manifest[path])
        else:
            _copy(frozen, root / path)
            if manifest[path].get("isexec"):
                (root / path).chmod((root / path).stat().st_mode | EXECUTABLE)
    return manifest


def _redo(run: Run) -> str:
    return f"mllam-exps run {run.stage} --force makes it again"


def _copy(source: Path, target: Path) -> None:
    """Copy what git keeps; writable, because people do write there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, copy_function=shutil.copyfile)
    else:
        target.unlink(missing_ok=True)
        shutil.copyfile(source, target)


def _into_cache(cache: Cache, run: Run, frozen: Path, description: Mapping[str, Any]) -> None:
    """Give every file its second name, in DVC's cache."""
    files = description["files"]
    objects = {description["digest"]: frozen} if files is None else {f["md5"]: frozen / f["relpath"] for f in files}
    missing = {digest: path for digest, path in objects.items() if not cache.holds(digest)}
    sizes = {description["digest"]: description["size"]} if files is None else {f["md5"]: f["size"] for f in files}
    for digest, path in missing.items():
        if not _is_as_frozen(path, digest, sizes[digest]):
            raise MllamError(f"the run store's {path.name} is not what was made", where=str(path), next=_redo(run))
    if missing:
        cache.add(missing)
    if files is not None and not cache.holds(description["digest"]):
        cache.add_listing(*digest_of_folder(files))


def _is_as_frozen(path: Path, digest: str, size: int) -> bool:
    """Tell whether a file is as it was frozen; one that somebody could write to is read again."""
    try:
        found = path.stat()
    except OSError:
        return False
    return found.st_size == size and (not found.st_mode & 0o222 or md5_of_file(path) == digest)


def _into_workspace(repo: Repo, out: Any, digest: str) -> None:
    """Have DVC link an output into the workspace, and remember its hash, so that its commit reads nothing."""
    from dvc_data.hashfile.hash_info import HashInfo

    out.hash_info, out.obj, out.files = HashInfo("md5", digest), None, None
    Path(out.fs_path).parent.mkdir(parents=True, exist_ok=True)
    out.checkout(force=True)


def check_out(repo: Repo, digest: str, target: Path) -> bool:
    """Link an object of DVC's cache, file or folder, to `target`; False where the cache lacks any of it.

    Raises
    ------
    OSError
        If there is no room for a copy, where links are impossible.
    """
    from dvc_data.hashfile import load
    from dvc_data.hashfile.checkout import CheckoutError, LinkError, checkout
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_objects.errors import ObjectFormatError
    from dvc_objects.fs.local import localfs

    try:
        obj = load(repo.cache.local, HashInfo("md5", digest))
        target.parent.mkdir(parents=True, exist_ok=True)
        checkout(str(target), localfs, obj, repo.cache.local, force=True)
    except (FileNotFoundError, ObjectFormatError, CheckoutError):
        return False
    except LinkError as error:
        # It says "No possible cache link types for '{path}'." (3.67), whatever the reason.
        raise (error.__cause__ if isinstance(error.__cause__, OSError) else OSError(str(error))) from None
    return True
