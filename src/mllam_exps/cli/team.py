"""Commands of a team: what it has in common, and what goes to it and comes from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mllam_exps.base.errors import UsageError
from mllam_exps.cli.options import DryRun, Json, app, share_app

Words = Annotated[
    list[str],
    typer.Argument(
        metavar="EXP… [PATH]",
        help="Experiments, or patterns ('wide-*'); then a git remote or its path, else the remote `share`.",
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
    from mllam_exps.commands.team import exchange

    exchange.push(words, remote=remote, force=force, as_json=as_json)


@app.command(short_help="Fetch experiments, and all that they need.")
def pull(
    words: Words, remote: DvcRemote = "", force: Replace = False, as_json: Json = False
) -> None:
    """Fetch experiments from a git repository, and all data that they need from a DVC remote; run nothing."""
    from mllam_exps.commands.team import exchange

    exchange.pull(words, remote=remote, force=force, as_json=as_json)


@app.command(short_help="Write an experiment as an RO-Crate, for others and for a DOI.")
def export(
    name: Annotated[str, typer.Argument(metavar="EXP", help="A saved experiment.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="PATH",
            help="A folder, or a file that ends with .zip; else EXP.crate, or EXP.inference.",
        ),
    ] = None,
    inference: Annotated[
        bool,
        typer.Option(
            "--inference",
            help="Instead: a folder from which `mllam-exps infer --from` forecasts.",
        ),
    ] = False,
    largest: Annotated[
        float | None,
        typer.Option(
            metavar="GB",
            min=0,
            help="Inputs and outputs that are larger are named, and not in it; 1 if nothing is said.",
        ),
    ] = None,
    licence: Annotated[
        str,
        typer.Option(
            "--license",
            metavar="SPDX",
            help="CC-BY-4.0, say; else what CITATION.cff says.",
        ),
    ] = "",
) -> None:
    """Write a saved experiment as a Workflow Run RO-Crate: the files of its commit, its data, and what made them.

    Others read it without DVC, git or mllam-exps; Zenodo and WorkflowHub take it. It
    says who ran which stage with which parameters and programs, and when.
    """
    from mllam_exps.commands.team import export as exporting

    if not inference:
        most = exporting.LARGEST if largest is None else largest
        exporting.export(name, out=out, largest=most, licence=licence)
    elif largest is None:
        exporting.for_inference(name, out=out, licence=licence)
    else:
        what = "--largest is of a crate: --inference takes what a forecast needs"
        raise UsageError(what, "export")


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
    from mllam_exps.commands.team import share

    share.init(path, group, dry_run=dry_run)


@share_app.command("join", short_help="Let this clone use a share.")
def share_join(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", readable=False, help="The share.")
    ],
    dry_run: DryRun = False,
) -> None:
    """Let the clone of the current directory use a share: its settings are in .dvc/config.local, which git ignores."""
    from mllam_exps.commands.team import share

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
    """Find wrong groups and rights in a share, damaged objects of its cache, and links of this clone to what is gone.

    It says who has to mend them.

    Of an experiment: whether the share has it, and each object of its data. Exit code 1
    where anything is wrong.
    """
    from mllam_exps.commands.team import share

    if words and not Path(words[0]).is_dir():
        share.check_experiments(words, as_json=as_json)
    else:
        share.check(Path(words[0]) if words else None, fix=fix, as_json=as_json)


@share_app.command("gc", short_help="Take away what nobody in the team needs.")
def share_gc(
    path: Annotated[
        Path | None,
        typer.Argument(metavar="[PATH]", readable=False, help="Else this clone's."),
    ] = None,
    *,
    older_than: Annotated[
        str,
        typer.Option(
            "--older-than", metavar="AGE", help="Leave what came later: 30d, 12h, 2w."
        ),
    ] = "14d",
    without: Annotated[
        list[str] | None,
        typer.Option(
            "--without",
            metavar="CLONE",
            help="A clone, or a user, that is gone and needs nothing.",
        ),
    ] = None,
    now: Annotated[
        bool, typer.Option("--now", help="Delete it at once: there is no way back.")
    ] = False,
    restore: Annotated[
        bool, typer.Option("--restore", help="Bring back all that was set aside.")
    ] = False,
    dry_run: DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    as_json: Json = False,
) -> None:
    """Say who has how much in a share and who needs it, and take away what nobody needs.

    Needed is what any commit of the share or of a member's clone names in dvc.lock or a
    .dvc file, what lies in their workspaces, and what is at work. A clone says what it
    needs when its owner types share join or gc, submit, push or pull. What nobody needs is set
    aside for 14 days, and deleted by the next share gc after that; what turns out to be
    needed comes back.
    """
    from mllam_exps.commands.team import collect

    collect.collect(
        path,
        older_than=older_than,
        without=without or [],
        at_once=now,
        restore=restore,
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
    )


@app.command(
    "list",
    short_help="Find everybody's experiments, by what they hold.",
)
def list_(
    query: Annotated[
        str,
        typer.Argument(
            metavar="['QUERY']",
            help="NAME=VALUE, with = != < <= > >= ~ (holds; or * as in file names) !~, and, or, not, ( ).",
        ),
    ] = "",
    *,
    sort: Annotated[
        str,
        typer.Option(
            "--sort", "-s", metavar="NAME", help="The least first; of dates the newest."
        ),
    ] = "date",
    turned: Annotated[
        bool, typer.Option("--reverse", "-r", help="The other way round.")
    ] = False,
    columns: Annotated[
        str,
        typer.Option(
            "--columns",
            "-c",
            metavar="NAME,…",
            help="Which columns; else those that were asked for, and in which experiments differ, as many as fit.",
        ),
    ] = "",
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            "-n",
            min=0,
            help="How many experiments at most; 0: all. Else 50 in a table, and all as JSON.",
        ),
    ] = None,
    names: Annotated[
        bool, typer.Option("--names", help="Print the names that a query may have.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the experiments of the team's run store and share, and of this clone: everybody's, running ones too.

    mllam-exps list 'hidden_dim>=8 and rmse.msl.24h<1500' --sort rmse.msl.24h

    mllam-exps list 'person=lena and date>=2026-11-01 and not tag=bad'

    A NAME is a parameter, version or score, shortened as long as it means one only
    (hidden_dim for data/training_params.yaml:hidden_dim), or one of: name, person,
    state, date, tag, note, parent, data, commit, machine, origin. What has no value
    fits no comparison but =null.

    dvc exp show and dvc exp list look at one clone, and parameters there are what files
    say; here they are those that results were made with, of all who share the store.
    """
    from mllam_exps.commands.team import listing

    if names:
        listing.show_names()
        return
    listing.show(
        query, sort=sort, turned=turned, columns=columns, limit=limit, as_json=as_json
    )


