"""Every package of an environment, exactly: what ``version.mllam.txt`` has of the main programs, of all.

Read from the names of the installed packages' own folders: none is imported, and hardly
any record is opened, so that it costs milliseconds. ``python -m
mllam_exps.stages.packages`` tells those of the environment whose Python runs it.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import unquote, urlparse

from mllam_exps.base.records import Record
from mllam_exps.base.shapes import Shape, flag, list_of, maybe, of_shape, text
from mllam_exps.stages import asking, development, tracking, versions

FACTS = ("python", "system", "container", "cuda", "driver", "modules")
"""What an `Environment` says beside its packages."""
DRIVER = Path("/proc/driver/nvidia/version")
LARGEST_PATCH = 1_000_000
"""Bytes of changes to a development install that are kept."""

_PACKAGE: Shape = {
    "name": text,
    "version": text,
    "url": maybe(text),
    "commit": maybe(text),
    "editable": maybe(flag),
    "patch": maybe(text),
    "lacks": maybe(text),
}


@dataclass(frozen=True)
class Package:
    """One installed package.

    Parameters
    ----------
    name, version : str
        As they are installed.
    url : str
        Where it came from, if not from a package index: a git repository, a folder.
    commit : str
        Which one of that repository.
    editable : bool
        Whether it is used from that folder, as it is.
    patch : str
        How its code differs from that commit, as ``git diff`` says it.
    lacks : str
        What is not in all this: files that git does not track, say.
    """

    name: str
    version: str
    url: str = ""
    commit: str = ""
    editable: bool = False
    patch: str = ""
    lacks: str = ""


@dataclass(frozen=True)
class Environment(Record):
    """All that numbers depend on beside the repository's files.

    Parameters
    ----------
    python, system : str
        Python's version; system, machine and C library.
    cuda, driver : str
        What torch was built with, and the graphics driver; empty where there is none.
    modules : str
        What the module system has loaded.
    container : str
        Which image the programs ran in; empty where they ran in none.
    packages : tuple of Package
        By name.
    """

    SHAPE: ClassVar[Shape] = {
        "python": text,
        "system": text,
        "cuda": maybe(text),
        "driver": maybe(text),
        "modules": maybe(text),
        "container": maybe(text),
        "packages": list_of(of_shape(_PACKAGE)),
    }

    python: str
    system: str
    cuda: str = ""
    driver: str = ""
    modules: str = ""
    packages: tuple[Package, ...] = field(default=())
    container: str = ""

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Return what a record of this shape says."""
        packages = tuple(
            Package(**{name: one[name] for name in _PACKAGE if one.get(name)})
            for one in record["packages"]
        )
        return super().from_record({**record, "packages": packages})

    def to_record(self) -> dict[str, Any]:
        """Return a JSON-able record, without what is empty."""
        told = {k: v for k, v in asdict(self).items() if v and k != "packages"}
        packages = [{k: v for k, v in asdict(p).items() if v} for p in self.packages]
        return {**told, "packages": packages}


def installed() -> Environment:
    """Return the environment of this very Python."""
    found = sorted(map(_package, _distributions()), key=lambda one: one.name.lower())
    libc = "-".join(platform.libc_ver()).strip("-")
    return Environment(
        python=platform.python_version(),
        system=" ".join([platform.system(), platform.machine(), libc]).strip(),
        cuda=_cuda(),
        driver=_driver(),
        modules=os.environ.get("LOADEDMODULES", ""),
        packages=tuple(found),
    )


def of_container(python: Sequence[str], image: str) -> Environment:
    """Return the environment in a container.

    Parameters
    ----------
    python : sequence of str
        What starts its Python.
    image : str
        The digest of its image.

    Raises
    ------
    OSError, ValueError, subprocess.TimeoutExpired
        If it does not tell.
    """
    record = asking.ask([*python, "-m", __name__]).found
    return replace(Environment.from_record(record), container=image)


def folder_of(name: str) -> Path | None:
    """Return the folder from which a development install of this very Python is used; None where it is none."""
    direct = _direct(name)
    if not direct.get("dir_info", {}).get("editable"):
        return None
    return Path(unquote(urlparse(direct["url"]).path))


def archive_of(name: str) -> str:
    """Return the sha256 of the archive that pip installed a package from here; empty where it was none."""
    told = _direct(name).get("archive_info", {})
    digest = told.get("hashes", {}).get("sha256", "")
    return str(digest or str(told.get("hash", "")).removeprefix("sha256="))


