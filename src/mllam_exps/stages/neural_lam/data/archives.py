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
    found: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    inputs = sorted((datastore.get("inputs") or {}).items())
    paths = {name: str((given or {}).get("path", "")) for name, given in inputs}
    outside = sorted({path for path in paths.values() if _outside(path)})
    with ThreadPoolExecutor(
        max(1, len(outside))
    ) as pool:  # hosts that do not answer are waited for at once
        digests = dict(
            zip(
                outside,
                pool.map(lambda path: _metadata_digest(path, timeout), outside),
                strict=True,
            )
        )
    for name, path in paths.items():
        if path not in digests:
            continue
        digest, why = digests[path]
        version = declared.get(name)
        entry = {
            "path": path,
            "metadata": digest,
            "version": None if version is None else str(version),
        }
        found[name] = entry
        if digest is not None:
            continue
        entry["metadata"] = _earlier((known or {}).get(name), entry)
        if entry["metadata"] is not None:
            told = "it counts as unchanged"
        elif version is not None:
            told = f"it counts by path and declared version ({version})"
        else:
            told = f"it counts by its path alone; declare a version: params.yaml: archives.{name}"
        notes.append(
            f"archive {name}: the metadata of {path} cannot be read ({why}); {told}"
        )
    return found, notes


def modules(datastore: Mapping[str, Any], root: Path) -> list[str]:
    """Return the modules whose functions derive variables, and which neither mllam-data-prep nor the repository has.

    mllam-data-prep's version counts by itself, and what the repository has is a
    dependency of the stage.
    """
    found: set[str] = set()
    for _, source in inputs_of(datastore):
        for derived in section(source, "derived_variables").values():
            function = derived.get("function") if isinstance(derived, Mapping) else None
            found.add(str(function).partition(".")[0] if function else "")
    own = {
        name
        for name in found
        if (root / f"{name}.py").exists() or (root / name).is_dir()
    }
    return sorted(
        name for name in found - own - {"mllam_data_prep"} if name.isidentifier()
    )


def last_known(root: Path) -> dict[str, Any]:
    """Return what was last found of the archives: in ``version.mllam.txt``, or in ``dvc.lock``.

    DVC removes ``version.mllam.txt`` before the stage that writes it; ``dvc.lock``
    tells what the dataset was made of.
    """
    found: dict[str, Any] = {}
    for name, keys in _RECORDS.items():
        try:
            record = yaml.safe_load((root / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            continue
        for key in keys:
            record = record.get(key) if isinstance(record, Mapping) else None
        for archive, entry in record.items() if isinstance(record, Mapping) else ():
            if isinstance(entry, Mapping) and entry.get("metadata"):
                found.setdefault(archive, entry)
    return found


_RECORDS = {
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
    answers = [
        _read_or_why(path, name, timeout) for name in (".zmetadata", "zarr.json")
    ]
    return next((why for data, why in answers if data is None and why), "")


def _earlier(known: Any, entry: Mapping[str, Any]) -> str | None:
    """Return the digest that was known of an archive, if it is the same one in all else."""
    if not isinstance(known, Mapping) or any(
        known.get(key) != entry[key] for key in ("path", "version")
    ):
        return None
    digest = known.get("metadata")
    return digest if isinstance(digest, str) else None


def _outside(path: str) -> bool:
    return bool(path) and (
        "://" in path or "::" in path or os.path.normpath(path).startswith(("/", "../"))
    )


def _metadata_digest(path: str, timeout: float) -> tuple[str | None, str]:
    """Return the digest of an archive's consolidated metadata, or None and why not."""
    why = "it has neither .zmetadata nor zarr.json"
    for name in (".zmetadata", "zarr.json"):  # zarr 2, zarr 3
        data, reason = _read_or_why(path, name, timeout)
        if data is not None:
            return "sha256:" + hashlib.sha256(data).hexdigest(), ""
        if reason:
            return None, reason
    if "://" not in path and not Path(path).exists():
        why = "there is no such file or directory"
    return None, why


def _read_or_why(path: str, name: str, timeout: float) -> tuple[bytes | None, str]:
    """Return a file of an archive; or None and why, which is empty where the archive has no such file."""
    try:
        return _read(path, name, timeout), ""
    except FileNotFoundError as error:
        # To fsspec (2026.9) an archive out of reach is one that is not there; what made
        # it say so tells.
        cause = error.__cause__ or error.__context__
        return None, _told(cause) if _is_out_of_reach(cause) else ""
    except TimeoutError:
        return None, f"no answer within {timeout:g} s"
    except (
        Exception
    ) as error:  # whatever a remote file system raises: said, and not known
        return None, _told(error)


def _is_out_of_reach(cause: BaseException | None) -> bool:
    """Tell whether a host was not reached, or had trouble of its own; 404 and 410 mean that nothing is there."""
    names = {each.__name__ for each in type(cause).__mro__}
    status = getattr(cause, "status", None)  # of aiohttp's answers
    if names & {"OSError", "ClientConnectionError"}:
        return not isinstance(cause, FileNotFoundError)
    return isinstance(status, int) and status not in {404, 410}


def _told(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _read(path: str, name: str, timeout: float) -> bytes:
    if "://" not in path and "::" not in path:
        try:
            return (Path(path) / name).read_bytes()
        except NotADirectoryError as error:  # a netCDF file
            raise FileNotFoundError(path) from error
    import threading

    import fsspec  # type: ignore[import-untyped,unused-ignore]  # comes with DVC

    first, chained, rest = path.partition("::")
    target = f"{first.rstrip('/')}/{name}{chained}{rest}"
    found: list[bytes | BaseException] = []

    def read() -> None:
        try:
            found.append(bytes(fsspec.open(target, "rb").open().read()))
        except Exception as error:
            found.append(error)

    # fsspec's file systems have no timeout in common. A daemon thread can be left
    # behind at the end of the process.
    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(timeout)
    if not found:
        raise TimeoutError
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]
