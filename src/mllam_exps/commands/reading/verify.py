"""``mllam-exps verify``: reads every file of results, and says what is damaged, and who needs it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mllam_exps.base.errors import MllamError, some_of
from mllam_exps.dvc.repository import Repository
from mllam_exps.runs.store import Run
from mllam_exps.submission import damage, experiments
from mllam_exps.submission.applying import BROUGHT_BACK
from mllam_exps.submission.damage import FoundDamage, Verifier
from mllam_exps.submission.experiment import Experiment
from mllam_exps.views.context import Context


def verify(names: list[str], *, as_json: bool) -> None:
    """Verify the results of experiments; all of the run store if none is named.

    Raises
    ------
    MllamError
        If anything is damaged.
    """
    here = Context.open()
    chosen, runs = _chosen(here, names)
    cache = Repository.open(here.workspace.root).cache
    verifier = Verifier(here.store, cache, origin=str(here.workspace.origin))
    with _progress(verifier.size(runs)) as verifier.tell:
        found = verifier.verify(runs)
        for experiment in chosen:
            verifier.verify_known(experiment)
    if as_json:
        print(json.dumps(found.to_record(), indent=1))
    else:
        _print(found)
    if found.damaged:
        number = len(found.damaged)
        files = "1 file is" if number == 1 else f"{number} files are"
        raise MllamError(f"{files} damaged")


def _chosen(here: Context, names: list[str]) -> tuple[list[Experiment], list[Run]]:
    if not names:
        return list(experiments.of_store(here.store)), list(here.store.runs())
    chosen: dict[str, Experiment] = {}
    runs: dict[str, Run] = {}
    for found, others in here.meant(names):
        runs |= {run.key: run for run in others.values()}
        chosen |= {one.identity: one for one in found}
    runs |= {run.key: run for run in damage.runs_of(here.store, chosen.values())}
    return list(chosen.values()), list(runs.values())


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Show how far it is, on a terminal."""
    if not sys.stderr.isatty():
        yield lambda _bytes: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    columns = ("reading", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda size: bar.advance(task, size)


def _print(found: FoundDamage) -> None:
    for one in found.damaged:
        print(f"{one.file} {one.what}")
        needed = f"needed by {', '.join(one.experiments) or 'no experiment'}"
        made = f"made by {one.stage} ({one.run})"
        print(f"  in {one.place}, {made}, {needed}: {one.done}")
        if one.next:
            print(f"  → {one.next}")
    if back := found.brought_back:
        print(f"{some_of(back)}: {BROUGHT_BACK}")
    results = "1 result" if found.results == 1 else f"{found.results} results"
    told = "" if found.damaged else ": all is what was made"
    print(f"read {found.files} files, {found.bytes / 1e6:.1f} MB, of {results}{told}")
