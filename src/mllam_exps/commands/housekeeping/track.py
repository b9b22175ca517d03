"""``mllam-exps track sync``: sends what runs have kept for MLflow or wandb."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict

from mllam_exps.attempts import tracked, unsent
from mllam_exps.attempts.tracked import Synced
from mllam_exps.base.errors import MllamError
from mllam_exps.base.terminal import say
from mllam_exps.runs.store import Run
from mllam_exps.views.context import Context


def sync(names: list[str], *, as_json: bool) -> None:
    """Send what the runs of experiments have kept; of all runs in the store if none is named.

    Raises
    ------
    MllamError
        If something is left.
    """
    here = Context.open()
    runs = _of(here, names) if names else unsent.runs(here.store)
    done = list(_sync(here, runs))
    if as_json:
        print(json.dumps([asdict(one) for one in done], indent=1))
    else:
        _tell(done)
    left = [one for one in done if one.left]
    if left:
        what = "1 run has" if len(left) == 1 else f"{len(left)} runs have"
        raise MllamError(
            f"{what} points that are not sent",
            why=left[0].left,
            next="mllam-exps track sync, again later",
        )


def _tell(done: list[Synced]) -> None:
    """Say what was sent of each run, and what is left."""
    if not done:
        say("nothing is left to send")
    for one in done:
        told = f", and the rest is kept: {one.left}" if one.left else ""
        say(f"{one.run}: {one.sent} values and files sent{told}")


def _of(here: Context, names: list[str]) -> list[Run]:
    runs: dict[str, Run] = {}
    for experiments, others in here.meant(names):
        for by_stage in (others, *(one.runs for one in experiments)):
            runs |= {run.key: run for run in by_stage.values()}
    return list(runs.values())


def _sync(here: Context, runs: Iterable[Run]) -> Iterator[Synced]:
    start = tracked.in_environment_of(here.machine, here.workspace.root)
    for run in runs:
        if done := tracked.sync(run, start):
            yield done
