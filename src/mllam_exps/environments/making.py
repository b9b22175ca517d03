"""Makes a virtual environment that is the same as a recorded one, or says what of it cannot be had."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.environments.comparing import normal
from mllam_exps.stages.packages import Environment, Package

SOURCES = "src"
"""Where in it lie the checkouts of development installs."""


def make(wanted: Environment, folder: Path, tell: Callable[[str], None]) -> list[str]:
    """Make the environment; return what could not be had, a line each.

    Parameters
    ----------
    folder : Path
        Of the new environment; must not be there.
    tell : callable
        Is told what is being done.

    Raises
    ------
    UsageError
        If the folder is there, or no Python of that version is.
    """
    if folder.exists():
        raise UsageError("is there already", str(folder), next="name another folder")
    python = _python(wanted.python)
    tell(f"making {folder} with Python {wanted.python}")
    _run([python, "-m", "venv", str(folder)])
    pip = [str(folder / "bin/python"), "-m", "pip", "--disable-pip-version-check"]
    lacking = []
    from_index = [one for one in wanted.packages if not one.url]
    tell(f"installing {len(from_index)} packages")
    lacking += _install(pip, from_index)
    for one in wanted.packages:
        if one.url:
            tell(f"installing {one.name} from {one.url}")
            lacking += _install_from_source(pip, one, folder / SOURCES)
    return lacking


def _python(version: str) -> str:
    """Return a Python of that version, up to its last number.

    Raises
    ------
    UsageError
        If there is none.
    """
    here = ".".join(map(str, sys.version_info[:3]))
    if version.rpartition(".")[0] == here.rpartition(".")[0]:
        return sys.executable
    name = f"python{version.rpartition('.')[0]}"
    if found := shutil.which(name):
        return found
    raise UsageError(f"there is no {name} here", next="install it, or load a module")


def _install(pip: Sequence[str], packages: Sequence[Package]) -> list[str]:
    """Install packages of an index, as many at once as possible; return those that cannot be had."""
    exact = [f"{one.name}=={one.version}" for one in packages]
    if not exact or _does([*pip, "install", "-q", "--no-deps", "--"], exact):
        return []
    if len(packages) > 1:
        half = len(packages) // 2
        return _install(pip, packages[:half]) + _install(pip, packages[half:])
    # Of a build (+cpu, +cu124) the index may have the release, or another build.
    release = exact[0].partition("+")[0]
    if release != exact[0] and _does(
        [*pip, "install", "-q", "--no-deps", "--"], [release]
    ):
        return []
    return [f"{exact[0]}: no package index has it for this system"]


def _install_from_source(pip: Sequence[str], one: Package, sources: Path) -> list[str]:
    """Install a package from its repository, at its commit, with its changes."""
    if not one.commit:
        return [
            f"{one.name} {one.version} of {one.url}: {one.lacks or 'no commit is recorded'}"
        ]
    place = sources / normal(one.name)
    place.parent.mkdir(exist_ok=True)
    try:
        _run(["git", "clone", "-q", "--", one.url, str(place)])
        _run(["git", "-C", str(place), "checkout", "-q", "--detach", one.commit, "--"])
        if one.patch:
            text = one.patch.encode(errors="surrogateescape")
            _run(["git", "-C", str(place), "apply", "-"], text)
    except MllamError as error:
        return [f"{one.name} at {one.commit[:12]} of {one.url}: {error.why}"]
    words = ["-e", str(place)] if one.editable else [str(place)]
    if not _does([*pip, "install", "-q", "--no-deps"], words):
        return [f"{one.name} of {one.url}: pip cannot install it"]
    return [f"{one.name}: {one.lacks}"] if one.lacks else []


def _does(command: Sequence[str], words: Sequence[str]) -> bool:
    done = subprocess.run([*command, *words], capture_output=True, check=False)
    return done.returncode == 0


def _run(command: Sequence[str], given: bytes = b"") -> None:
    done = subprocess.run(command, input=given, capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        why = said[-1] if said else f"exit code {done.returncode}"
        raise MllamError(f"{Path(command[0]).name} failed", why=why)
