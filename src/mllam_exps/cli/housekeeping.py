"""Commands that set up, look after and clean up."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from mllam_exps.cli.options import Json, OnlyThese, app, env_app, machine_app, track_app

# ruff: noqa: PLR0917 - typer makes options of parameters


@app.command(short_help="Start an experiment repository of one's own.")
def init(
    directory: Annotated[
        Path,
        typer.Argument(help="The new experiment's folder; made if it is not there."),
    ],
    example: Annotated[
        str,
        typer.Option(
            "--from",
            help="The example to start from: north-atlantic-2025 or danra-baseline.",
        ),
    ] = "north-atlantic-2025",
    more: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            help="A stage more: infer keeps forecasts, verify scores those of infer, report writes a page of that.",
        ),
    ] = None,
) -> None:
    """Start an experiment repository of one's own from an example: git, DVC, parameters, machine files."""
    from mllam_exps.commands.housekeeping import init as starting

    made = starting.init(directory, example, more or [])
    typer.echo(f"{made} starts from {example}: see its README.md; then")
    typer.echo(f"  cd {shlex.quote(str(made))} && mllam-exps check && dvc exp run")


@app.command(short_help="Check environment, machine and parameters; start nothing.")
def check() -> None:
    """Check the environment, the machine file and every parameter, and start nothing."""
    from mllam_exps.commands.housekeeping import check as check_command

    check_command.show()


@app.command(short_help="Find what would stop you, before the first job.")
def doctor(
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Start one small job, and see what it sees."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Look at git, environment, cache, run store, remote, locks, share, tracking, secrets and jobs: a line each.

    With the command that mends it. Exit code 2 where something would stop you. Nothing
    is started without --deep, and no secret is read. The job is like that of a stage,
    one with GPUs if there is one, on one node for five minutes at most: whether its node
    sees the same paths, programs and clock, and the GPUs that were asked for.
    """
    from mllam_exps.commands.housekeeping import doctor as doctor_command

    doctor_command.examine(deep=deep, as_json=as_json)


@app.command(short_help="Delete failed experiments, and what nothing needs.")
def clean(
    names: OnlyThese = None,
    older_than: Annotated[
        str,
        typer.Option(
            "--older-than",
            metavar="AGE",
            help="Only what nothing happened to for so long: 30d, 12h.",
        ),
    ] = "",
    failed: Annotated[
        bool, typer.Option("--failed", help="Only what failed or was cancelled.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List it, and delete nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    as_json: Json = False,
) -> None:
    """List what may be deleted from the run store, with sizes, ask, and delete it.

    That is: experiments that failed or were cancelled, those that were removed from the
    repository since they were saved, and runs without a result. What another
    experiment, a commit or a living run needs stays.
    """
    from mllam_exps.commands.housekeeping import clean as clean_command

    clean_command.clean(
        names or [],
        failed=failed,
        older_than=older_than,
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
    )


@machine_app.command(
    "show", short_help="Print what would be used, or the script of a job."
)
def machine_show(
    name: Annotated[
        str | None,
        typer.Argument(help="A machine; the one that would be used if not said."),
    ] = None,
    script: Annotated[
        str | None,
        typer.Option(
            "--script", metavar="STAGE", help="The script of this stage's job."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print what would be used, and from where each value comes; or the script of a stage's job."""
    from mllam_exps.commands.housekeeping import machine as machine_command

    machine_command.show(name, script=script, as_json=as_json)


@machine_app.command("list", short_help="List the machines of this repository.")
def machine_list() -> None:
    """List the machines of this repository; the one that would be used is marked."""
    from mllam_exps.commands.housekeeping import machine as machine_command

    machine_command.show_all()


@track_app.command("sync", short_help="Send what no tracking server has got yet.")
def track_sync(
    names: OnlyThese = None,
    as_json: Json = False,
) -> None:
    """Send what runs have logged and no tracking server has got yet, and how they ended.

    Runs send by themselves what they log. What they cannot, as the server was away or
    their nodes have no internet, is kept, and sent from here. Nothing is sent twice.
    Exit code 1 where something is left.
    """
    from mllam_exps.commands.housekeeping import track

    track.sync(names or [], as_json=as_json)


@env_app.command("record", short_help="Print every package, of an experiment or here.")
def env_record(
    name: Annotated[
        str, typer.Argument(metavar="[EXP]", help="Else what stages run with here.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Print Python, system, CUDA, driver, modules and every package, development installs with their commits.

    Each run of a stage of Neural-LAM's has written down its own.
    """
    from mllam_exps.commands.housekeeping import env

    env.record(name, as_json=as_json)


@env_app.command("compare", short_help="Compare it with another one's, or with here.")
def env_compare(
    first: Annotated[str, typer.Argument(metavar="EXP1", help="An experiment.")],
    second: Annotated[
        str, typer.Argument(metavar="[EXP2]", help="Else what stages run with here.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Print how the environment of an experiment differs from another one's. Exit code 1 where it does."""
    from mllam_exps.commands.housekeeping import env

    env.compare(first, second, as_json=as_json)


@env_app.command("sync", short_help="Make the same environment again.")
def env_sync(
    name: Annotated[str, typer.Argument(metavar="EXP", help="An experiment.")],
    folder: Annotated[
        Path, typer.Argument(metavar="DIRECTORY", help="Of the new environment.")
    ],
) -> None:
    """Make a virtual environment with the same packages: from the index, or from git with their commits and changes.

    What cannot be had is told; exit code 1 where the two differ in the end.
    """
    from mllam_exps.commands.housekeeping import env

    env.sync(name, folder)
