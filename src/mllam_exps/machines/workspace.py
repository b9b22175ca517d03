"""Where we are: the workspace that DVC works in, the repository it belongs to, and what a killed DVC left behind."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from mllam_exps.base.errors import UsageError
from mllam_exps.base.git import ask_git

if TYPE_CHECKING:
    from mllam_exps.machines.machine_files import Machine


OUTSIDE = "workspace"
"""The experiment's name outside of `dvc exp run`: in `dvc repro`, say."""


@dataclass(frozen=True)
class Workspace:
    """A checkout in which DVC works.

    Parameters
    ----------
    root : Path
        Where ``dvc.yaml`` is.
    origin : Path
        The repository that the user works in: the root itself, unless this is one of
        DVC's temporary workspaces. Machine files, logs and the tracking database are
        the origin's.
    experiment : str
        Name of the DVC experiment; ``workspace`` outside `dvc exp run`.
    commit : str
        The commit that the experiment starts from; empty where there is none.
    """

    root: Path
    origin: Path
    experiment: str
    commit: str

    @classmethod
    def here(
        cls, environ: Mapping[str, str] | None = None, directory: Path | None = None
    ) -> Workspace:
        """Return the workspace that contains `directory`, by default the current one.

        Raises
        ------
        UsageError
            If there is no ``dvc.yaml`` in it or above it.
        """
        environ = os.environ if environ is None else environ
        root = _repository_around((directory or _current()).resolve())
        commit = environ.get("DVC_EXP_BASELINE_REV")
        return cls(
            root=root,
            origin=origin_root(root, environ),
            experiment=environ.get("DVC_EXP_NAME") or OUTSIDE,
            commit=commit or ask_git(root, "rev-parse", "--verify", "-q", "HEAD"),
        )

    def store_directory(self, machine: Machine, cache: Path) -> Path:
        """Return where the run store is: what the machine file says, else beside the objects of DVC's cache.

        Beside the cache it is on the cache's file system, so that outputs get there as
        hard links; whoever shares the cache shares the store; and every temporary
        workspace of a repository finds the same one.

        Parameters
        ----------
        cache : Path
            Where DVC's cache is.
        """
        if machine.paths.run_store is not None:
            return machine.paths.run_store
        return cache / "mllam-exps"


def exp_run(name: str) -> str:
    """Return the command that goes on with an experiment of `dvc exp run`: under its name, or it gets another one."""
    if name == OUTSIDE:
        return "dvc exp run"
    return f"dvc exp run -n {shlex.quote(name)}"


def origin_root(root: Path, environ: Mapping[str, str]) -> Path:
    """Return the repository in which the user works, from whatever copy of it DVC works in.

    Parameters
    ----------
    root : Path
        The user's checkout, one of DVC's temporary ones, or a clone made for an
        experiment.
    environ : mapping
        ``MLLAM_EXPS_ORIGIN`` there, or ``mllam-exps.origin`` in its git configuration,
        names a clone's origin.
    """
    root = root.resolve()
    origin = environ.get("MLLAM_EXPS_ORIGIN") or ask_git(
        root, "config", "--get", "mllam-exps.origin"
    )
    if origin:
        return Path(origin).resolve()
    # DVC 3.67: for `--temp` and the queue it is the origin's root. It leaks into jobs:
    # only an ancestor counts.
    if dvc_root := environ.get("DVC_ROOT"):
        ancestor = Path(dvc_root).resolve()
        if root.is_relative_to(ancestor) and (ancestor / ".dvc").is_dir():
            return ancestor
    for parent in root.parents:
        if parent.parts[-3:] == (".dvc", "tmp", "exps"):
            return parent.parents[2]
    return root


def _repository_around(directory: Path) -> Path:
    """Return the nearest folder, here or above, that has ``dvc.yaml`` and is DVC's root."""
    found = _folders_of_stages(directory)
    for folder in found:
        if (folder / ".dvc").is_dir():
            return folder
    if not found:
        raise UsageError(
            "no dvc.yaml here or above",
            where=str(directory),
            next="cd to an experiment, or make one: mllam-exps init DIRECTORY --from north-atlantic-2025",
        )
    for folder in found[-1].parents:
        if (folder / ".dvc").is_dir():
            raise _is_another_s(found[0], folder)
    return found[0]  # no DVC repository: who opens it says so


def _folders_of_stages(directory: Path) -> list[Path]:
    """Return the folders, here and above, that have a ``dvc.yaml``, the nearest first."""
    around = (directory, *directory.parents)
    return [folder for folder in around if (folder / "dvc.yaml").is_file()]


