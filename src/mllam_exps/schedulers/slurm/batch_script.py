"""The batch script of an attempt, for Slurm and for people who want to read what is submitted."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping

from mllam_exps.machines import job_environment
from mllam_exps.machines.model import OptionValue, Resources
from mllam_exps.machines.values import OPTIONS
from mllam_exps.schedulers.base import Job, JobRequest

_OWN_SETTINGS = ("SLURM_CONF", "MUNGE_SOCKET")

SRUN = ("srun", "--unbuffered", "--label", "--kill-on-bad-exit=1")


def render(request: JobRequest) -> str:
    """Return the script.

    Every option stands in it: ``sbatch`` is given none on its command line, and no
    variable ``SBATCH_…``, which would go before these lines.
    """
    comment = request.comment.replace("\n", " ")
    return "\n".join(
        [
            "#!/bin/bash",
            f"# {comment}",
            *(f"#SBATCH {quoted(option)}" for option in options(request)),
            "",
            *request.prologue,
            "",
            f"cd {shlex.quote(str(request.directory))} || exit",
            f"exec {shlex.join(request.command)}",
            "",
        ]
    )


def options(request: JobRequest) -> Iterator[str]:
    """Yield the options of sbatch: first ours, then what the machine file says."""
    yield f"--job-name={request.name}"
    yield f"--output={_file_name(str(request.log))}"
    yield "--open-mode=append"
    # A new try is a new attempt with a number of its own: Slurm's would write beside a
    # first one that lives on.
    yield "--no-requeue"
    yield "--export=ALL"
    yield f"--nodes={request.nodes}"
    yield f"--ntasks-per-node={request.tasks}"
    if request.after:
        which = dependency(request.after, success=request.after_success)
        yield f"--dependency={which}"
        # Else it would wait for ever (22.05: DependencyNeverSatisfied) for a job that
        # has failed.
        yield "--kill-on-invalid-dep=yes"
    if request.warning:
        # B: to this script alone. Lightning (2.6) answers the same signal by asking for
        # the job to be queued again.
        yield f"--signal=B:USR1@{request.warning}"
    yield from resource_options(request.resources)


def dependency(after: tuple[Job, ...], *, success: bool) -> str:
    """Return what a job waits for, as Slurm writes it."""
    kind = "afterok" if success else "afterany"
    return ":".join([kind, *(str(job.record["id"]) for job in after)])


def resource_options(resources: Resources) -> list[str]:
    """Return what the machine file says of a stage as options of sbatch, one ``--name=value`` each."""
    values: dict[str, OptionValue] = {
        option: getattr(resources, key) for key, option in OPTIONS.items()
    }
    if resources.mail:
        values["mail-user"] = resources.mail.user
        values["mail-type"] = ",".join(resources.mail.types)
    return _arguments(values | resources.sbatch)


def srun_options(resources: Resources) -> list[str]:
    """Return the further options of srun."""
    # Since Slurm 22.05 srun no longer takes cpus-per-task from the job.
    return _arguments({"cpus-per-task": resources.cpus} | resources.srun)


def _arguments(options: Mapping[str, OptionValue]) -> list[str]:
    """Return long options as arguments: true is the bare option, false and null leave it out."""
    found = []
    for name, value in options.items():
        if value is True:
            found.append(f"--{name}")
        elif value is not None and value is not False:
            found.append(f"--{name}={value}")
    return found


def launch(request: JobRequest) -> list[str]:
    """Return what starts a program on all nodes and tasks of the job."""
    shape = [f"--nodes={request.nodes}", f"--ntasks-per-node={request.tasks}"]
    return [*SRUN, *shape, *srun_options(request.resources)]


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the part of the submitter's environment that its job gets: with it, the programs of Slurm find theirs."""
    own = {name: environ[name] for name in _OWN_SETTINGS if name in environ}
    return job_environment.of_job(environ) | own


def _file_name(path: str) -> str:
    """Return a path as Slurm takes it for the name of a file.

    Slurm 22.05 replaces %j and the like, and %% by %; where there is a backslash it
    strips one, and replaces nothing.
    """
    return path.replace("\\", "\\\\") if "\\" in path else path.replace("%", "%%")


def quoted(option: str) -> str:
    """Return an option as a ``#SBATCH`` line takes it.

    Slurm 22.05 splits these lines itself, at white space, with quotes and backslashes;
    a ``#`` begins a comment.
    """
    if re.fullmatch(r"[\w@%+=:,./\[\]*-]+", option):
        return option
    name, sign, value = option.partition("=")
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{name}{sign}"{escaped}"'
