"""Makes the environment of a stage's program ready: modules, scripts, the virtual environment, variables.

No shell text is ever made from a command: a command travels as an argument vector, and
what the machine file says is quoted, value by value.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from mllam_exps.machines import container
from mllam_exps.machines.values import FOLDER

if TYPE_CHECKING:
    # Each job imports this module, and needs no pydantic.
    from mllam_exps.machines.machine_files import Machine

FAILED = 78
"""Exit code when modules or scripts fail (EX_CONFIG): the program was never started."""

# A script that is sourced may `exit`, with 0 too: the trap turns every end before our
# own into a failure that says where. Neither `set -e` nor `set -u`: module systems and
# activation scripts break under both.
_SAY = "the environment could not be made ready, stopped at"
_GUARD = [
    "mllam_exps_step='the start'",
    'mllam_exps_cwd="$PWD"',
    f"trap 'echo \"mllam-exps: {_SAY}: $mllam_exps_step\" >&2; exit {FAILED}' EXIT",
]
_UNGUARD = [
    'cd "$mllam_exps_cwd" || exit',
    "trap - EXIT",
    "unset mllam_exps_step mllam_exps_cwd",
]

# A shell that is no login shell often has no `module` yet.
_FIND_MODULE = """\
if ! type module >/dev/null 2>&1; then
  for mllam_exps_file in "${LMOD_PKG:-/usr/share/lmod/lmod}/init/bash" \\
      "${MODULESHOME:-/usr/share/modules}/init/bash" \\
      /etc/profile.d/z00_lmod.sh /etc/profile.d/lmod.sh /etc/profile.d/modules.sh; do
    if [ -r "$mllam_exps_file" ]; then . "$mllam_exps_file"; type module >/dev/null 2>&1 && break; fi
  done
  unset mllam_exps_file
fi
mllam_exps_step='no command named module on this host'
type module >/dev/null 2>&1 || exit"""


def variables(machine: Machine) -> dict[str, str]:
    """Return the variables that a machine sets, without PATH and without those that modules and scripts set."""
    values = {"VIRTUAL_ENV": str(machine.venv)}
    if machine.paths.cartopy_data:
        values["CARTOPY_DATA_DIR"] = str(machine.paths.cartopy_data)
    return values | machine.environment.variables


def python(machine: Machine) -> Path:
    """Return the Python of the virtual environment; it runs the stages' programs, where no container does."""
    return machine.venv / "bin" / "python"


def program(machine: Machine) -> list[str]:
    """Return the words that start the Python of the stages' programs, in their container where there is one."""
    if machine.environment.container is not None:
        return container.python(machine.environment.container)
    return [str(python(machine))]


def program_file(machine: Machine, root: Path) -> Path:
    """Return a file that starts the Python of the stages' programs, in their container where there is one.

    Parameters
    ----------
    root : Path
        The repository, as `wrap` takes it: a module may bring the command that starts containers.
    """
    if machine.environment.container is not None:
        return container.launcher(wrap(machine, root, program(machine)))
    return python(machine)


def prologue(machine: Machine, root: Path) -> list[str]:
    """Return the lines of bash that make the environment ready.

    If a module or a script fails, these lines end the shell with a message and the exit
    code `FAILED`. They must stand first in a batch script: they set the EXIT trap, and
    remove it at their end.

    Parameters
    ----------
    machine : Machine
        The machine.
    root : Path
        The repository, whose machines/ folder holds the scripts.
    """
    modules, scripts = machine.environment.modules, machine.environment.source
    lines: list[str] = []
    if modules or scripts:
        lines += _GUARD
    if modules:
        lines += _FIND_MODULE.splitlines()
    for module in modules:
        lines.append(f"mllam_exps_step={shlex.quote(f'module load {module}')}")
        lines.append(f"module load {shlex.quote(module)} || exit")
    for script in scripts:
        path = root / FOLDER / os.path.expanduser(script)  # noqa: PTH111 - an unknown ~user stays as it is
        lines.append(f"mllam_exps_step={shlex.quote(f'source {path}')}")
        lines.append(f". {shlex.quote(str(path))} || exit")
    if modules or scripts:
        lines += _UNGUARD
    # After the modules, which may bring a Python of their own.
    lines.append("unset PYTHONHOME")
    lines.append(f'export PATH={shlex.quote(str(machine.venv / "bin"))}:"$PATH"')
    for name, value in variables(machine).items():
        lines.append(f"export {name}={shlex.quote(value)}")
    return lines


def wrap(machine: Machine, root: Path, argv: list[str]) -> list[str]:
    """Return the argument vector that runs a command inside the machine's environment.

    Parameters
    ----------
    machine : Machine
        The machine.
    root : Path
        The repository.
    argv : list of str
        The command, handed on as it is: no shell reads it.
    """
    if machine.environment.modules or machine.environment.source:
        # Set aside, or a sourced script (Intel's setvars.sh) would take the command for
        # its own arguments.
        aside = ['mllam_exps_argv=("$@")', "set --"]
        start = 'exec "${mllam_exps_argv[@]}"'
        text = "\n".join([*aside, *prologue(machine, root), start])
        return ["bash", "-c", text, "mllam-exps", *argv]
    inherited = os.environ.get("PATH", os.defpath)
    path = f"PATH={machine.venv / 'bin'}{os.pathsep}{inherited}"
    values = [f"{name}={value}" for name, value in variables(machine).items()]
    return ["env", "-u", "PYTHONHOME", path, *values, *argv]
