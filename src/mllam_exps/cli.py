"""The commands. Thin: each one finds out where it is, calls one function and prints."""

from __future__ import annotations

import gc
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from mllam_exps.base import special_files
from mllam_exps.base.errors import Exit, MllamError
from mllam_exps.base.records import keep_others_out
from mllam_exps.base.terminal import print_anything, warn

# ruff: noqa: PLR0917 - typer makes options of parameters

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
track_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="What runs log to MLflow or wandb: kept beside them until it is sent.",
)
app.add_typer(track_app, name="track")
share_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="What a team has in common: cache, run store, DVC remote, and git's repository of experiments.",
)
app.add_typer(share_app, name="share")

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


@app.command(short_help="Run one stage here; this is what dvc.yaml calls.")
def run(
    stage: Annotated[str, typer.Argument(help="A stage of dvc.yaml, e.g. train.")],
    force: Annotated[
        bool,
        typer.Option(
            "--force", "-f", help="Make the result again although it is known."
        ),
    ] = False,
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over",
            help="Start anew although an attempt may still live where it cannot be seen; it is stopped.",
        ),
    ] = False,
) -> None:
    """Run one stage here: attach to its run, collect its result, or start it. `dvc exp run` calls this."""
    from mllam_exps.commands import run as running

    running.run(stage, force=force, take_over=take_over)


@app.command(short_help="Submit experiments as jobs, and leave.")
def submit(
    stages: Annotated[
        list[str] | None,
        typer.Argument(help="Stages to bring up to date; all if none is named."),
    ] = None,
    set_param: SetParam = None,
    name: Annotated[
        str,
        typer.Option(
            "--name", "-n", help="Name of the experiment; several are counted."
        ),
    ] = "",
    message: Annotated[
        str, typer.Option("--message", "-m", help="Message of its commit.")
    ] = "",
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            "-f",
            help="Make every stage again, known or not, and take over a name that is taken.",
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Say what would be submitted, and submit nothing."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Submit experiments as chains of jobs, with the repository as it is now, and leave.

    What is known is not run again, what runs already is waited for, and stages that
    experiments share run once. Each experiment becomes a DVC experiment of this
    repository when its last result is there.
    """
    # What it makes lives until it ends, soon: looking for garbage took a tenth of its
    # time, for 7 MiB of a hundred.
    gc.disable()
    from mllam_exps.commands import submit as report

    report.submit(
        stages or [],
        set_params=set_param or [],
        name=name,
        message=message,
        force=force,
        dry_run=dry_run,
        as_json=as_json,
    )


@app.command(short_help="List experiments by stages: how far, where, why not.")
def status(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Only these experiments (`*` stands for anything), or stages."
        ),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            "-a",
            help="Of the whole run store, and all that are done, not only the newest.",
        ),
    ] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            "-w",
            help="Keep it fresh until all are over; exit code 1 if any failed.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """List experiments by stages, what runs now, and why something waits or failed, with what goes on from there."""
    from mllam_exps.commands.reading import status as report

    report.show(names or [], everything=everything, as_json=as_json, watch=watch)


@app.command(short_help="Go on with a training, from another experiment's end.")
def resume(
    source: Annotated[
        str,
        typer.Argument(
            metavar="EXP",
            help="An experiment, a git revision, or a checkpoint's path.",
        ),
    ],
    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs",
            min=1,
            help="How many in all, those that are done included; as data/training_params.yaml says if not said.",
        ),
    ] = None,
    cold_start: Annotated[
        bool,
        typer.Option(
            "--cold-start",
            help="Take the weights alone: optimizer and epochs begin anew.",
        ),
    ] = False,
    set_param: SetParam = None,
    name: Annotated[
        str, typer.Option("--name", "-n", help="Name of the new experiment.")
    ] = "",
    queue: Annotated[
        bool, typer.Option("--queue", help="Put it into DVC's queue.")
    ] = False,
    temp: Annotated[
        bool, typer.Option("--temp", help="In a temporary workspace of DVC's.")
    ] = False,
    submit: Annotated[
        bool, typer.Option("--submit", help="Submit it as jobs, and leave.")
    ] = False,
) -> None:
    """Train on from what another experiment's training left: `dvc exp run` with the parameters that say so.

    The parameters are those of the workspace; where they describe another network than
    EXP's, that is refused, with both values.
    """
    from mllam_exps.base.errors import UsageError
    from mllam_exps.commands import resume as resuming
    from mllam_exps.commands import submit as submitting

    if queue + temp + submit > 1:
        raise UsageError("name one of --queue, --temp and --submit", "resume")
    words = resuming.settings(source, epochs, set_param or [], weights_only=cold_start)
    if submit:
        submitting.submit(
            [],
            set_params=words,
            name=name,
            message="",
            force=False,
            dry_run=False,
            as_json=False,
        )
        return
    options = [*(["-n", name] if name else [])]
    options += ["--queue"] if queue else ["--temp"] if temp else []
    resuming.run_by_dvc(words, options)


@app.command(short_help="Print all that is known of an experiment.")
def show(
    name: Annotated[
        str, typer.Argument(metavar="EXP", help="An experiment, as `status` names it.")
    ],
    lineage: Annotated[
        bool,
        typer.Option(
            "--lineage",
            help="Draw the trainings that it goes on from, and those that go on from it, across experiments.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Print an experiment's parameters, scores, checkpoints, logs, and the command that submitted it.

    Of one that `dvc exp run` ran, what its runs tell; its parameters are DVC's to show.
    """
    from mllam_exps.commands.reading import show as report

    report.show(name, as_json=as_json, lineage=lineage)


@app.command(short_help="Write a page by which to choose between experiments.")
def report(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="EXP…", help="Saved experiments with scores; else the workspace."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The page.")
    ] = Path("report.html"),
    reference: Annotated[
        list[str] | None,
        typer.Option(
            "--reference",
            metavar="NAME",
            help="What each is compared with: an experiment, persistence, climatology; may be said again.",
        ),
    ] = None,
) -> None:
    """Write one HTML file: a ranking on common cases, scorecards against references, curves, losses and pictures.

    It needs what the stage `verify` has made. It fetches nothing, and opens from disk.
    """
    from mllam_exps.commands.reading import report as page

    page.report(names or [], out=out, references=reference or [])


