"""What DVC counts of a folder, and what it leaves out: DVC itself says so, in jobs too.

DVC (3.67) leaves out what a ``.dvcignore`` names, all that is called ``.git``, folders
called ``.hg`` and ``.dvc``, folders with a ``.dvc`` folder in them, and what lies behind
links to folders.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import CheckFailed

LIST = ".dvcignore"
OWN = ".dvc"
SPECIAL = frozenset({LIST, OWN, ".git", ".hg"})
"""Without any of these names DVC leaves out nothing."""
LINK = "it is a link to a folder"


@dataclass
class Counted:
    """What DVC counts of the folders of a checkout.

    Parameters
    ----------
    root : Path
        Where the checkout's ``.dvcignore`` lies.
    """

    root: Path

    def files(self, folder: Path) -> list[Path]:
        """Return the files of a folder that count."""
        return self.look(folder)[0]

    def look(self, folder: Path) -> tuple[list[Path], dict[Path, str]]:
        """Return the files of a folder that count; and what is left out, with the reason: of a folder it alone.

        Raises
        ------
        CheckFailed
            If there is a ``.dvcignore`` in it: DVC (3.67) hashes no such folder.
        """
        files: list[Path] = []
        left: dict[Path, str] = {}
        plain = self._is_plain_above(folder)
        for place, folders, names in os.walk(folder):
            plain = plain and _is_plain(place, folders, names)
            kept_folders, kept = list(folders), list(names)
            # Importing what DVC asks takes a third of the time that a job's start takes.
            if not plain:
                kept_folders, kept = self._filter(place, kept_folders, kept)
            if LIST in kept:
                what = f"{folder.name} contains {LIST}, and DVC hashes no such folder"
                raise CheckFailed(
                    what,
                    str(Path(place, LIST)),
                    next=f"name the patterns in the {LIST} beside dvc.yaml",
                )
            for name in sorted({*folders, *names} - {*kept_folders, *kept}):
                left[Path(place, name)] = self._why(Path(place, name))
            for name in sorted(kept_folders):
                if (path := Path(place, name)).is_symlink():
                    left[path] = LINK
            folders[:] = sorted(kept_folders)
            files += (Path(place, name) for name in kept)
        return sorted(files), left

    def _is_plain_above(self, folder: Path) -> bool:
        """Tell whether neither the checkout nor a folder on the way to this one says what is left out."""
        if not folder.is_relative_to(self.root):
            return False
        places = [self.root]
        for name in folder.relative_to(self.root).parts:
            if name in SPECIAL or name == os.pardir:
                return False
            places.append(places[-1] / name)
            if os.path.lexists(places[-1] / OWN):
                return False
        return not any(os.path.lexists(place / LIST) for place in places)

    def _why(self, path: Path) -> str:
        found = self._filter.check_ignore(str(path)).pattern_infos
        # ".dvcignore:4:*.tmp", "in sub_repo:NAME", or nothing for DVC's own patterns.
        info = str(found[-1].file_info) if found else ""
        if info.startswith("in sub_repo"):
            return "it is a repository of DVC's own"
        return (
            f"{info} names it"
            if info
            else "DVC leaves out what is called .git, .hg or .dvc"
        )

    @cached_property
    def _filter(self) -> Any:
        from dvc.fs import localfs
        from dvc.ignore import DvcIgnoreFilter

        return DvcIgnoreFilter(localfs, str(self.root))


def _is_plain(place: str, folders: Sequence[str], names: Sequence[str]) -> bool:
    """Tell whether DVC leaves out nothing of what lies in a folder, in whose parents it does not, either."""
    if not SPECIAL.isdisjoint([*folders, *names]):
        return False
    return not any(os.path.lexists(Path(place, name, OWN)) for name in folders)
