"""Commands that start, stop and go on with work."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Annotated

import typer

from mllam_exps.base.errors import UsageError
from mllam_exps.cli.options import Json, SetParam, app

# ruff: noqa: PLR0917 - typer makes options of parameters


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
    from mllam_exps.commands.running import run as running

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
    from mllam_exps.commands.running import submit as submit_command

    submit_command.submit(
        stages or [],
        set_params=set_param or [],
        name=name,
        message=message,
        force=force,
        dry_run=dry_run,
        as_json=as_json,
    )


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
    from mllam_exps.commands.running import resume as resuming
    from mllam_exps.commands.running import submit as submitting

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
    from mllam_exps.commands.running import cancel as cancel_command

    cancel_command.cancel(names, force=force)


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
            help="Only those of them that failed, and not with NaN; if none is named, all of this repository.",
        ),
    ] = False,
) -> None:
    """Submit again what failed or was cancelled, and what hung on it. A training goes on from its newest checkpoint.

    Files are as they were when it was submitted, but for machine files: what was mended
    since is for `submit`.
    """
    from mllam_exps.commands.running import retry as retry_command

    retry_command.retry(names or [], failed=failed)


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
    from mllam_exps.commands.running import advance as advance_command

    advance_command.advance(watch=watch, as_json=as_json)


@app.command(short_help="Forecast from new input with a saved experiment.")
def infer(
    inputs: Annotated[
        list[str],
        typer.Option(
            "--input", help="The new archive: FILE, or NAME=FILE for one of the inputs."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The zarr that is made.")
    ],
    name: Annotated[
        str, typer.Argument(metavar="EXP", help="An experiment, or a revision.")
    ] = "",
    folder: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FOLDER",
            help="Instead of EXP: what `mllam-exps export EXP --inference` wrote. No repository is needed then.",
        ),
    ] = None,
    starts: Annotated[
        list[str] | None,
        typer.Option("--start", help="An initial time; all, if none is given."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Steps of each forecast.")
    ] = None,
    any_versions: Annotated[
        bool,
        typer.Option(
            "--other-versions",
            help="With --from: go on with other programs than the folder is for.",
        ),
    ] = False,
) -> None:
    """Make forecasts of a saved experiment from input that it has not seen, here and now, without its training data.

    Its model, its graph and the statistics of its dataset are fetched, where they are
    not here. With --from they lie in a folder, and neither git nor DVC is needed.
    """
    from mllam_exps.commands.running import infer as inferring

    if bool(name) == (folder is not None):
        raise UsageError("name either an experiment or --from FOLDER", "infer")
    if any_versions and folder is None:
        raise UsageError("--other-versions goes with --from FOLDER", "infer")
    told = inputs, output, starts or [], steps
    if folder is None:
        inferring.infer(name, *told)
    else:
        inferring.infer_from(folder, *told, any_versions=any_versions)


@app.command(short_help="Run the pipeline on one batch and one epoch.")
def smoke() -> None:
    """Run the whole pipeline on one batch and one epoch, before a long job. The workspace stays as it is."""
    from mllam_exps.commands.running import smoke as smoking

    smoking.smoke()
