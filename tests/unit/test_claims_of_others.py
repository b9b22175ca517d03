"""A run that another process has claimed, and has not submitted: who waits for it is told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mllam_exps.base.errors import Problem
from mllam_exps.runs.state.judge import Assessment, RunState
from mllam_exps.submission import job_chain
from mllam_exps.submission.job_chain import Chain
from mllam_exps.submission.standing import Standing

CLAIMED = [
    (RunState.STARTING, False, True, True),
    # Its submitter was killed, and may have left an sbatch behind.
    (RunState.UNKNOWN, False, True, True),
    (RunState.UNKNOWN, False, False, False),
    (RunState.UNKNOWN, True, True, False),
    (RunState.RUNNING, False, True, False),
]


@pytest.mark.parametrize(("state", "has_job", "answers", "claimed"), CLAIMED)
def test_who_waits_for_another_s_submission_is_told(
    monkeypatch: pytest.MonkeyPatch,
    state: RunState,
    has_job: bool,
    answers: bool,
    claimed: bool,
):
    why = "being started by a colleague's process 7 on n1"
    attempt: Any = SimpleNamespace(has_job=has_job, hidden=None, claim=None)
    now = Assessment(state, Problem(why), attempt)
    monkeypatch.setattr(job_chain, "assess", lambda _run: now)
    step: Any = SimpleNamespace(stage="grow", key="grow-1", needs=())
    store = SimpleNamespace(run=lambda key: key)
    chain = Chain.__new__(Chain)
    chain.experiment = SimpleNamespace(store=store, name="a")  # type: ignore[assignment]
    chain.room = SimpleNamespace(shut=False)  # type: ignore[assignment]
    chain.scheduler = SimpleNamespace(name="slurm", answers=lambda: answers)  # type: ignore[assignment]
    standing = Standing()
    chain._prepare_step(step, standing, retry=False)
    assert (standing.claimed_by_others == {"grow-1"}) is claimed
    told = f"grow: {why}; mllam-exps advance goes on, once that is over"
    assert standing.waits == (told if claimed else "")
