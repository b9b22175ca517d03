"""The app, its groups of commands, and the options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # whose help costs 0.2 s
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Run, resume, compare and share Neural-LAM experiments, on one machine and on Slurm clusters.\n\n"
    "Experiments are started with `dvc exp run`, which waits for them, or with `mllam-exps submit`, which does not.",
    epilog="Exit codes: 0 done, 1 a run failed, 2 bad input (nothing was started), 3 not known,"
    " 75 left while the run goes on, 130 interrupted.",
)
machine_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Machine files: where stages run, and with what.",
)
app.add_typer(machine_app, name="machine")
env_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Every package that an experiment was made with: told, compared, and installed again.",
)
app.add_typer(
    env_app,
    name="env",
    short_help="Tell, compare and install again what an experiment was made with.",
)
track_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="What runs log to MLflow or wandb: kept beside them until it is sent.",
)
app.add_typer(
    track_app, name="track", short_help="Send to MLflow what no server has got yet."
)
share_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="What a team has in common: cache, run store, DVC remote, and git's repository of experiments.",
)
app.add_typer(
    share_app,
    name="share",
    short_help="Set up and look after what a team has in common.",
)
SetParam = Annotated[
    list[str] | None,
    typer.Option(
        "--set-param",
        "-S",
        metavar="[FILE:]KEY=VALUE",
        help="Set a parameter, as dvc exp run does: KEY=1,2,4 or KEY=range(1,5) makes several experiments.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done; do nothing.")
]
OnlyThese = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="EXP…", help="Only these experiments (`*` stands for anything)."
    ),
]


def _version(value: bool) -> None:
    if value:
        from mllam_exps import __version__

        typer.echo(f"mllam-exps {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose",
            "-v",
            count=True,
            envvar="MLLAM_EXPS_VERBOSE",
            help="Say on standard error what is decided, asked and waited for; twice (-vv): in detail.",
        ),
    ] = 0,
) -> None:
    if verbose:
        from mllam_exps.base import logs

        logs.to_terminal(verbose)
