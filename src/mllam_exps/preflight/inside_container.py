"""Whether programs see in a machine's container what they see outside: looked at before anything starts there.

``python -m mllam_exps.preflight.inside_container ASKED``, run in the container, tells
what they see, as JSON on one line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from mllam_exps import stages
from mllam_exps.base.endings import reasons
from mllam_exps.base.errors import UsageError
from mllam_exps.dvc.cache_place import cache_directory
from mllam_exps.machines import container
from mllam_exps.machines.machine_files import Machine
from mllam_exps.machines.values import DIRECTORY
from mllam_exps.machines.workspace import Workspace
from mllam_exps.stages import asking, versions
from mllam_exps.stages.asking import Answer

WHERE = "environment.container"

VARIABLE = "MLLAM_EXPS_LOOKS"
"""A variable that is set outside: it has to be seen inside."""
MODULE = "mllam_exps.preflight.inside_container"


_seen: dict[tuple[str, ...], Mapping[str, Any]] = {}
"""What was seen by this process, which asks for it more than once."""


def versions_in(
    workspace: Workspace,
    machine: Machine,
    python: Sequence[str],
    modules: Sequence[str] = (),
) -> dict[str, str]:
    """Return the exact versions of a container's programs and modules, and which image it is.

    Parameters
    ----------
    python : sequence of str
        What starts the Python of the programs in it.
    modules : sequence of str
        As `versions.of_environment` takes them.

    Raises
    ------
    UsageError
        If the container is not there, or programs see something else in it than
        outside: with the words that most often help.
    """
    settings = machine.environment.container
    assert settings is not None
    digest = container.digest(settings.image)
    asked = {"paths": _paths(workspace, machine), "modules": list(modules)}
    which = digest, str(workspace.root), json.dumps(asked), *python
    if which not in _seen:
        seen = _ask(machine, python, workspace.root, asked)
        for problem in wrong(_look(asked["paths"]), seen, str(workspace.root)):
            problem.where = f"{machine.origin(WHERE)}: {settings.image}"
            raise problem
        _seen[which] = seen
    return {**_seen[which]["versions"], versions.CONTAINER: digest}


def _paths(workspace: Workspace, machine: Machine) -> list[str]:
    """Return the folders that programs read and write."""
    cache = cache_directory(workspace.origin)
    store = workspace.store_directory(machine, cache)
    wanted = [workspace.origin, cache, store, machine.working_directory]
    found = [path for path in wanted if path is not None and path.exists()]
    if not any(map(workspace.root.is_relative_to, found)):
        found.append(workspace.root)
    return list(dict.fromkeys(map(str, found)))


def _ask(
    machine: Machine, python: Sequence[str], root: Path, asked: Mapping[str, Any]
) -> Mapping[str, Any]:
    command = [*python, "-m", MODULE, json.dumps(asked)]
    try:
        answer = asking.ask(command, cwd=root, env={**os.environ, VARIABLE: "1"})
        told = _why_not(answer)
        if not told:
            found: Mapping[str, Any] = answer.found
            return found
    except (OSError, subprocess.TimeoutExpired) as error:
        told = str(error)
    settings = machine.environment.container
    assert settings is not None
    raise UsageError(
        "no program of ours can be started in the container",
        f"{machine.origin(WHERE)}: {settings.image}",
        told,
        f"`start` is how the site starts it; in it, {settings.python} has to find mllam-exps[models]",
    )


def _why_not(answer: Answer) -> str:
    """Return why an answer is none; nothing if it is one."""
    try:
        if answer.code == 0 and isinstance(answer.found, dict):
            return ""
    except ValueError:
        pass  # a line of somebody else's
    said = reasons.clean(answer.out + answer.err)
    why = reasons.environment_failure(said)
    return why or (said[-1] if said else f"exit code {answer.code}")


def wrong(
    outside: Mapping[str, Any], inside: Mapping[str, Any], directory: str
) -> Iterator[UsageError]:
    """Yield in what a container differs from its host. Pure.

    Parameters
    ----------
    outside, inside : mapping
        What is seen in each.
    directory : str
        Where the command was started.
    """
    if inside["user"] != outside["user"]:
        what = f"its programs would be those of user {inside['user']}, not yours"
        yield UsageError(what, next="start: podman has --userns=keep-id for that")
    if not inside["variable"]:
        what = "variables do not reach its programs"
        yield UsageError(what, next="start: podman has --env-host for that")
    for path, (inode, writable) in _there(outside["paths"]):
        found = inside["paths"].get(path)
        if found is None or found[0] != inode:
            what = f"{path} is not seen in it"
            way_out = f"start: apptainer has --bind {path} for that, podman --volume {path}:{path}"
            yield UsageError(what, next=way_out)
        elif writable and not found[1]:
            what = f"{path} cannot be written in it"
            yield UsageError(what, next="start: bind it to be written, too")
    if inside["directory"] != directory:
        what = (
            f"its programs would start in {inside['directory']}, not where they are to"
        )
        way_out = (
            f"start: --pwd {DIRECTORY} (apptainer), --workdir {DIRECTORY} (podman)"
        )
        yield UsageError(what, next=way_out)
    for name in ("mllam-exps", "recipes"):
        if inside[name] != outside[name]:
            what = f"it has mllam-exps {inside['mllam-exps']} in it, and here is {outside['mllam-exps']}"
            if name == "recipes":
                what = "its mllam-exps makes results in another way than the one here"
            yield UsageError(what, next="name an image with the same mllam-exps in it")
            return


def _there(paths: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for path, seen in paths.items():
        if seen is not None:
            yield path, seen


def _look(paths: Sequence[str]) -> dict[str, Any]:
    """Return what is seen: which mllam-exps, as whom, where, and each path's inode and whether it takes files."""
    seen: dict[str, list[int] | None] = {}
    for path in paths:
        try:
            inode = os.stat(path).st_ino  # noqa: PTH116 - as it is named
            seen[path] = [inode, int(os.access(path, os.W_OK))]
        except OSError:
            seen[path] = None
    recipes = {name: stages.get(name).recipe for name in sorted(stages.all_names())}
    return {
        "mllam-exps": metadata.version("mllam-exps").partition("+")[0],
        "recipes": recipes,
        "user": os.getuid(),
        "directory": str(Path.cwd()),
        "variable": os.environ.get(VARIABLE, ""),
        "paths": seen,
    }


def main(asked: Mapping[str, Any]) -> None:
    """Print what is seen here, and the versions of the programs, as JSON on one line."""
    told = versions.installed() | versions.of_modules(asked["modules"])
    print(json.dumps({**_look(asked["paths"]), "versions": told}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
