"""What ends before its result is there goes on by itself, as the machine file says, and nobody types anything."""

from __future__ import annotations

import json
from pathlib import Path

from support.experiment import Experiment
from support.submissions import settled, submit


def set_machine(toy: Experiment, **rules: object) -> None:
    """Have `grow` meet a time limit after two epochs or three, with these rules."""
    (toy.root / "machines").mkdir()
    (toy.root / "machines/local.yaml").write_text(
        json.dumps(
            {
                "scheduler": "local",
                "resources": {"grow": {"time": "0:00:03"}},
                "retry": rules,
            }
        )
    )
    toy.set("toy.yaml", grow__epochs=6, grow__seconds=0.8)
    toy.ok("git", "add", "-A")
    toy.ok("git", "commit", "-qm", "Limits")


def ends(toy: Experiment) -> list[tuple[str, str | None]]:
    """Return how each attempt at `grow` ended, and why in one word."""
    [run] = toy.runs("grow")
    records = [
        json.loads((run / "attempts" / str(number) / "end.json").read_text())
        for number in range(1, len(list(run.glob("attempts/*.json"))) + 1)
    ]
    return [(record["outcome"], record["cause"]) for record in records]


def grown(toy: Experiment, place: Path) -> dict:
    """Return what the program says of itself."""
    return json.loads((place / "grown/state.json").read_text())


def test_time_limits_in_a_row(made: Experiment):
    set_machine(made)
    submit(made, "-n", "long")
    assert settled(made, "long")["long"]["state"] == "done"
    *stopped, last = ends(made)
    assert len(stopped) >= 2
    assert set(stopped) == {("failed", "time_limit")}
    assert last == ("succeeded", None)
    out = made.ok("dvc", "exp", "apply", "long")
    made.ok("dvc", "checkout", "--force")
    state = grown(made, made.root)
    assert state["epochs"] == 6, out
    assert len(state["starts"]) == len(stopped) + 1, "each went on from the one before"


def test_dvc_exp_run_waits_through_time_limits(made: Experiment):
    set_machine(made)
    said = made.ok("dvc", "exp", "run", "-n", "long")
    assert "attempt 1 ended, and another one is to follow: its time limit" in said
    assert ends(made)[0] == ("failed", "time_limit")
    assert grown(made, made.root)["epochs"] == 6


def test_a_program_that_is_killed_goes_on(made: Experiment):
    made.set("toy.yaml", grow__do="sigkill", grow__at=1, grow__once=True)
    submit(made, "-n", "killed")
    assert settled(made, "killed")["killed"]["state"] == "done"
    assert ends(made) == [("failed", "killed"), ("succeeded", None)]
    said = made.ok("mllam-exps", "show", "killed")
    assert "attempt 1: the program was killed by SIGKILL" in said


def test_attempts_that_come_no_further_end(made: Experiment):
    made.set("toy.yaml", grow__do="sigkill", grow__at=1, grow__once=False)
    submit(made, "-n", "killed")
    row = settled(made, "killed")["killed"]
    assert row["state"] == "failed"
    # The first one came to an epoch; the three behind it to no further one.
    assert ends(made) == [("failed", "killed")] * 4
    assert "3 attempts in a row came no further" in row["stages"][-1]["reason"]


def test_a_rule_may_say_stop(made: Experiment):
    set_machine(made, time_limit="stop")
    submit(made, "-n", "long")
    row = settled(made, "long")["long"]
    assert row["state"] == "failed"
    assert ends(made) == [("failed", "time_limit")]
    assert "time limit" in row["stages"][-1]["reason"]