@app.command(short_help="Take a dataset, graph or training that was made by hand.")
def adopt(
    stage: Annotated[
        str,
        typer.Argument(
            metavar="STAGE", help="The stage of dvc.yaml that would have made it."
        ),
    ],
    place: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="It, or a folder in which the stage's outputs lie as in a repository.",
        ),
    ],
    force: Annotated[
        bool,
        typer.Option(
            "--force", "-f", help="Replace what the workspace has in its place."
        ),
    ] = False,
) -> None:
    """Take what was made by hand for what a stage makes, if it passes the stage's own check; copy it into DVC's cache.

    adopted.yaml says where it came from, and who took it over: each experiment that
    uses it is shown with that, for ever. A checkpoint alone is gone on from with
    resume_from in params.yaml.
    """
    from mllam_exps.commands.team import adopt as adopt_command

    adopt_command.adopt(stage, place, force=force)


@app.command(short_help="Put words on experiments, which the team sees.")
def tag(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="EXP… TAG…",
            help="Experiments (`*` stands for anything; or a commit), then tags.",
        ),
    ],
    remove: Annotated[
        bool, typer.Option("--remove", help="Take your own tags away.")
    ] = False,
) -> None:
    """Put tags on experiments. They lie in the run store, with who and when, and no result depends on them."""
    from mllam_exps.commands.team import marks

    marks.tag(words, remove=remove)


@app.command(short_help="Write a note on an experiment, which the team sees.")
def note(
    name: Annotated[str, typer.Argument(metavar="EXP", help="An experiment.")],
    text: Annotated[
        str,
        typer.Argument(metavar="['TEXT']", help="Without it the notes are printed."),
    ] = "",
    remove: Annotated[
        bool, typer.Option("--remove", help="Take your own notes away.")
    ] = False,
) -> None:
    """Write a note on an experiment. It lies in the run store, with who and when, and no result depends on it."""
    from mllam_exps.commands.team import marks

    marks.note(name, text, remove=remove)
