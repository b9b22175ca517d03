"""The identity of the archives that lie outside the repository, and of what else no dependency of DVC tells.

Nobody hashes ten terabytes: an archive is known by its path, the digest of its
consolidated metadata, and the version that the experiment declares for it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from mllam_exps.stages.neural_lam.parameters.datastore_file import inputs_of, section

_METADATA_FILES = (".zmetadata", "zarr.json")
"""Where zarr 2 and zarr 3 have the consolidated metadata of an archive."""

SECONDS = 30.0
"""How long a remote archive is waited for."""


def identities(
    datastore: Mapping[str, Any],
    declared: Mapping[str, Any],
    known: Mapping[str, Any] | None = None,
    timeout: float = SECONDS,
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the identity of every source archive that lies outside the repository.

    An archive in the repository is the stage's dependency: DVC hashes those. One that
    cannot be reached has not changed by that: it keeps the digest that was known of it,
    as long as its path and its declared version are the same.

    Parameters
    ----------
    datastore : mapping
        ``data/datastore.yaml``, whose ``inputs`` name the archives.
    declared : mapping
        ``archives`` of ``params.yaml``: version by name of the input.
    known : mapping, optional
        What was found earlier, from `last_known`.
    timeout : float
        Seconds to wait for a remote archive.

    Returns
    -------
    dict
        ``{name: {"path", "metadata", "version"}}``; ``metadata`` is None where it was
        never read.
    list of str
        One line for each archive whose metadata could not be read, with the reason.
    """
    outside = _paths_outside(datastore)
    digests = _metadata_digests(set(outside.values()), timeout)
    identities: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    for name, path in outside.items():
        digest, why = digests[path]
        version = None if declared.get(name) is None else str(declared[name])
        identity = {"path": path, "metadata": digest, "version": version}
        if digest is None:
            identity["metadata"] = _earlier((known or {}).get(name), identity)
            how = _how_it_counts(name, identity)
            notes.append(
                f"archive {name}: the metadata of {path} cannot be read ({why}); {how}"
            )
        identities[name] = identity
    return identities, notes


def _paths_outside(datastore: Mapping[str, Any]) -> dict[str, str]:
    """Return the paths of those inputs that lie outside the repository, by their names, sorted."""
    paths = {}
    for name, source in sorted((datastore.get("inputs") or {}).items()):
        path = str((source or {}).get("path", ""))
        if _outside(path):
            paths[name] = path
    return paths


def _metadata_digests(
    paths: set[str], timeout: float
) -> dict[str, tuple[str | None, str]]:
    """Return the digest of each archive's metadata; hosts that do not answer are waited for at once."""
    with ThreadPoolExecutor(max(1, len(paths))) as pool:
        futures = {
            path: pool.submit(_metadata_digest, path, timeout) for path in sorted(paths)
        }
    return {path: future.result() for path, future in futures.items()}


def _how_it_counts(name: str, identity: Mapping[str, Any]) -> str:
    """Say how an archive is known whose metadata could not be read now."""
    if identity["metadata"] is not None:
        return "it counts as unchanged"
    if identity["version"] is not None:
        return f"it counts by path and declared version ({identity['version']})"
    return (
        f"it counts by its path alone; declare a version: params.yaml: archives.{name}"
    )


def modules(datastore: Mapping[str, Any], root: Path) -> list[str]:
    """Return the modules whose functions derive variables, and which neither mllam-data-prep nor the repository has.

    mllam-data-prep's version counts by itself, and what the repository has is a
    dependency of the stage.
    """
    names: set[str] = set()
    for _, source in inputs_of(datastore):
        variables = section(source, "derived_variables")
        for variable in variables:
            function = section(variables, variable).get("function")
            names.add(str(function or "").partition(".")[0])
    foreign = []
    for name in sorted(names - {"mllam_data_prep"}):
        own = (root / f"{name}.py").exists() or (root / name).is_dir()
        if name.isidentifier() and not own:
            foreign.append(name)
    return foreign


