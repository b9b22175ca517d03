"""DVC's remotes: what lies in one, asked of the remote itself and not of DVC's list of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import MllamError, UsageError, first_line
from mllam_exps.dvc.repository import Repository

AT_ONCE = 16
"""Objects that are looked for at a time: a remote far away answers slowly, and many questions at once."""


@dataclass(frozen=True)
class Remote:
    """A DVC remote.

    Parameters
    ----------
    name : str
        In DVC's settings.
    opened : dvc_data.hashfile.db.HashFileDB
        DVC's own object for it.
    """

    name: str
    opened: Any = field(compare=False, repr=False)

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return str(self.opened.fs.unstrip_protocol(self.opened.path))

    def lacks(self, sizes: Mapping[str, int | None]) -> set[str]:
        """Return the objects that it has not, or not whole: each one is looked for.

        Parameters
        ----------
        sizes : mapping
            By object: its size in bytes, where that is known.
        """
        found = self._found(sizes)
        return {
            digest
            for digest, size in sizes.items()
            if found[digest] is None or size not in {None, found[digest]}
        }

    def remove_cut_off(self, sizes: Mapping[str, int | None]) -> None:
        """Remove the objects that have another size: DVC takes what is there for good."""
        found = self._found(sizes)
        for digest, size in sizes.items():
            if None not in {size, found[digest]} and size != found[digest]:
                self.opened.delete(digest)

    def _found(self, digests: Iterable[str]) -> dict[str, int | None]:
        """Return the sizes of what it has; None of what it lacks."""
        wanted = list(digests)
        try:
            with ThreadPoolExecutor(AT_ONCE, "look") as pool:
                return dict(zip(wanted, pool.map(self._size, wanted), strict=True))
        except Exception as error:
            # Each kind of remote has errors of its own.
            what, way_out = "the remote cannot be looked into", "mllam-exps doctor"
            raise MllamError(what, self.place, first_line(error), way_out) from error

    def _size(self, digest: str) -> int | None:
        path = self.opened.oid_to_path(digest)
        try:
            return int(self.opened.fs.info(path)["size"])
        except FileNotFoundError:
            return None


def remote_of(repository: Repository, name: str, place: str) -> Remote:
    """Return a DVC remote.

    Parameters
    ----------
    name : str
        As DVC's settings have it; else the one at the place, or DVC's default.
    place : str
        Where the experiments go to, if that is a folder.

    Raises
    ------
    UsageError
        If there is none.
    """
    remotes: Mapping[str, Any] = repository.settings("remote")
    at_place = [
        one
        for one, its in remotes.items()
        if place and _is_same(str(its.get("url")), place)
    ]
    name = name or next(iter(at_place), "")
    try:
        opened = repository.opened.cloud.get_remote(name or None)
    except Exception as error:
        # DVC's settings, and each kind of remote, have errors of their own.
        what, where = "no DVC remote to exchange data with", str(repository.root)
        why = first_line(error) if remotes else "DVC knows none here"
        way_out = "mllam-exps share join PATH, or dvc remote add --local -d NAME URL"
        raise UsageError(what, where, why, way_out) from error
    return Remote(opened.name, opened.odb)


def _is_same(url: str, place: str) -> bool:
    return url == place or Path(url).resolve() == Path(place).resolve()
