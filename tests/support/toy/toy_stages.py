"""Two stages whose programs take no neural-lam: what the driver, the store and DVC do with a run does not depend on it.

Their parameters stand in ``toy.yaml``: ``make: {size, seconds, mark}``, ``grow:
{epochs, seconds, do, at, track}``; `do` is what goes wrong, in epoch `at`; with `track`
it logs `STEPS` losses in each epoch, the last of them after that.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from mllam_exps.base import records
from mllam_exps.base.errors import CheckFailed, UsageError
from mllam_exps.stages.contract import (
    ENDED_IN_TIME,
    SAVE_AND_END,
    GoingOn,
    Stage,
    Tracking,
    Wish,
)
from mllam_exps.stages.neural_lam.preflight import PREFLIGHT
from mllam_exps.stages.points import kept

STEPS = 3


class Toy(Stage):
    """What both have in common. They stand among Neural-LAM's files, which are looked at as for its own stages."""

    preflight = PREFLIGHT

    def __init__(self, name: str, needs: list[str]) -> None:
        self.name = name
        self.needs = needs

    def inputs(self, context):
        for need in self.needs:
            if not (context.work / need).exists():
                raise CheckFailed(f"the input {need} is missing", next="dvc repro make")

    def tracking(self, root):
        import yaml

        given = yaml.safe_load((root / "toy.yaml").read_text())
        if self.name == "grow" and given["grow"].get("track"):
            return Tracking("mlflow", "toy", kept=True)
        return None

    def command(self, context):
        resume = [str(context.resume_from)] if context.resume_from else []
        given = json.dumps(context.params["toy.yaml"])
        return ["python", __file__, self.name, str(context.scratch), given, *resume]

    def phases(self, params):
        given = params.get("toy.yaml", {})
        common = {"grow": given.get("grow")}
        several = given.get("phases") or [] if self.name == "grow" else []
        return [
            {**params, "toy.yaml": {"grow": {**common["grow"], **one}}}
            for one in several
        ]

    def in_phase(self, files, phase):
        given = files["toy.yaml"]
        grow = {**given["grow"], **given["phases"][phase - 1]}
        return {**files, "toy.yaml": {**given, "grow": grow}}

    def check(self, context):
        if self.name == "grow":
            done = json.loads((context.work / "grown/state.json").read_text())
            wanted = context.params["toy.yaml"]["grow"]["epochs"]
            if done["epochs"] < wanted:
                raise CheckFailed(f"only {done['epochs']} of {wanted} epochs were done")

    def carry(self, earlier, scratch):
        if not (earlier / "state.json").exists():
            return None
        return Path(shutil.copy(earlier / "state.json", scratch / "carried.json"))


class GrowGoesOn(GoingOn):
    """`grow` goes on from what it left for another experiment, if that made as many files."""

    source_key = "toy.yaml:source"
    weights_only_key = "toy.yaml:cold"
    longest_key, longest_value = "toy.yaml:longest", "auto"
    length_key = "toy.yaml:grow.epochs"
    reads = ("toy.yaml", "grown.json")

    def wish(self, root):
        given = read_yaml(root / "toy.yaml")
        return Wish(
            given.get("source") or "",
            given.get("longest") == "auto",
            given.get("cold") is True,
        )

    def refuse(self, wish, earlier, root, python):
        own, other = read_yaml(root / "toy.yaml"), read_yaml(earlier.root / "toy.yaml")
        here, there = own["make"]["size"], other["make"]["size"]
        if here != there:
            what = f"{here} here, {there} in {earlier.name}"
            return [UsageError(what, "toy.yaml: make.size")]
        reached = json.loads((earlier.root / "grown.json").read_text())["epochs"]
        asked = own["grow"]["epochs"]
        if asked <= reached and not wish.weights_only:
            what = f"{earlier.name} has reached {reached}, and {asked} are asked for"
            return [UsageError(what, "toy.yaml: grow.epochs")]
        return []

    def refuse_file(self, wish, checkpoint, root, ask, python):
        try:
            json.loads(checkpoint.read_text())["epochs"]
        except (ValueError, KeyError):
            return [UsageError("is no checkpoint", str(checkpoint))]
        return []

    def takes(self, wish, earlier, root):
        return ("grown/state.json",)

    def length(self, params):
        given = params["toy.yaml"]
        return None if given.get("phases") else given["grow"]["epochs"]

    def but_for_length(self, params):
        grow = {k: v for k, v in params["toy.yaml"]["grow"].items() if k != "epochs"}
        return {**params, "toy.yaml": {"grow": grow}}

    def begin(self, parent, scratch, taken):
        state = json.loads((parent / "grown/state.json").read_text())
        if taken.weights_only:
            state["epochs"] = 0
        (scratch / "carried.json").write_text(json.dumps(state))
        return scratch / "carried.json"


def read_yaml(path: Path) -> dict:
    import yaml

    return yaml.safe_load(path.read_text())


MAKE = Toy("make", [])
GROW = Toy("grow", ["made"])
GROW.goes_on = GrowGoesOn()


def make(params: dict) -> None:
    """Make a folder of files, and take as long as asked."""
    time.sleep(params["make"].get("seconds", 0))
    Path("made/sub").mkdir(parents=True)
    for i in range(params["make"]["size"]):
        Path(f"made/sub/{i}.txt").write_text(f"{i}\n" * 10)
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
        records.replace(scratch / "state.json", state)
        records.replace(
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
    folder = os.environ.get(kept.VARIABLE)
    if not folder:
        return lambda steps: None
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
    from mllam_exps.stages.programs import fence

    fence.guard()
    given, resume = json.loads(sys.argv[3]), sys.argv[4:]
    if sys.argv[1] == "make":
        make(given)
    else:
        grow(given, Path(sys.argv[2]), Path(resume[0]) if resume else None)
