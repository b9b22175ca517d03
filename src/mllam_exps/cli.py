"""The commands. Thin: each one finds out where it is, calls one function and prints."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from mllam_exps.errors import Exit, MllamError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # whose help costs 0.2 s
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Run, resume, compare and share Neural-LAM experiments, on one machine and on Slurm clusters.\n\n"
    "Experiments are started with `dvc exp run`; this command is what its stages call, and what tells how they are.",
    epilog="Exit codes: 0 done, 1 a run failed, 2 bad input (nothing was started), 3 not known,"
    " 75 left while the run goes on, 130 interrupted.",
)
machine_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Machine files: where stages run, and with what."
)
app.add_typer(machine_app, name="machine")

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def _version(value: bool) -> None:
    if value:
        from mllam_exps import __version__

        typer.echo(f"mllam-exps {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command(short_help="Run one stage here; this is what dvc.yaml calls.")
def run(
    stage: Annotated[str, typer.Argument(help="A stage of dvc.yaml, e.g. train.")],
    force: Annotated[bool, typer.Option("--force", "-f", help="Make the result again although it is known.")] = False,
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over", help="Start anew although an attempt may still live where it cannot be seen; it is stopped."
        ),
    ] = False,
) -> None:
    """Run one stage here: attach to its run, collect its result, or start it. `dvc exp run` calls this."""
    from mllam_exps import run as running

    running.run(stage, force=force, take_over=take_over)


@app.command()
def status(
    stages: Annotated[list[str] | None, typer.Argument(help="Only these stages.")] = None,
    everything: Annotated[bool, typer.Option("--all", "-a", help="All runs of the store, finished ones too.")] = False,
    as_json: Json = False,
) -> None:
    """List runs with their state, attempts, progress and reasons."""
    from mllam_exps.report import status as report

    report.show(stages or [], everything=everything, as_json=as_json)


@app.command()
def logs(
    stage: Annotated[str, typer.Argument(help="A stage, or the beginning of a run key.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as the log grows, until the run ends.")] = False,
    attempt: Annotated[
        int | None, typer.Option("--attempt", "-n", help="Which attempt; the newest if not said.")
    ] = None,
    lines: Annotated[int | None, typer.Option("--lines", min=1, help="Only so many lines from the end.")] = None,
) -> None:
    """Print the log of a stage's newest attempt."""
    from mllam_exps.report import logs as report

    report.show(stage, follow=follow, number=attempt, lines=lines)


@app.command(short_help="Say in words what makes a stage stale.")
def why(
    stage: Annotated[str, typer.Argument(help="A stage of dvc.yaml.")],
    as_json: Json = False,
) -> None:
    """Say in words what makes a stage stale, and what would happen if it ran now."""
    from mllam_exps.report import why as report

    report.show(stage, as_json=as_json)


@app.command()
def cancel(
    stage: Annotated[str, typer.Argument(help="A stage, or the beginning of a run key.")],
    force: Annotated[bool, typer.Option("--force", "-f", help="Even if somebody waits for the run.")] = False,
) -> None:
    """Stop a run that goes on without a waiting command. Its checkpoints stay."""
    from mllam_exps.report import cancel as report

    report.cancel(stage, force=force)


@app.command(short_help="Print this workspace's scores, beside persistence.")
def scores(as_json: Json = False) -> None:
    """Print the scores of this workspace's experiment, beside persistence, and where its pictures are."""
    from mllam_exps.report import scores as report

    report.show(as_json=as_json)


@app.command(short_help="Check environment, machine and parameters; start nothing.")
def check() -> None:
    """Check the environment, the machine file and every parameter, and start nothing."""
    from mllam_exps.report import check as report

    report.show()


@app.command(short_help="Run the pipeline on one batch and one epoch.")
def smoke() -> None:
    """Run the whole pipeline on one batch and one epoch, before a long job. The workspace stays as it is."""
    from mllam_exps import smoke as smoking

    smoking.smoke()


@app.command(short_help="Start an experiment repository of one's own.")
def init(
    directory: Annotated[Path, typer.Argument(help="The new experiment's folder; made if it is not there.")],
    example: Annotated[
        str, typer.Option("--from", help="The example to start from: north-atlantic-2025 or danra-baseline.")
    ] = "north-atlantic-2025",
) -> None:
    """Start an experiment repository of one's own from an example: git, DVC, parameters, machine files."""
    from mllam_exps import init as starting

    made = starting.init(directory, example)
    typer.echo(f"{made} starts from {example}: see its README.md; then")
    typer.echo(f"  cd {shlex.quote(str(made))} && mllam-exps check && dvc exp run")


@machine_app.command("show", short_help="Print what would be used, or the script of a job.")
def machine_show(
    name: Annotated[str | None, typer.Argument(help="A machine; the one that would be used if not said.")] = None,
    script: Annotated[
        str | None,
        typer.Option("--script", metavar="STAGE", help="The script of this stage's job."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print what would be used, and from where each value comes; or the script of a stage's job."""
    from mllam_exps.report import machine as report

    report.show(name, script=script, as_json=as_json)


@machine_app.command("list", short_help="List the machines of this repository.")
def machine_list() -> None:
    """List the machines of this repository; the one that would be used is marked."""
    from mllam_exps.report import machine as report

    report.show_all()


def main() -> None:
    """Run the command line; errors that a user can act on are printed without a traceback."""
    try:
        app()
    except MllamError as error:
        print(f"error: {error}" if error.exit is not Exit.OK else str(error), file=sys.stderr)
        raise SystemExit(int(error.exit)) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(int(Exit.INTERRUPTED)) from None
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            # `mllam-exps logs | head`: nobody listens any more, which is no error.
            sys.stderr.close()
            raise SystemExit(0) from None
        from mllam_exps.reasons import of_os_error

        print(f"error: {of_os_error(error)}", file=sys.stderr)
        raise SystemExit(int(Exit.FAILED)) from None


if __name__ == "__main__":
    main()
