"""How a run stands, for whoever acts on it: looked at, judged, and the scheduler's last word remembered.

Who only reads calls ``judge(observe(run))``, which changes nothing.
"""

from __future__ import annotations

from mllam_exps import schedulers
from mllam_exps.base.endings.causes import Cause
from mllam_exps.runs.spec import rules_of
from mllam_exps.runs.state import verdict
from mllam_exps.runs.state.judge import Assessment, RunState, judge
from mllam_exps.runs.state.observe import observe
from mllam_exps.runs.store import Run
from mllam_exps.schedulers import Schedulers


def assess(run: Run, scheduler: Schedulers = schedulers.get) -> Assessment:
    """Say in which state a run is, and remember what its scheduler said at last."""
    seen = observe(run, scheduler)
    for attempt, word in seen.words:
        verdict.remember(attempt, word)
    return judge(seen)


def ends_the_same_way(now: Assessment) -> bool:
    """Tell whether a run ended with NaN: another attempt would, too, unless the machine file says `again` of that."""
    if now.attempt is None or now.state is not RunState.FAILED:
        return False
    is_nan = now.cause is Cause.NOT_FINITE
    return is_nan and Cause.NOT_FINITE not in rules_of(now.attempt).again
