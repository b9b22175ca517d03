"""``mllam-exps check``: everything that is looked at before anything starts, and nothing started."""

from __future__ import annotations

import sys

from mllam_exps import checks
from mllam_exps.report.here import Here
from mllam_exps.workspace import leftovers


def show() -> None:
    """Check, and say what was checked."""
    here = Here.open()
    checks.check_environment(here.machine, here.workspace.origin)
    checks.check_parameters(here.workspace, here.machine)
    checks.check_projection(here.workspace, here.machine)
    for note in checks.check_jobs(here.workspace, here.machine):
        print(f"note: {note}", file=sys.stderr)
    text, notes = checks.versions_text(here.workspace, here.machine)
    if "prepare_dataset" in here.pipeline.stage_names:
        inputs = here.pipeline.definition("prepare_dataset").inputs
        notes += checks.check_sources(here.workspace, here.machine, inputs)
    for note in [*notes, *leftovers(here.workspace.root)]:
        print(f"note: {note}", file=sys.stderr)
    programs = sum(not line.startswith(("#", " ")) for line in text.splitlines())
    print(f"machine {here.machine.name}, {programs} programs in {here.machine.venv}, parameters, sources: all fine")