def _direct(name: str) -> dict[str, Any]:
    """Return where a package came from, as its installer wrote it down (PEP 610)."""
    try:
        text = metadata.distribution(name).read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        text = None
    return dict(json.loads(text or "{}"))


def _distributions() -> Iterator[metadata.Distribution]:
    """Yield the packages that Python would import: of several of a name the first one on its path."""
    seen: set[str] = set()
    for one in metadata.distributions():
        name = _named(one)[0].lower()
        if name not in seen:
            seen.add(name)
            yield one


def _named(distribution: metadata.Distribution) -> tuple[str, str]:
    """Return a package's name and version, from its folder's name where that says both."""
    folder = Path(str(getattr(distribution, "_path", "")))
    found = re.fullmatch(r"(.+?)-([^-]+)\.(dist|egg)-info", folder.name)
    if found is None:
        return str(distribution.name), str(distribution.version)
    return found[1].replace("_", "-"), found[2]


def _package(distribution: metadata.Distribution) -> Package:
    name, version = _named(distribution)
    if name == "torch":
        # PyPI's CUDA wheels leave the build out of their metadata.
        version = versions.installed(["torch"])["torch"]
    direct = json.loads(distribution.read_text("direct_url.json") or "{}")
    if not direct:
        return Package(name, version)
    url = tracking.public(str(direct.get("url", "")))
    if commit := direct.get("vcs_info", {}).get("commit_id"):
        return Package(name, version, url, str(commit))
    if "dir_info" not in direct:
        return Package(name, version, url)
    folder = Path(unquote(urlparse(direct["url"]).path))
    if not direct["dir_info"].get("editable"):
        lacks = "it was installed from a folder, which may have changed since"
        return Package(name, version, str(folder), lacks=lacks)
    return _developed(name, version, folder, development.code(distribution, folder))


def _developed(name: str, version: str, folder: Path, code: list[str]) -> Package:
    """Return a package that is used from a folder.

    Its commit is the last one that changed its code: where the folder is an experiment's
    repository as well, that has many commits with the same code.
    """
    commit = _asked(folder, "rev-list", "-1", "HEAD", "--", *code)
    commit = commit or _asked(folder, "rev-parse", "--verify", "HEAD")
    if not commit or not _asked(folder, "ls-files", "--", "."):
        lacks = "its folder is no git repository: nobody else can have it"
        return Package(name, version, str(folder), editable=True, lacks=lacks)
    url = tracking.public(_asked(folder, "remote", "get-url", "origin")) or str(folder)
    patch, lacks = _patch(folder, code)
    return Package(name, version, url, commit, editable=True, patch=patch, lacks=lacks)


def _patch(folder: Path, code: list[str]) -> tuple[str, str]:
    """Return how the code in a checkout differs from its commit, and what of that cannot be said."""
    words = ["diff", "HEAD", "--binary", "--no-ext-diff", "--no-color", "--no-renames"]
    # Whatever a user's own settings are: the same changes are the same text.
    words += ["--src-prefix=a/", "--dst-prefix=b/", "--full-index", "-U3"]
    told = versions.ask_checkout(folder, *words, "--", *code)
    untracked = ("ls-files", "--others", "--exclude-standard", "--")
    others = _asked(folder, *untracked, *code).splitlines()
    lacks = f"files that git does not track: {', '.join(others[:3])}" if others else ""
    if told is None or len(told) > LARGEST_PATCH:
        return "", "its changes are too large to be kept"
    return told, lacks


def _asked(folder: Path, *arguments: str) -> str:
    return (versions.ask_checkout(folder, *arguments) or "").strip()


def _cuda() -> str:
    try:
        place = metadata.distribution("torch").locate_file("torch/version.py")
        content = Path(str(place)).read_text(encoding="utf-8")
    except (OSError, metadata.PackageNotFoundError):
        return ""
    found = re.search(
        r"^cuda *(?::[^=]*)?= *['\"]([^'\"]+)['\"]", content, re.MULTILINE
    )
    return found[1] if found else ""


def _driver() -> str:
    try:
        return DRIVER.read_text(encoding="utf-8").splitlines()[0].strip()
    except (OSError, IndexError):
        return ""


def main() -> int:
    """Print the environment of this Python, as JSON on one line."""
    print(json.dumps(installed().to_record()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