def last_known(root: Path) -> dict[str, Any]:
    """Return what was last found of the archives: in ``version.mllam.txt``, or in ``dvc.lock``.

    DVC removes ``version.mllam.txt`` before the stage that writes it; ``dvc.lock``
    tells what the dataset was made of.
    """
    known: dict[str, Any] = {}
    for file, keys in _RECORDS.items():
        try:
            record = yaml.safe_load((root / file).read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            continue
        for key in keys:
            record = section(record, key)
        for archive, entry in record.items():
            if isinstance(entry, Mapping) and entry.get("metadata"):
                known.setdefault(archive, entry)
    return known


_RECORDS = {
    # Of a submitted experiment without a stage that writes it.
    ".git/version.mllam.txt": ("archives",),
    "version.mllam.txt": ("archives",),
    "dvc.lock": (
        "stages",
        "prepare_dataset",
        "params",
        "version.mllam.txt",
        "archives",
    ),
}


def why_not_reached(path: str, timeout: float = SECONDS) -> str:
    """Return why a remote archive cannot be reached; empty where its host answers that there is nothing."""
    for name in _METADATA_FILES:
        content, why = _read_or_why(path, name, timeout)
        if content is None and why:
            return why
    return ""


def _earlier(known: Any, entry: Mapping[str, Any]) -> str | None:
    """Return the digest that was known of an archive, if it is the same one in all else."""
    if not isinstance(known, Mapping):
        return None
    if known.get("path") != entry["path"] or known.get("version") != entry["version"]:
        return None
    digest = known.get("metadata")
    return digest if isinstance(digest, str) else None


def _outside(path: str) -> bool:
    """Tell whether a path leads out of the repository; no path leads nowhere."""
    if not path:
        return False
    return _is_remote(path) or os.path.normpath(path).startswith(("/", "../"))


def _is_remote(path: str) -> bool:
    return "://" in path or "::" in path


def _metadata_digest(path: str, timeout: float) -> tuple[str | None, str]:
    """Return the digest of an archive's consolidated metadata, or None and why not."""
    for name in _METADATA_FILES:
        content, why = _read_or_why(path, name, timeout)
        if content is not None:
            return "sha256:" + hashlib.sha256(content).hexdigest(), ""
        if why:
            return None, why
    if "://" not in path and not Path(path).exists():
        return None, "there is no such file or directory"
    return None, f"it has neither {' nor '.join(_METADATA_FILES)}"


def _read_or_why(path: str, name: str, timeout: float) -> tuple[bytes | None, str]:
    """Return a file of an archive; or None and why, which is empty where the archive has no such file."""
    try:
        return _read(path, name, timeout), ""
    except FileNotFoundError as error:
        # To fsspec (2026.9) an archive out of reach is one that is not there; what made
        # it say so tells.
        cause = error.__cause__ or error.__context__
        return None, _in_one_line(cause) if _is_out_of_reach(cause) else ""
    except TimeoutError:
        return None, f"no answer within {timeout:g} s"
    except (
        Exception
    ) as error:  # whatever a remote file system raises: said, and not known
        return None, _in_one_line(error)


def _is_out_of_reach(cause: BaseException | None) -> bool:
    """Tell whether a host was not reached, or had trouble of its own; 404 and 410 mean that nothing is there."""
    names = {each.__name__ for each in type(cause).__mro__}
    status = getattr(cause, "status", None)  # of aiohttp's answers
    if names & {"OSError", "ClientConnectionError"}:
        return not isinstance(cause, FileNotFoundError)
    return isinstance(status, int) and status not in {404, 410}


def _in_one_line(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _read(path: str, name: str, timeout: float) -> bytes:
    if not _is_remote(path):
        try:
            return (Path(path) / name).read_bytes()
        except NotADirectoryError as error:  # a netCDF file
            raise FileNotFoundError(path) from error
    first, chained, rest = path.partition("::")
    return _read_remote(f"{first.rstrip('/')}/{name}{chained}{rest}", timeout)


def _read_remote(url: str, timeout: float) -> bytes:
    import threading

    import fsspec  # type: ignore[import-untyped,unused-ignore]  # comes with DVC

    answers: list[bytes | BaseException] = []

    def read() -> None:
        try:
            answers.append(bytes(fsspec.open(url, "rb").open().read()))
        except Exception as error:
            answers.append(error)

    # fsspec's file systems have no timeout in common. A daemon thread can be left
    # behind at the end of the process.
    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(timeout)
    if not answers:
        raise TimeoutError
    if isinstance(answers[0], BaseException):
        raise answers[0]
    return answers[0]
