"""``mllam-exps check``: everything that is looked at before anything starts, and nothing started."""

from __future__ import annotations

from mllam_exps import checks, params, submit
from mllam_exps.definition import VERSIONS_FILE
from mllam_exps.dvc_index import open_repo
from mllam_exps.planning import Planner
from mllam_exps.report.here import Here
from mllam_exps.store import RunStore
from mllam_exps.sweeps import Variant
from mllam_exps.terminal import say, warn
from mllam_exps.workspace import leftovers


def show() -> None:
    """Plan what `submit` would, with all its checks; say what was checked."""
    here = Here.open()
    workspace, machine = here.workspace, here.machine
    checks.check_environment(machine, workspace.origin)
    repo = open_repo(workspace.root)
    store = RunStore(workspace.store_directory(machine, repo))
    with Planner(workspace, machine, repo, store, (), [], "") as planner:
        [plan] = planner.plan([Variant({}, "")])
        submit.check(planner, [plan], known_too=True)
        versions = params.read_yaml(plan.root / VERSIONS_FILE, VERSIONS_FILE)
        notes = [*planner.notes, *leftovers(workspace.root)]
    for note in notes:
        warn(f"note: {note}")
    programs = sum(key != "archives" for key in versions)
    what = f"machine {machine.name}, {programs} programs in {machine.venv}, parameters, stages, inputs, sources"
    say(f"{what}: all fine")
