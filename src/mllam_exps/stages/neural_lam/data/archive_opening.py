"""Opens the archives that ``data/datastore.yaml`` names, as mllam-data-prep does, or says why it cannot."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import MllamError, UsageError, nearest
from mllam_exps.machines.way_in import way_in
from mllam_exps.stages.neural_lam.data import archives, named_paths
from mllam_exps.stages.neural_lam.data.rehearsal import in_one_line
from mllam_exps.stages.neural_lam.parameters.datastore_file import Note

_REMOTE_SECONDS = 60


@dataclass(frozen=True)
class Known:
    """What DVC knows of the inputs of ``prepare_dataset``: paths, as in ``dvc.yaml``.

    Parameters
    ----------
    deps : Collection of str
        All of them.
    made : Collection of str
        Those that stages make, which need not be there yet.
    added : Collection of str
        Those that were added with ``dvc add``, which may have to be checked out.
    origin : str
        The user's own repository, where ROOT is a clone of it: files may be there that
        git does not track.
    """

    deps: Collection[str] = ()
    made: Collection[str] = ()
    added: Collection[str] = ()
    origin: str = ""

    def there(self, root: Path, path: str) -> bool:
        """Tell whether a path is there, in the repository or, as its user sees it, in the origin."""
        if (root / path).exists():
            return True
        return bool(self.origin) and Path(self.origin, path).exists()


def open_archive(root: Path, where: str, path: str, known: Known) -> Any:
    """Open an archive lazily.

    Parameters
    ----------
    root : Path
        The repository.
    where : str
        The key that names the archive.
    path : str
        A path in the repository, an absolute one, or a URL.
    known : Known
        What DVC knows of the inputs.

    Returns
    -------
    xarray.Dataset or MllamError
        A `Note` for an archive that could not be reached.
    """
    if named_paths.is_remote(path):
        return _open_remote(where, path)
    if not (root / path).exists():
        return absent(root, where, path, known)
    try:
        return _open_dataset(str(root / path))
    except Exception as error:  # each engine raises its own
        what = f"{path} is no archive that xarray opens"
        return UsageError(what, where, in_one_line(error))


def _open_remote(where: str, path: str) -> Any:
    what = f"{path} was not looked at"
    answers: list[Any] = []

    def reach() -> None:
        try:
            answers.append(_open_dataset(path))
        except FileNotFoundError:
            # fsspec (2026.9) says so, too, of a host that it does not reach, and zarr
            # of a group.
            why = archives.why_not_reached(path)
            absent = UsageError(f"there is no {path}", where)
            answers.append(Note(what, where, why) if why else absent)
        except (
            Exception
        ) as error:  # no network, no credentials, no such protocol here …
            answers.append(Note(what, where, in_one_line(error)))

    # Some stores try again for minutes; a daemon thread can be left behind.
    thread = threading.Thread(target=reach, daemon=True)
    thread.start()
    thread.join(_REMOTE_SECONDS)
    if not answers:
        return Note(what, where, f"no answer within {_REMOTE_SECONDS} s")
    return answers[0]


def absent(root: Path, where: str, path: str, known: Known) -> MllamError:
    """Say of a path where nothing is whether a stage makes it, DVC has it, or nobody."""
    if named_paths.is_covered(path, known.made):
        why = "a stage makes it, and has not yet"
        return Note(f"{path} was not looked at", where, why)
    for added in known.added:
        if named_paths.is_covered(path, [added]):
            way_out = f"dvc checkout {added}.dvc, or dvc pull"
            return UsageError(f"{path} is not checked out", where, next=way_out)
    if known.there(root, path):
        return UsageError(
            f"git does not track {path}",
            where,
            "no run would find it",
            way_in(Path(known.origin or root), path),
        )
    way_out = "correct that path, or put the archive there"
    place = Path(known.origin or root, path)
    if near := nearest(place.name, _names_in(place.parent)):
        way_out = f"did you mean {Path(path).with_name(near)}?"
    return UsageError(f"there is no {path}", where, next=way_out)


def _names_in(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:
        return []


def _open_dataset(path: str) -> Any:
    import xarray

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return xarray.open_zarr(path, chunks=None)
        except ValueError:
            return xarray.open_dataset(path)
