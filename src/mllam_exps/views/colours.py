"""In which colour a state is written, on a terminal."""

from __future__ import annotations

from mllam_exps.runs.state.judge import RunState

COLOURS = {
    RunState.DONE: "green",
    RunState.RUNNING: "cyan",
    RunState.STARTING: "cyan",
    RunState.PENDING: "yellow",
    RunState.NEW: "yellow",
    RunState.CANCELLED: "yellow",
    RunState.FAILED: "red",
    RunState.LOST: "red",
    RunState.UNKNOWN: "magenta",
}
