"""``mllam-exps check``: everything that is looked at before anything starts, and nothing started."""

from __future__ import annotations

from mllam_exps.base import yaml_files
from mllam_exps.base.terminal import say, warn
from mllam_exps.dvc.parameters.overrides import Variant
from mllam_exps.dvc.repository import Repository
from mllam_exps.identity.definition import VERSIONS_FILE
from mllam_exps.machines.workspace import leftovers, refuse_other_stages
from mllam_exps.preflight import checks
from mllam_exps.preflight.here import Here
from mllam_exps.submission import submit
from mllam_exps.submission.planning import Planner
from mllam_exps.views.context import Context


def show() -> None:
    """Plan what `submit` would, with all its checks; say what was checked."""
    here = Context.open()
    workspace, machine = here.workspace, here.machine
    refuse_other_stages(workspace.root)
    checks.check_environment(machine, workspace.origin)
    repo = Repository.open(workspace.root)
    with Planner(Here.of(workspace, machine, repo)) as planner:
        [plan] = planner.plan([Variant({}, "")])
        submit.check(planner, [plan], known_too=True)
        versions = yaml_files.read(plan.versions_file, VERSIONS_FILE)
        notes = [*planner.notes, *leftovers(workspace.root)]
    for note in notes:
        warn(f"note: {note}")
    programs = sum(key != "archives" for key in versions)
    what = f"machine {machine.name}, {programs} programs in {machine.programs}, parameters, stages, inputs, sources"
    say(f"{what}: all fine")
