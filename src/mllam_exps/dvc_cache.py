"""DVC's cache, for jobs that do not start DVC: its library that keeps files by their hashes is enough for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dvc.repo import Repo


@dataclass(frozen=True)
class Cache:
    """A cache on this host's file systems.

    Parameters
    ----------
    directory : str
        What `dvc cache dir` says.
    shared : str
        ``group`` where `dvc config cache.shared` says so: others of the group may write there.
    opened : dvc_data.hashfile.db.HashFileDB, optional
        DVC's own object for it, where there is one.
    """

    directory: str
    shared: str = ""
    opened: Any = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, repo: Repo) -> Cache:
        """Return the cache of a DVC repository."""
        shared = repo.config.get("cache", {}).get("shared")
        return cls(str(repo.cache.local_cache_dir), str(shared or ""), repo.cache.local)

    def path(self, digest: str) -> Path:
        """Return where DVC (3.67) keeps an object."""
        return Path(self.directory, "files", "md5", digest[:2], digest[2:])

    def holds(self, digest: str) -> bool:
        """Tell whether it has an object."""
        return self.path(digest).exists()

    def add(self, files: Mapping[str, Path]) -> None:
        """Give files, by their hashes, a second name in it; they are copied where that is another file system."""
        from dvc_objects.fs.local import localfs

        # Verified by the hash that freezing took, and read-only since: no need to read it all again.
        paths = [str(path) for path in files.values()]
        self._objects.add(paths, localfs, list(files), hardlink=True, verify=False)

    def add_listing(self, digest: str, content: bytes) -> None:
        """Add the object that stands for a folder."""
        self._objects.add_bytes(digest, content)
        self._objects.protect(str(self.path(digest)))

    @cached_property
    def _objects(self) -> Any:
        if self.opened is not None:
            return self.opened
        from dvc_data.hashfile.db import get_odb
        from dvc_objects.fs.local import localfs

        place = str(Path(self.directory, "files", "md5"))
        return get_odb(localfs, place, shared=self.shared or None)
