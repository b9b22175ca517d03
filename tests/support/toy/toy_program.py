"""The program of the toy stages. It imports little: the tests start it many times."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from mllam_exps.stages.contract import ENDED_IN_TIME, SAVE_AND_END
from mllam_exps.stages.programs import fence

STEPS = 3


def replace(path: Path, record: dict) -> None:
    """Write a record at once."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(json.dumps(record))
    new.replace(path)


def make(params: dict) -> None:
    """Make a folder of files, and take as long as asked."""
    time.sleep(params["make"].get("seconds", 0))
    Path("made/sub").mkdir(parents=True)
    for i in range(params["make"]["size"]):
        lines = params["make"].get("lines", 10)
        Path(f"made/sub/{i}.txt").write_text(f"{i}\n" * lines)
    if "mark" in params["make"]:
        # A program that makes something else each time.
        mark = (
            os.getpid() if params["make"]["mark"] == "pid" else params["make"]["mark"]
        )
        Path("made/mark.txt").write_text(f"{mark}\n")


def grow(params: dict, scratch: Path, resume: Path | None) -> None:
    """Work through epochs, with a checkpoint after each, and go wrong as asked."""
    wanted = params["grow"]
    state = json.loads(resume.read_text()) if resume else {"epochs": 0, "starts": []}
    state["starts"] = [*state["starts"], os.getpid()]
    with Path(os.environ["TOY_COUNT"]).open("a") as file:
        file.write(f"grow {os.getpid()}\n")
    log = points()
    while state["epochs"] < wanted["epochs"]:
        first = state["epochs"] * STEPS
        log(range(first, first + STEPS - 1))
        time.sleep(wanted["seconds"])
        if state["epochs"] == wanted.get("at") and not (resume and wanted.get("once")):
            go_wrong(wanted["do"])
        log([first + STEPS - 1])
        state["epochs"] += 1
        replace(scratch / "state.json", state)
        replace(
            scratch / "progress.json",
            {
                "text": f"epoch {state['epochs']}/{wanted['epochs']}",
                "done": state["epochs"],
                "total": wanted["epochs"],
            },
        )
        print(f"epoch {state['epochs']} done", flush=True)
        if (scratch / SAVE_AND_END).exists():
            sys.exit(ENDED_IN_TIME)
    Path("grown").mkdir()
    Path("grown/state.json").write_text(json.dumps(state))
    Path("grown.json").write_text(json.dumps({"epochs": state["epochs"]}))


def points():
    """Return what keeps losses as MLflow's client would, other ones each time; nothing is kept without `track`."""
    if not os.environ.get("MLLAM_EXPS_POINTS"):
        return lambda steps: None
    from mllam_exps.stages.points import kept

    folder = os.environ[kept.VARIABLE]
    file = kept.Points(Path(folder))

    def log(steps) -> None:
        new = [step for step in steps if step > file.head.after.get("loss", -1)]
        loss = {"key": "loss", "time": time.time_ns() // 10**6, "value": os.getpid()}
        file.write([loss | {"step": step} for step in new])

    return log


def go_wrong(how: str) -> None:
    """Fail in one of the ways programs do; or wait for a test's word, and go on."""
    if how == "wait":
        while not Path(os.environ["TOY_COUNT"]).with_name("go-on").exists():
            time.sleep(0.05)
    if how == "raise":
        raise ValueError("the weather is bad")
    if how == "sigkill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "stall":
        time.sleep(1000)
    if how == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "early":
        Path("grown").mkdir()
        Path("grown/state.json").write_text('{"epochs": 1}')
        Path("grown.json").write_text("{}")
        sys.exit(0)
    if how == "nothing":
        sys.exit(0)
    if how == "memory":
        held = []
        while True:
            held.append(b"\1" * 2**24)
    if how == "disk":
        Path("big").write_bytes(b"\0" * 2**30)


if __name__ == "__main__":
    fence.guard()
    given, resume = json.loads(sys.argv[3]), sys.argv[4:]
    if sys.argv[1] == "make":
        make(given)
    else:
        grow(given, Path(sys.argv[2]), Path(resume[0]) if resume else None)
