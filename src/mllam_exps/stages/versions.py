"""Exact versions of every program that makes the numbers: the content of ``version.mllam.txt``.

Versions are read from the installed packages' own records, never by importing them:
torch alone takes 2 s. ``python -m mllam_exps.stages.versions --json`` tells those of
the environment whose Python runs it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from mllam_exps.base.endings import reasons
from mllam_exps.base.errors import UsageError
from mllam_exps.identity.definition import RESUME_FROM, flat
from mllam_exps.stages import asking
from mllam_exps.stages.asking import Answer

ABSENT = "absent"
"""What stands in a version's place when the program is not installed."""

CONTAINER = "container"
"""The name under which the digest of the image stands in whose container the programs run."""

MODULE = "module "
"""What stands before the name of a module, where versions are told by name."""

PROGRAMS = (
    "cartopy",
    "dask",
    "matplotlib",
    "mllam-data-prep",
    "mlflow",
    "networkx",
    "neural-lam",
    "numcodecs",
    "numpy",
    "pandas",
    "pytorch-lightning",
    "scipy",
    "scores",
    "torch",
    "torch-geometric",
    "wandb",
    "weather-model-graphs",
    "xarray",
    "zarr",
)
"""The programs whose versions are written down, beside Python itself."""

# Import names of the programs that people develop themselves, and may put in front of
# the installed ones.
_DEVELOPED = {
    "mllam-data-prep": "mllam_data_prep",
    "neural-lam": "neural_lam",
    "weather-model-graphs": "weather_model_graphs",
}
_SOURCES = {
    ".py",
    ".pyx",
    ".c",
    ".cc",
    ".cpp",
    ".cu",
    ".h",
    ".json",
    ".toml",
    ".yaml",
    ".yml",
}
_HEADER = """\
# Exact versions of every program that makes the numbers, written by the stage mllam_version; do not edit.
# Which of them count for which stage stands in dvc.yaml.
# +g<commit> and .d<digest> tell a development install and its uncommitted changes.
"""


def installed(names: Sequence[str] = PROGRAMS) -> dict[str, str]:
    """Return the exact versions in the environment of this very Python.

    Parameters
    ----------
    names : sequence of str
        Distribution names.

    Returns
    -------
    dict
        Version by name, sorted, with ``python``; `ABSENT` where a program is not
        installed.
    """
    found = {name: _version(name) for name in names}
    return dict(sorted({"python": platform.python_version(), **found}.items()))


def of_environment(
    python: Sequence[str], cwd: Path | None = None, modules: Sequence[str] = ()
) -> dict[str, str]:
    """Return the exact versions in the environment in which the stages run.

    Parameters
    ----------
    python : sequence of str
        The argument vector that starts its Python, e.g. ``["/venv/bin/python"]``.
    cwd : Path, optional
        Where to run it; programs lying there would hide the installed ones.
    modules : sequence of str
        Modules of other programs, whose versions are told as well, under their names
        with `MODULE` in front.

    Raises
    ------
    UsageError
        When that Python cannot be started, or `mllam_exps` is not installed there.
    """
    command = [*python, "-m", "mllam_exps.stages.versions", "--json", *modules]
    # What stands before it makes the environment ready: a page of bash, for machines
    # with modules.
    python_itself = next(
        (word for word in python if word.endswith("python")), python[0]
    )
    shown = f"{python_itself} -m mllam_exps.stages.versions --json"
    try:
        answer = asking.ask(command, cwd=cwd)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(
            "cannot ask the stages' environment for its versions", shown, str(error)
        ) from error
    try:
        found = answer.found if answer.code == 0 else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise _no_answer(answer, shown, python_itself)
    return {str(name): str(version) for name, version in found.items()}


def _no_answer(answer: Answer, shown: str, python: str) -> UsageError:
    """Return what is wrong with an environment that does not tell its versions."""
    # A script may say on either stream what is wrong; ours says on the second where
    # that was.
    if why := reasons.environment_failure(reasons.clean(answer.out + answer.err)):
        way_out = "mllam-exps machine show: `environment` names the modules and scripts"
        return UsageError(
            "no program can be started on this machine", why=why, next=way_out
        )
    told = (answer.err.strip() or answer.out.strip()).splitlines()
    return UsageError(
        "the stages' environment does not tell its versions",
        shown,
        told[-1] if told else f"exit code {answer.code}",
        f"install mllam-exps there: {python} -m pip install mllam-exps",
    )


