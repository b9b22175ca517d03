"""``mllam-exps status``: the runs of the store, in one table."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from mllam_exps.assess import Assessment, RunState, assess
from mllam_exps.errors import UsageError
from mllam_exps.report.here import Here
from mllam_exps.store import Run
from mllam_exps.watch import describe, duration
from mllam_exps.workspace import leftovers

COLOURS = {
    RunState.DONE: "green",
    RunState.RUNNING: "cyan",
    RunState.STARTING: "cyan",
    RunState.PENDING: "yellow",
    RunState.CANCELLED: "yellow",
    RunState.FAILED: "red",
    RunState.LOST: "red",
    RunState.UNKNOWN: "magenta",
}
RECENT_SECONDS = 7 * 24 * 3600.0


def record(run: Run, now: Assessment) -> dict[str, Any]:
    """Return what is known of a run, JSON-able."""
    attempt = now.attempt
    claim = (attempt.claim or {}) if attempt else {}
    end = (attempt.end or {}) if attempt else {}
    begun = claim.get("time")
    return {
        "key": run.key,
        "stage": run.stage,
        "smoke": bool((run.definition or {}).get("smoke")),
        "state": str(now.state),
        "reason": now.reason.partition("\n")[0],
        "next": now.reason.partition("\n  → ")[2],
        "experiment": claim.get("experiment"),
        "attempts": attempt.number if attempt else 0,
        "scheduler": claim.get("scheduler"),
        "started": begun,
        "ended": end.get("time"),
        "progress": attempt.progress if attempt and now.state is RunState.RUNNING else None,
        "log": str(attempt.log) if attempt else None,
    }


def show(stages: list[str], *, everything: bool, as_json: bool) -> None:
    """Print the runs, newest last; finished ones older than a week only with `everything`."""
    here = Here.open()
    known = {r.stage for r in here.store.runs()}
    for name in stages:
        if name not in known:
            raise UsageError(f"no run of a stage {name!r}", str(here.store.directory), next="mllam-exps status --all")
    runs = [r for r in here.store.runs() if not stages or r.stage in stages]
    found = [(run, assess(run)) for run in runs]
    records = [(record(run, now), now) for run, now in found]
    records.sort(key=lambda pair: pair[0]["started"] or 0.0)
    if not everything:
        since = time.time() - RECENT_SECONDS
        records = [p for p in records if p[1].state is not RunState.DONE or (p[0]["ended"] or since) >= since]
    if as_json:
        print(json.dumps([r for r, _ in records], indent=1))
        return
    for line in leftovers(here.workspace.root):
        print(f"note: {line}", file=sys.stderr)
    if not records:
        print(f"no runs in {here.store.directory}; `dvc exp run` starts some", file=sys.stderr)
        return
    _print_table(records)


def _print_table(records: list[tuple[dict[str, Any], Assessment]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("stage", "experiment", "key", "state"):
        table.add_column(name, no_wrap=True, max_width=24 if name == "experiment" else None)
    table.add_column("try", justify="right")
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for r, now in records:
        end = r["ended"] or (time.time() if now.state.living else None)
        table.add_row(
            f"{r['stage']} (smoke)" if r["smoke"] else r["stage"],
            r["experiment"] or "",
            r["key"].rsplit("-", 1)[1][:8],
            Text(r["state"], style=COLOURS.get(now.state, "")),
            str(r["attempts"] or ""),
            duration(end - r["started"]) if end and r["started"] else "",
            Text(describe(now) if now.state is RunState.RUNNING else r["reason"]),
        )
    console = Console()
    console.print(table)
    if any(now.state in {RunState.FAILED, RunState.LOST} for _, now in records):
        console.print("mllam-exps logs STAGE shows what one printed; dvc exp run goes on from there", style="dim")
