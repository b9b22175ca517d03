"""``mllam-exps retry``: submits again what failed, and what hung on it."""

from __future__ import annotations

from mllam_exps import chain, checks, experiments, schedulers
from mllam_exps.assess import RunState, assess
from mllam_exps.chain import Chain
from mllam_exps.errors import MllamError, UsageError
from mllam_exps.experiments import Experiment
from mllam_exps.locks import lock
from mllam_exps.pipeline import VERSIONS_FILE
from mllam_exps.report.here import Here
from mllam_exps.room import Room


def retry(names: list[str], *, failed: bool) -> None:
    """Submit again, in the clones that were made when they were submitted; a training goes on from its checkpoint."""
    here = Here.open()
    wanted = [experiment for name in names for experiment in here.matching(name) or [here.submitted(name)]]
    if failed:
        mine = [e for e in experiments.of_store(here.store) if e.is_mine and e.origin == str(here.workspace.origin)]
        wanted += [e for e in mine if assess(e.saving).state in {RunState.FAILED, RunState.LOST} and e not in wanted]
    if not wanted:
        what = "no experiment has failed" if failed else "no experiment is named"
        raise UsageError(what, next="mllam-exps status" if failed else "mllam-exps retry EXP, or --failed")
    for experiment in wanted:
        _refuse(experiment)
    rooms: dict[str, Room] = {}
    with lock(here.store, "dispatch", wait=True):
        for experiment in wanted:
            print(f"{experiment.name}: {_retry(experiment, rooms)}")
    here.dispatch()


def _refuse(experiment: Experiment) -> None:
    """Refuse what cannot be gone on with, before anything is submitted."""
    if not experiment.is_mine:
        way_out = "mllam-exps submit the same: what is done is shared"
        raise UsageError("is not yours", experiment.name, f"{experiment.user} submitted it", way_out)
    if assess(experiment.saving).state is RunState.DONE:
        raise UsageError("is done", experiment.name, next=f"dvc exp apply {experiment.name}")
    machine = chain.machine_of(experiment)
    checks.check_environment(machine, chain.workspace_of(experiment).origin)
    if not experiment.root.is_dir():
        raise UsageError("its clone is gone", experiment.name, next="mllam-exps submit it again")
    now, _ = checks.versions_text(chain.workspace_of(experiment), machine)
    if (experiment.root / VERSIONS_FILE).read_text(encoding="utf-8") != now:
        why = "it was submitted with other versions of the programs, and with these its results would be others"
        raise UsageError("cannot go on", experiment.name, why, "mllam-exps submit it again")


def _retry(experiment: Experiment, rooms: dict[str, Room]) -> str:
    machine = chain.machine_of(experiment)
    scheduler = schedulers.get(machine.scheduler, experiment.store.directory)
    mine = Chain(experiment, machine, rooms.setdefault(machine.name, Room(machine, scheduler)))
    try:
        standing = mine.advance(again=True)
        mine.follow(standing)
    except MllamError as error:
        return str(error)
    if standing.started:
        return f"{', '.join(standing.started)} submitted" + (f"; {standing.waits}" if standing.waits else "")
    return standing.waits or ("its results are there, and are being saved" if standing.done else "goes on")
