"""What a refusal of ``sbatch --test-only`` means: as in the table of `refusals`, tried on Slurm 22.05."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from mllam_exps.machines.model import Resources
from mllam_exps.schedulers import JobRequest
from mllam_exps.schedulers.slurm import calls
from mllam_exps.schedulers.slurm.calls import NotAnswered
from mllam_exps.schedulers.slurm.refusals import judge

UNAVAILABLE = "Requested node configuration is not available"
FULL = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"


def request(nodes: int = 1, tasks: int = 1, **resources: Any) -> JobRequest:
    here = Path("/nowhere")
    return JobRequest(
        "a",
        [],
        [],
        [],
        here,
        here,
        here,
        {},
        Resources(**resources),
        nodes=nodes,
        tasks=tasks,
    )


@pytest.fixture
def states(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sinfo tell the states of the nodes of `main`, the default partition; `big` has one idle node."""
    wanted: list[str] | None = request.param

    def call(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        if wanted is None:
            raise NotAnswered("sinfo gave no answer")
        lines = [
            "*** maintenance | on Monday ***",
            *(f"mllam|main*|4|2000|{state}" for state in wanted),
        ]
        lines.append("mllam|big|64+|200000+|idle")
        only = next(
            (
                word.removeprefix("--partition=")
                for word in command
                if "--partition" in word
            ),
            None,
        )
        shown = [
            line
            for line in lines
            if only is None or any(f"|{name}" in line for name in only.split(","))
        ]
        return subprocess.CompletedProcess(command, 0, "\n".join(shown), "")

    monkeypatch.setattr(calls, "call", call)


@pytest.mark.parametrize(
    ("states", "asked", "final", "told"),
    [
        (["drained", "drained"], {}, False, "2 drained"),
        (["down*", "idle"], {"nodes": 2}, False, "1 down*"),
        (["idle", "maint", "reserved"], {"nodes": 2}, False, "1 maint, 1 reserved"),
        (["idle*"], {}, False, "1 idle*"),
        ([], {}, False, "sinfo does not tell"),
        (None, {}, False, "sinfo does not tell"),
        (["idle~", "mixed-", "allocated+"], {}, True, UNAVAILABLE),
        (
            ["drained"],
            {"memory": "1T"},
            True,
            "1048576 MB on a node; those of partition main have 2000",
        ),
        (["drained"], {"memory": "0"}, False, "1 drained"),
        (
            ["drained"],
            {"cpus": 3, "tasks": 2},
            True,
            "6 CPUs on a node; those of partition main have 4",
        ),
        (["drained"], {"cpus": 6, "partition": "main,big"}, False, "1 drained"),
        (["drained"], {"nodes": 2}, True, "2 nodes; partition main has 1"),
    ],
    indirect=["states"],
)
@pytest.mark.usefixtures("states")
def test_nodes_that_cannot_be_used_are_waited_for(
    asked: dict[str, Any], final: bool, told: str
):
    objection = judge(
        UNAVAILABLE, f"allocation failure: {UNAVAILABLE}", request(**asked)
    )
    assert objection.why.startswith(UNAVAILABLE)
    assert (objection.final, told in objection.why) == (final, True), objection


@pytest.mark.parametrize("states", [["drained"]], indirect=True)
@pytest.mark.usefixtures("states")
@pytest.mark.parametrize(
    ("said", "final"),
    [
        ("Invalid feature specification", True),
        ("Required partition not available (inactive or drain)", True),
        ("Invalid account or account/partition combination specified", True),
        (f"sbatch: error: QOSMaxWallDurationPerJobLimit\n{FULL}", True),
        (f"sbatch: error: AssocMaxSubmitJobLimit\n{FULL}", False),
        (f"sbatch: error: QOSMaxSubmitJobPerUserLimit\n{FULL}", False),
    ],
)
def test_what_sbatch_refuses_as_well_is_final_unless_it_ends_with_other_jobs(
    said: str, final: bool
):
    objection = judge(said.splitlines()[0], said, request())
    assert objection.final is final
    assert said.splitlines()[0].rpartition(" ")[2] in objection.why
