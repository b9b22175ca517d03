"""Development installs as archives that pip takes: without git, and where nobody else reaches their repository."""

from __future__ import annotations

import os
import subprocess
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

from mllam_exps.base.git import ask_git, run_git
from mllam_exps.environments.comparing import normal
from mllam_exps.stages.packages import Package, folder_of

FOLDER = "packages"
"""Where in an export they lie."""
_INFO = "Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
"""For a version that a program takes from its repository, which the archive is not."""


def pack(one: Package, folder: Path) -> str:
    """Write the code of a development install, as it was used, below a folder; return its path there.

    It is empty where the code cannot be had: no checkout of this user's has the commit,
    or there was more than that and its changes.
    """
    home = _checkout(one)
    if home is None:
        return ""
    name = f"{normal(one.name)}-{one.version}"
    place = folder / FOLDER / f"{name}.tar.gz"
    with tempfile.TemporaryDirectory(prefix=".code-", dir=folder) as site:
        code = Path(site) / name
        if not _lay_out(one, home, code):
            return ""
        info = code / "PKG-INFO"
        if not info.exists():
            info.write_text(_INFO.format(name=one.name, version=one.version))
        place.parent.mkdir(exist_ok=True)
        with tarfile.open(place, "w:gz", compresslevel=1) as archive:
            archive.add(code, arcname=name, filter=_nobodys)
    return f"{FOLDER}/{place.name}"


def _checkout(one: Package) -> Path | None:
    """Return the folder of git's in which the commit of a development install is; None where it is not at hand."""
    if not one.editable or not one.commit or one.lacks:
        return None
    named = Path(one.url) if "://" not in one.url else None
    for folder in (named, folder_of(one.name)):
        # Another user's git refuses: its settings could name programs.
        if folder is not None and folder.is_dir():
            said = run_git(folder, "cat-file", "-e", f"{one.commit}^{{commit}}")
            if said.returncode == 0:
                return folder
    return None


def _lay_out(one: Package, home: Path, code: Path) -> bool:
    """Lay out a commit with its changes; tell whether that was possible."""
    packed = code.with_name("code.tar")
    words = ("archive", "--format=tar", "-o", str(packed), one.commit)
    if run_git(home, *words).returncode:
        return False
    with tarfile.open(packed) as archive:
        archive.extractall(code, filter="data")
    if not one.patch:
        return True
    # What is changed is told from the root of git's, and the package may be a part of it.
    depth = 1 + len(PurePosixPath(ask_git(home, "rev-parse", "--show-prefix")).parts)
    environ = {**os.environ, "GIT_CEILING_DIRECTORIES": str(code.parent)}
    done = subprocess.run(
        ["git", "apply", f"-p{depth}", "-"],
        cwd=code,
        env=environ,
        input=one.patch.encode(errors="surrogateescape"),
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def _nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Return what an archive says of a file, without who made it."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