def _current() -> Path:
    """Return the folder in which a command is typed.

    Raises
    ------
    UsageError
        If somebody has removed it.
    """
    try:
        return Path.cwd()
    except FileNotFoundError:
        what, where = "is not there any more", os.environ.get("PWD", "this folder")
        raise UsageError(what, where, next="cd to a folder that is there") from None


def other_stages_here(root: Path) -> Path | None:
    """Return the nearest folder, here or above, with a ``dvc.yaml`` that is not the repository's own; None without one.

    DVC (3.67) takes the stages that are named in such a folder from that file.
    """
    nearest = _folders_of_stages(Path.cwd().resolve())[0]
    return None if nearest == root.resolve() else nearest


def refuse_other_stages(root: Path) -> None:
    """Refuse what is typed in the folder of another ``dvc.yaml``: it would mean the stages there.

    Raises
    ------
    UsageError
        Naming that file.
    """
    if other := other_stages_here(root):
        raise _is_another_s(other, root)


def _is_another_s(folder: Path, root: Path) -> UsageError:
    """Say that stages of a ``dvc.yaml`` below DVC's root are none of ours."""
    way_out = "dvc exp run"
    if (root / "dvc.yaml").is_file():
        top = shlex.quote(str(root))
        way_out = f"dvc exp run; for those of {top}/dvc.yaml: cd {top}"
    return UsageError(
        "stages of other dvc.yaml files are not submitted",
        os.path.relpath(folder / "dvc.yaml", root),
        f"only those of the file beside {root / '.dvc'} are",
        way_out,
    )


def typed(root: Path, path: str) -> str:
    """Return a path of a repository as it has to be typed in the current directory."""
    return shlex.quote(os.path.relpath(root / path))


def leftovers(root: Path, since: float | None = None) -> list[str]:
    """Say in words what a killed `dvc exp run` left behind in a workspace.

    DVC 3.67 detaches HEAD while an experiment runs in the workspace, and puts it back
    at the end. Killed in between it leaves HEAD detached, for good, and its own refs;
    the next `dvc exp run` works, but no commit reaches a branch.

    Parameters
    ----------
    since : float, optional
        When the `dvc exp run` that works here now was started; without it none does.
        What it did itself is no leftover.
    """
    if ask_git(root, "symbolic-ref", "-q", "HEAD"):
        return []  # HEAD is on a branch
    if not ask_git(root, "for-each-ref", "refs/exps/exec/"):
        return []
    detached, branch = _last_detachment(root)
    # git's reflog has whole seconds.
    by_dvc_now = since is not None and detached >= since - 1.0
    if not branch or by_dvc_now:
        return []
    if any(_dvc_in(root)):
        return []  # another one's, who is at work
    return [
        "a `dvc exp run` left HEAD detached here: it was killed, or works on another host\n"
        f"  → git switch {branch}, once no dvc runs here"
    ]


def is_reproduced(root: Path) -> bool:
    """Tell whether `dvc exp run` or `dvc repro` works in this directory, on this host, around another process."""
    return any({"run", "repro"} & {*command} for command in _dvc_in(root))


def _dvc_in(root: Path) -> Iterator[list[str]]:
    """Yield the `dvc` commands of this host that have this directory as their own, but for those around us."""
    around = {one.pid for one in (psutil.Process(), *psutil.Process().parents())}
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            is_here = process.cwd() == str(root) and process.pid not in around
            if is_here and _is_dvc(command):
                yield command
        except (psutil.Error, OSError):
            continue


def _is_dvc(command: list[str]) -> bool:
    # `dvc exp run`, `python -m dvc exp run`, or a script of that name.
    return any(Path(word).name == "dvc" for word in command[:4])


def _last_detachment(root: Path) -> tuple[float, str]:
    """Return when HEAD last left a branch, and which; an empty name if it never did."""
    words = ("reflog", "show", "--format=%gd%x09%gs", "--date=unix", "-n", "50", "HEAD")
    for line in ask_git(root, *words).splitlines():
        selector, _, message = line.partition("\t")
        move = re.match(r"checkout: moving from (\S+) to [0-9a-f]{40}", message)
        if move is None:
            continue
        branch = move[1]
        if ask_git(root, "rev-parse", "-q", "--verify", f"refs/heads/{branch}"):
            time = selector.removeprefix("HEAD@{").removesuffix("}")
            return float(time), branch
    return 0.0, ""
