"""Commands that read. They change nothing unasked; `verify` alone sets aside what it finds damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mllam_exps.cli.options import Json, OnlyThese, app


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
    from mllam_exps.commands.reading import status as status_command

    status_command.show(
        names or [], everything=everything, as_json=as_json, watch=watch
    )


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
    from mllam_exps.commands.reading import show as show_command

    show_command.show(name, as_json=as_json, lineage=lineage)


@app.command(short_help="Write a page by which to choose between experiments.")
def report(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="EXP…",
            help="Saved experiments with scores, or patterns ('wide-*'); else the workspace.",
        ),
    ] = None,
    *,
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
    png: Annotated[
        Path | None,
        typer.Option(
            "--png", metavar="FOLDER", help="Its figures for a paper, too, a file each."
        ),
    ] = None,
    pdf: Annotated[
        Path | None,
        typer.Option("--pdf", metavar="FOLDER", help="The same as PDF."),
    ] = None,
    mlflow: Annotated[
        bool,
        typer.Option(
            "--mlflow", help="Add the page to the experiment's run in MLflow."
        ),
    ] = False,
    here: Annotated[
        bool,
        typer.Option(
            "--here", help="Of the files of this folder alone: for a stage of dvc.yaml."
        ),
    ] = False,
) -> None:
    """Write one HTML file: a ranking on common cases, scorecards against references, curves, losses and pictures.

    It needs what the stage `verify` has made. It fetches nothing, and opens from disk.
    """
    from mllam_exps.commands.reading import report as page

    page.report(
        names or [],
        out=out,
        references=reference or [],
        figures={"png": png, "pdf": pdf},
        in_mlflow=mlflow,
        here=here,
    )


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
    from mllam_exps.commands.reading import compare as compare_command

    compare_command.compare(first, second, as_json=as_json)


@app.command(short_help="Print the log of an experiment, or of a stage.")
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
    from mllam_exps.commands.reading import logs as logs_command

    logs_command.show(name, stage, follow=follow, number=attempt, lines=lines)


@app.command(short_help="Say in words what makes a stage stale.")
def why(
    stage: Annotated[str, typer.Argument(help="A stage of dvc.yaml.")],
    as_json: Json = False,
) -> None:
    """Say in words what makes a stage stale, and what would happen if it ran now."""
    from mllam_exps.commands.reading import why as why_command

    why_command.show(stage, as_json=as_json)


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
    from mllam_exps.commands.reading import verify as verify_command

    verify_command.verify(names or [], as_json=as_json)


@app.command(short_help="Print this workspace's scores, beside persistence.")
def scores(as_json: Json = False) -> None:
    """Print the scores of this workspace's experiment, beside persistence, and where its pictures are."""
    from mllam_exps.commands.reading import scores as scores_command

    scores_command.show(as_json=as_json)
