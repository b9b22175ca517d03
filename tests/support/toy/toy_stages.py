"""Two stages whose programs take no neural-lam: what the driver, the store and DVC do with a run does not depend on it.

Their parameters stand in ``toy.yaml``: ``make: {size, seconds, mark}``, ``grow:
{epochs, seconds, do, at, track}``; `do` is what goes wrong, in epoch `at`; with `track`
it logs `toy_program.STEPS` losses in each epoch, the last of them after that. `toy_program` is what is started.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import toy_program

from mllam_exps.base.errors import CheckFailed, UsageError
from mllam_exps.stages.contract import Differs, GoingOn, Stage, Tracking, Wish
from mllam_exps.stages.neural_lam.preflight import PREFLIGHT


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
        return [
            "python",
            toy_program.__file__,
            self.name,
            str(context.scratch),
            given,
            *resume,
        ]

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
            return [Differs("toy.yaml:make.size", here, there, earlier.name)]
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