@app.command(short_help="Print what differs between two experiments.")
def compare(
    first: Annotated[
        str, typer.Argument(metavar="EXP1", help="A saved experiment, or a revision.")
    ],
    second: Annotated[
        str, typer.Argument(metavar="EXP2", help="Another; else the workspace.")
    ] = "workspace",
    as_json: Json = False,
) -> None:
    """Print what differs between two experiments: parameters, scores, inputs, versions, files, machine and user."""
    from mllam_exps.commands.reading import compare as report

    report.compare(first, second, as_json=as_json)


@app.command()
def logs(
    name: Annotated[
        str,
        typer.Argument(
            metavar="EXP|STAGE|KEY",
            help="An experiment, a stage, or a run key's beginning.",
        ),
    ],
    stage: Annotated[
        str | None,
        typer.Argument(help="Which of the experiment's stages; `save` is the last."),
    ] = None,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow", "-f", help="Go on as the log grows, until the run ends."
        ),
    ] = False,
    attempt: Annotated[
        int | None,
        typer.Option("--attempt", "-n", help="Which attempt; the newest if not said."),
    ] = None,
    lines: Annotated[
        int | None,
        typer.Option("--lines", min=1, help="Only so many lines from the end."),
    ] = None,
) -> None:
    """Print the log of an experiment, or of a stage: of its newest attempt."""
    from mllam_exps.commands.reading import logs as report

    report.show(name, stage, follow=follow, number=attempt, lines=lines)


@app.command(short_help="Say in words what makes a stage stale.")
def why(
    stage: Annotated[str, typer.Argument(help="A stage of dvc.yaml.")],
    as_json: Json = False,
) -> None:
    """Say in words what makes a stage stale, and what would happen if it ran now."""
    from mllam_exps.commands.reading import why as report

    report.show(stage, as_json=as_json)


@app.command(short_help="Stop experiments; runs that others wait for go on.")
def cancel(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="EXP|STAGE|KEY…",
            help="Submitted experiments (`*` stands for anything), a stage, or a run key's beginning.",
        ),
    ],
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Even if somebody waits for the run.")
    ] = False,
) -> None:
    """Stop submitted experiments, or a run that goes on without a waiting command. Checkpoints stay."""
    from mllam_exps.commands import cancel as report

    report.cancel(names, force=force)