def of_modules(names: Sequence[str]) -> dict[str, str]:
    """Return where modules come from, under their names with `MODULE` in front."""
    return {f"{MODULE}{name}": of_module(name) for name in names}


def of_module(name: str) -> str:
    """Return the program, and its exact version, that a module comes from; `ABSENT` where there is none.

    One that no installed program names, found by PYTHONPATH for one, is known by the
    digest of its source.
    """
    if owners := metadata.packages_distributions().get(name):
        return ", ".join(f"{owner} {_version(owner)}" for owner in sorted(set(owners)))
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.origin:
        return ABSENT
    place = Path(spec.origin)
    return (
        f"d{_digest(place.parent, {place.name})}"
        if not spec.submodule_search_locations
        else _source_mark(place.parent)
    )


def content(
    programs: Mapping[str, str],
    recipes: Mapping[str, int],
    archives: Mapping[str, Mapping[str, Any]],
) -> str:
    """Return the text of ``version.mllam.txt``: the same bytes for the same versions.

    Parameters
    ----------
    programs : mapping
        Version by program, from `installed` or `of_environment`.
    recipes : mapping
        Recipe number by stage.
    archives : mapping
        From `mllam_exps.stages.neural_lam.data.archives.identities`.
    """
    everything = {
        **programs,
        "mllam-exps": dict(recipes),
        "archives": {name: dict(archive) for name, archive in archives.items()},
    }
    return _written(everything)


def with_parents(text: str, parents: Mapping[str, Any]) -> str:
    """Return the text of ``version.mllam.txt`` with what its stages go on from, by stage; as it is where none can.

    What other trainings left is no program, but as with archives nobody sees it in the
    repository's files: here DVC does.
    """
    import yaml

    if not parents:
        return text
    return _written({**yaml.safe_load(text), RESUME_FROM: dict(parents)})


def without_parents(text: str) -> str:
    """Return the text without what its stages go on from."""
    import yaml

    if f"{RESUME_FROM}:" not in text:
        return text
    everything = yaml.safe_load(text)
    everything.pop(RESUME_FROM, None)
    return _written(everything)


def _written(everything: Mapping[str, Any]) -> str:
    import yaml

    # No anchors: two stages may go on from the same.
    dumper = type("Dumper", (yaml.SafeDumper,), {"ignore_aliases": lambda *_: True})
    return _HEADER + yaml.dump(
        everything, Dumper=dumper, sort_keys=True, allow_unicode=True, width=1000
    )


def differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Tell in words where versions are not those that a run key was made from.

    Parameters
    ----------
    expected : mapping
        What the key says; only what it names is compared.
    found : mapping
        What is installed.

    Returns
    -------
    list of str
        Such as ``torch 2.13.0+cpu, the key says 2.12.0``; empty when all agree.
    """
    have = dict(flat(found))
    return [
        f"{name} {_told(have.get(name, ABSENT))}, the key says {_told(value)}"
        for name, value in sorted(flat(expected))
        if have.get(name, ABSENT) != value
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the versions of this environment, as JSON on one line or as YAML; those of modules that are named, too."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    modules = [word for word in words if word != "--json"]
    found = installed() | of_modules(modules)
    if "--json" in words:
        print(json.dumps(found))
    else:
        print("\n".join(f"{name}: {version}" for name, version in found.items()))
    return 0


def _told(value: object) -> str:
    return "unknown" if value is None else str(value)


def _version(name: str) -> str:
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return ABSENT
    # Not `distribution.version`: that parses the whole record, README included; 60 ms
    # for these programs.
    recorded = re.search(
        r"^Version: *(\S+)", distribution.read_text("METADATA") or "", re.MULTILINE
    )
    version = recorded[1] if recorded else distribution.version
    if name == "torch":
        # torch/version.py has the build: PyPI's CUDA wheels leave it out of their
        # metadata.
        text = _text(Path(str(distribution.locate_file("torch/version.py"))))
        if told := re.search(
            r"^__version__ *(?::[^=]*)?= *['\"]([^'\"]+)['\"]", text, re.MULTILINE
        ):
            version = told[1]
    mark = _development_mark(name, distribution)
    if not mark:
        return version
    # An editable install's recorded version may name the commit of the day on which it
    # was installed.
    version = re.sub(r"\+g[0-9a-f]+(\.d[0-9a-f]+)?$", "", version)
    return f"{version}{'.' if '+' in version else '+'}{mark}"


def _development_mark(name: str, distribution: metadata.Distribution) -> str:
    """Return what tells a development install from the release of the same number; empty for a release."""
    direct: dict[str, Any] = json.loads(
        distribution.read_text("direct_url.json") or "{}"
    )
    if commit := direct.get("vcs_info", {}).get("commit_id"):
        return f"g{commit[:12]}"
    if shadow := _shadow(name, distribution, direct):
        return _source_mark(shadow)
    if "dir_info" not in direct:
        return ""
    if direct["dir_info"].get("editable"):
        return _source_mark(Path(unquote(urlparse(direct["url"]).path)))
    # Installed once from a folder that may have changed since: what counts is what was
    # installed.
    record = sorted(
        line
        for line in (distribution.read_text("RECORD") or "").splitlines()
        if ".py,sha256=" in line
    )
    return "d" + hashlib.sha256("\n".join(record).encode()).hexdigest()[:8]


def _shadow(
    name: str, distribution: metadata.Distribution, direct: Mapping[str, Any]
) -> Path | None:
    """Return the folder that hides the installed package, by PYTHONPATH for one; None as a rule."""
    module = _DEVELOPED.get(name)
    spec = importlib.util.find_spec(module) if module else None
    if spec is None or not spec.origin or direct.get("dir_info", {}).get("editable"):
        return None
    package = Path(spec.origin).resolve().parent
    home = Path(str(distribution.locate_file(""))).resolve()
    return None if package.is_relative_to(home) else package


def _source_mark(folder: Path) -> str:
    """Return ``g<commit>``, with ``.d<digest>`` where files differ from it; the digest alone outside git."""
    commit = ask_checkout(folder, "rev-parse", "--verify", "HEAD")
    # A folder that git ignores, inside some other repository, is no checkout.
    if commit is None or not ask_checkout(folder, "ls-files", "--", "."):
        return "d" + _digest(folder, _sources(folder))
    # File names and contents, not the text of a diff: that depends on everyone's own
    # git configuration.
    changed = (
        ask_checkout(
            folder,
            "diff",
            "HEAD",
            "--name-only",
            "--no-renames",
            "--relative",
            "-z",
            "--",
            ".",
        )
        or ""
    )
    untracked = (
        ask_checkout(
            folder, "ls-files", "--others", "--exclude-standard", "-z", "--", "."
        )
        or ""
    )
    files = {file for file in changed.split("\0") if file}
    files |= {file for file in untracked.split("\0") if Path(file).suffix in _SOURCES}
    return f"g{commit.strip()[:12]}" + (f".d{_digest(folder, files)}" if files else "")


def _sources(folder: Path) -> set[str]:
    return {
        str(file.relative_to(folder))
        for file in folder.rglob("*")
        if file.suffix in _SOURCES
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    }


def _digest(folder: Path, files: set[str]) -> str:
    total = hashlib.sha256()
    for file in sorted(files):
        path = folder / file
        body = path.read_bytes() if path.is_file() else b"gone"
        total.update(f"{file}\0{hashlib.sha256(body).hexdigest()}\n".encode())
    return total.hexdigest()[:8]


def ask_checkout(folder: Path, *arguments: str) -> str | None:
    """Return what git says of a checkout that programs are used from, anybody's; None where it fails."""
    # GIT_* names another repository in a hook. A colleague's checkout is imported, so
    # it may be read as well.
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith("GIT_")
    }
    command = [
        "git",
        "-c",
        "safe.directory=*",
        "-c",
        "core.fsmonitor=false",
        "--no-optional-locks",
    ]
    try:
        done = subprocess.run(
            [*command, "-C", str(folder), *arguments],
            env=environ,
            capture_output=True,
            check=False,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (
        done.stdout.decode(errors="surrogateescape") if done.returncode == 0 else None
    )


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


if __name__ == "__main__":
    sys.exit(main())
