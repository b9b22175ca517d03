"""What ``dvc.lock`` tells of an experiment's inputs and outputs: nothing that is large is hashed again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllam_exps.base.errors import MllamError
from mllam_exps.dvc.counted import Counted
from mllam_exps.identity.content import describe, digest_of_folder, part_of

if TYPE_CHECKING:
    from mllam_exps.dvc.cache import Cache


@dataclass(frozen=True)
class Made:
    """What is known of an experiment's inputs and outputs.

    Parameters
    ----------
    root : Path
        The DVC repository in its clone.
    cache : Cache
        DVC's.
    known : mapping
        Digest, size and files of inputs that no stage makes, and of outputs, by path;
        where DVC's cache lists a folder's files there may be their number alone.
    """

    root: Path
    cache: Cache
    known: Mapping[str, Any]

    def describe(self, path: str) -> Mapping[str, Any]:
        """Describe an input or an output; what nobody has described is small, and hashed."""
        if found := self.known.get(path) or self._part(path) or self._around(path):
            return found
        place = self.root / path
        if not place.exists():
            what = "an input of the experiment is missing"
            raise MllamError(what, str(place), next="submit the experiment again")
        return describe(place)

    def digest(self, path: str) -> str:
        """Return the digest of an input or an output."""
        return str(self.describe(path)["digest"])

    def _part(self, path: str) -> dict[str, Any] | None:
        """Describe a file or folder inside an output."""
        for whole, described in self.known.items():
            if not path.startswith(f"{whole}/") or not _is_folder(described):
                continue
            inside = path.removeprefix(f"{whole}/")
            files = []
            for file in self._files(whole, described):
                if f"{file['relpath']}/".startswith(f"{inside}/"):
                    files.append(self._with_size(file))
            if found := part_of({**described, "files": files}, inside):
                return found
        return None

    def _around(self, path: str) -> dict[str, Any] | None:
        """Describe a folder that has outputs in it, beside what git keeps there."""
        made: dict[str, dict[str, Any]] = {}
        for whole, described in self.known.items():
            if whole.startswith(f"{path}/"):
                made |= self._files_of(whole, described, path)
        if not made:
            return None
        files: dict[str, dict[str, Any]] = {}
        if (self.root / path).is_dir():
            beside = describe(self.root / path, Counted(self.root).files)
            files = {file["relpath"]: file for file in beside["files"]}
        every = (files | made).values()
        digest, _ = digest_of_folder(every)
        size = sum(int(file["size"]) for file in every)
        return {"digest": digest, "size": size, "files": list(every)}

    def _files_of(
        self, whole: str, described: Mapping[str, Any], folder: str
    ) -> dict[str, dict[str, Any]]:
        """Return the files of an output in a folder, each by its path as seen from there."""
        name = whole.removeprefix(f"{folder}/")
        if not _is_folder(described):
            file = {"md5": described["digest"], "size": described["size"]}
            return {name: file | {"relpath": name}}
        found = {}
        for file in self._files(whole, described):
            path = f"{name}/{file['relpath']}"
            found[path] = self._with_size(file) | {"relpath": path}
        return found

    def _files(self, whole: str, described: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the files of a folder; where only their number is known, those here, or those that DVC's cache lists.

        An output that git keeps (``cache: false``) lies here, and DVC's cache may have
        nothing of it.

        Raises
        ------
        MllamError
            If neither has them.
        """
        files = described.get("files")
        if isinstance(files, list):
            return files
        digest = str(described["digest"])
        if (self.root / whole).is_dir():
            here = describe(self.root / whole)
            if here["digest"] == digest:
                return list(here["files"])
        if (listed := self.cache.folder(digest)) is not None:
            return listed
        what = f"nobody has the list of the files of {whole} any more"
        way_out = "dvc pull, then submit the experiment again"
        raise MllamError(what, str(self.cache.path(digest)), next=way_out)

    def _with_size(self, file: Mapping[str, Any]) -> dict[str, Any]:
        if "size" in file:
            return {**file, "size": int(file["size"])}
        return {**file, "size": self.cache.path(file["md5"]).stat().st_size}


def _is_folder(described: Mapping[str, Any]) -> bool:
    return str(described["digest"]).endswith(".dir")