@app.command(short_help="Submit again what failed, and what hung on it.")
def retry(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="EXP…", help="Submitted experiments (`*` stands for anything)."
        ),
    ] = None,
    failed: Annotated[
        bool,
        typer.Option(
            "--failed",
            help="Only those of them that failed; if none is named, all of this repository.",
        ),
    ] = False,
) -> None:
    """Submit again what failed or was cancelled, and what hung on it. A training goes on from its newest checkpoint.

    Files are as they were when it was submitted, but for machine files: what was mended
    since is for `submit`.
    """
    from mllam_exps.commands import retry as report

    report.retry(names or [], failed=failed)


@app.command(short_help="Submit what waits in the run store, if it fits now.")
def advance(
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            "-w",
            help="Again and again, until nothing waits any more.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Submit what waits in the run store, and fits now.

    That is what `max_jobs` or the cluster had no room for, and what a submitter left
    behind that was killed.
    The jobs do so when they end; this is for sites whose nodes may not submit, and for
    cron. It prints nothing but warnings where it is not typed on a terminal. Exit
    codes: 0 nothing waits any more, 1 something cannot be gone on with, 3 the scheduler
    could not be asked, 75 something still waits.
    """
    from mllam_exps.commands import advance as report

    report.advance(watch=watch, as_json=as_json)


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
    from mllam_exps.commands import clean as report

    report.clean(
        names or [],
        failed=failed,
        older_than=older_than,
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
    )


@app.command(short_help="Read every file of results: is it what was made?")
def verify(
    names: OnlyThese = None,
    as_json: Json = False,
) -> None:
    """Read every file of results, in the run store and in DVC's cache, and say what is damaged, and who needs it.

    A damaged result is set aside, so that it can be made again; exit code 1. What is
    given to another run or to a workspace is compared anyway: small files by reading
    them, large ones by their size, time and inode.
    """
    from mllam_exps.commands.reading import verify as report

    report.verify(names or [], as_json=as_json)


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
    from mllam_exps.commands import track

    track.sync(names or [], as_json=as_json)


Words = Annotated[
    list[str],
    typer.Argument(
        metavar="EXP… [PATH]",
        help="Experiments; then a git remote or its path, else the remote `share`.",
    ),
]
DvcRemote = Annotated[
    str,
    typer.Option(
        "--remote",
        "-r",
        metavar="NAME",
        help="DVC's remote; else the one at PATH, or the default one.",
    ),
]
Replace = Annotated[
    bool,
    typer.Option("--force", "-f", help="Replace another experiment of that name."),
]


@app.command(short_help="Send experiments, and all that they need, to a team's folder.")
def push(
    words: Words, remote: DvcRemote = "", force: Replace = False, as_json: Json = False
) -> None:
    """Send experiments to a git repository, and all data that they need to a DVC remote.

    As dvc exp push does. The data go first; each object is looked for in the remote,
    before and after. Said again, it goes on where it was stopped.
    """
    from mllam_exps.commands import exchange

    exchange.push(words, remote=remote, force=force, as_json=as_json)


@app.command(short_help="Fetch experiments, and all that they need.")
def pull(
    words: Words, remote: DvcRemote = "", force: Replace = False, as_json: Json = False
) -> None:
    """Fetch experiments from a git repository, and all data that they need from a DVC remote; run nothing."""
    from mllam_exps.commands import exchange

    exchange.pull(words, remote=remote, force=force, as_json=as_json)


@share_app.command("init", short_help="Make a share for a group.")
def share_init(
    path: Annotated[
        Path,
        typer.Argument(metavar="PATH", readable=False, help="A folder of its own."),
    ],
    group: Annotated[
        str, typer.Option("--group", metavar="GROUP", help="The team's Unix group.")
    ],
    dry_run: DryRun = False,
) -> None:
    """Make a folder in which a Unix group has DVC's cache, a DVC remote, the run store and a git repository in common.

    It is closed to others. Said again, it does what is left to do. In a clone it does
    what `mllam-exps share join PATH` does, too.
    """
    from mllam_exps.commands import share

    share.init(path, group, dry_run=dry_run)


@share_app.command("join", short_help="Let this clone use a share.")
def share_join(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", readable=False, help="The share.")
    ],
    dry_run: DryRun = False,
) -> None:
    """Let the clone of the current directory use a share: its settings are in .dvc/config.local, which git ignores."""
    from mllam_exps.commands import share

    share.join(path, dry_run=dry_run)


@share_app.command(
    "check", short_help="Find what would lock a member out, or let others in."
)
def share_check(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATH | EXP…]",
            help="A share, else this clone's; or experiments: could a colleague have them today?",
        ),
    ] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what is yours.")] = False,
    as_json: Json = False,
) -> None:
    """Find wrong groups and rights in a share, and damaged objects of its cache; say who has to mend them.

    Of an experiment: whether the share has it, and each object of its data. Exit code 1
    where anything is wrong.
    """
    from mllam_exps.commands import share

    if words and not Path(words[0]).is_dir():
        share.check_experiments(words, as_json=as_json)
    else:
        share.check(Path(words[0]) if words else None, fix=fix, as_json=as_json)


@app.command(short_help="Print this workspace's scores, beside persistence.")
def scores(as_json: Json = False) -> None:
    """Print the scores of this workspace's experiment, beside persistence, and where its pictures are."""
    from mllam_exps.commands.reading import scores as report

    report.show(as_json=as_json)


@app.command(short_help="Check environment, machine and parameters; start nothing.")
def check() -> None:
    """Check the environment, the machine file and every parameter, and start nothing."""
    from mllam_exps.commands import check as report

    report.show()


@app.command(short_help="Find what would stop you, before the first job.")
def doctor(as_json: Json = False) -> None:
    """Look at git, environment, cache, run store, remote, locks, share, tracking, secrets and jobs: a line each.

    With the command that mends it. Exit code 2 where something would stop you. Nothing
    is started, and no secret is read.
    """
    from mllam_exps.commands import doctor as report

    report.examine(as_json=as_json)


@app.command(short_help="Run the pipeline on one batch and one epoch.")
def smoke() -> None:
    """Run the whole pipeline on one batch and one epoch, before a long job. The workspace stays as it is."""
    from mllam_exps.commands import smoke as smoking

    smoking.smoke()


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
            help="A stage beside the example's: infer, which keeps forecasts; verify, which scores those of infer.",
        ),
    ] = None,
) -> None:
    """Start an experiment repository of one's own from an example: git, DVC, parameters, machine files."""
    from mllam_exps.commands import init as starting

    made = starting.init(directory, example, more or [])
    typer.echo(f"{made} starts from {example}: see its README.md; then")
    typer.echo(f"  cd {shlex.quote(str(made))} && mllam-exps check && dvc exp run")


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
    from mllam_exps.commands import machine as report

    report.show(name, script=script, as_json=as_json)


@machine_app.command("list", short_help="List the machines of this repository.")
def machine_list() -> None:
    """List the machines of this repository; the one that would be used is marked."""
    from mllam_exps.commands import machine as report

    report.show_all()


def _no_text(error: UnicodeEncodeError) -> MllamError:
    """Say which name or value this locale cannot say: a file's, or a word that was typed."""
    signs = ascii(error.object[error.start : error.end])
    what = f"{signs} in a name or value cannot be written in this locale ({error.encoding})"
    return MllamError(what, next="export LC_ALL=C.UTF-8, or use another one")


def main() -> None:
    """Run the command line; errors that a user can act on are printed without a traceback."""
    keep_others_out()
    special_files.guard()
    print_anything()
    try:
        app()
    except MllamError as error:
        warn(f"error: {error}" if error.exit is not Exit.OK else str(error))
        raise SystemExit(int(error.exit)) from None
    except KeyboardInterrupt:
        warn("interrupted")
        raise SystemExit(int(Exit.INTERRUPTED)) from None
    except UnicodeEncodeError as error:
        warn(f"error: {_no_text(error)}")
        raise SystemExit(int(Exit.FAILED)) from None
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            # `mllam-exps logs | head`: nobody listens any more, which is no error.
            sys.stderr.close()
            raise SystemExit(0) from None
        from mllam_exps.base.endings.reasons import of_os_error

        warn(f"error: {of_os_error(error)}")
        if isinstance(error, PermissionError):
            warn(
                "  → have its owner let you in; in a team's share: mllam-exps share check"
            )
        raise SystemExit(int(Exit.FAILED)) from None


if __name__ == "__main__":
    main()
