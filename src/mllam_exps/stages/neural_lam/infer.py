"""infer: ``forecasts/infer.zarr``, forecasts of a trained network from any times of the dataset."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import CheckFailed, MllamError, UsageError
from mllam_exps.stages.contract import Preflight, Size, StageContext
from mllam_exps.stages.neural_lam import keeping
from mllam_exps.stages.neural_lam.common import (
    SPEED,
    NeuralLamStage,
    need_checkpoint,
    need_dataset,
    need_graph,
    parameters,
    size_of,
)
from mllam_exps.stages.neural_lam.file_names import (
    FILES,
    FORECASTS,
    INFERENCE,
    MODELS,
    PARAMS,
    TRAINING,
)
from mllam_exps.stages.neural_lam.forecasts import store
from mllam_exps.stages.neural_lam.forecasts.plan import STORE, Plan
from mllam_exps.stages.neural_lam.parameters import (
    arguments,
    inference,
    keys,
    params,
    starts,
)
from mllam_exps.stages.neural_lam.preflight import PREFLIGHT
from mllam_exps.stages.neural_lam.programs import tell_checkpoint


class InferPreflight(Preflight):
    """Looks at ``data/inference_params.yaml``; the other files have been looked at for the stages before."""

    files = (*FILES, INFERENCE)
    programs = PREFLIGHT.programs

    def check_parameters(self, root: Path, python: Path) -> Iterable[MllamError]:
        """Check every key, and each start as far as ``data/datastore.yaml`` says the times."""
        try:
            values = inference.read(root)
        except UsageError as problem:
            if not (root / INFERENCE).exists():
                problem.next = "take the one that `mllam-exps init --with infer` makes, or take infer out of dvc.yaml"
            return [problem]
        return inference.check(values, params.load(root), arguments.known(python))


class Infer(NeuralLamStage):
    """Keep a trained network's forecasts."""

    name = "infer"
    recipe = 1
    preflight = InferPreflight()
    shortened_by_smoke = True

    def counting(self, file: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Leave out what is null, and how many processes read."""
        if file != INFERENCE:
            return super().counting(file, values)
        return {
            name: value
            for name, value in values.items()
            if value is not None and name not in SPEED
        }

    def but_for_parts(
        self, params: Mapping[str, Mapping[str, Any]]
    ) -> Mapping[str, Mapping[str, Any]]:
        """Return all but the starts: each forecast is one of its own."""
        given = params.get(INFERENCE, {})
        rest = {key: given[key] for key in given if key not in ("split", "starts")}
        return {**params, INFERENCE: rest}

    def parameters(self, root: Path) -> Mapping[str, Mapping[str, Any]]:
        """Return the five parameter files of the experiment, and its own."""
        return {**super().parameters(root), INFERENCE: inference.read(root)}

    def size(self, root: Path, phase: int | None = None) -> Size:
        """Return the nodes and devices of inference."""
        return size_of(inference.told(inference.read(root)))

    def inputs(self, context: StageContext) -> None:
        """Refuse missing inputs, a checkpoint of another network, and starts that the dataset does not give."""
        need_dataset(context)
        need_graph(context)
        path = _checkpoint(context)
        need_checkpoint(context, path)
        check_network(context, path)
        _chosen(context)

    def command(self, context: StageContext) -> list[str]:
        """Return our program, told by a file in the scratch folder which forecasts are wanted."""
        given = inference.told(context.params[INFERENCE])
        window = inference.window(given, parameters(context), arguments.known())
        path = _checkpoint(context)
        training = parameters(context).training
        wanted = inference.isoformat(_chosen(context))
        taken = store.shared(context.of_other_runs, FORECASTS, wanted)
        for key, shared in taken.items():
            print(f"{len(shared)} forecasts are there in {key}", flush=True)
        plan = Plan(
            starts=wanted,
            steps=window.steps,
            past=window.past,
            future=window.future,
            checkpoint=path,
            single_member=bool(training.get("load_single_member")),
            variables=given.get("variables"),
            kind=given["layout"],
            standard_names=given.get("standard_names") or {},
            attributes={
                **keeping.attributes(context, path, self.name),
                **({"taken_from_runs": json.dumps(taken)} if taken else {}),
            },
            taken={
                str(context.of_other_runs[key] / FORECASTS): shared
                for key, shared in taken.items()
            },
        )
        return [
            "python",
            "-m",
            "mllam_exps.stages.neural_lam.programs.infer",
            f"--plan={plan.write(context.scratch)}",
            f"--seed={context.params[PARAMS]['seed']}",
            f"--batch_size={given['batch_size']}",
            f"--precision={given['precision']}",
            f"--devices={context.devices}",
            f"--num_workers={given['num_workers']}",
        ]

    def finish(self, context: StageContext) -> None:
        """Bring the forecasts to their place; those that a killed process left half are no part of them."""
        store.finish(context.scratch / STORE, context.work / FORECASTS)

    def check(self, context: StageContext) -> None:
        """Prove the forecasts: all starts, all lead times, all variables, each chunk on disk."""
        given = inference.told(context.params[INFERENCE])
        path = context.work / FORECASTS
        wanted = given.get("variables")
        _, names = keeping.times_and_variables(context)
        times = inference.isoformat(_chosen(context))
        keeping.check_store(path, wanted or names, times, int(given["steps"]))

    def carry(self, earlier: Path, scratch: Path) -> Path | None:
        """Take over the forecasts that an earlier attempt has written whole."""
        count = store.carry(earlier / STORE, scratch / STORE)
        if not count:
            return None
        print(f"{count} forecasts are there already", flush=True)
        return scratch / STORE

    def checkpoints(self, scratch: Path) -> list[Path]:
        """Return the store, if any forecast in it is whole."""
        return [scratch / STORE] if store.marked(scratch / STORE) else []


def _checkpoint(context: StageContext) -> str:
    given = inference.told(context.params[INFERENCE])
    return f"{MODELS}/{given['checkpoint']}.ckpt"


def _chosen(context: StageContext) -> list[starts.Time]:
    """Return the initial times, by the dataset's own times; a rehearsal takes one batch of them.

    Raises
    ------
    UsageError
        With the first that no forecast can be made from.
    """
    given = inference.told(context.params[INFERENCE])
    series, names = keeping.times_and_variables(context)
    for name in given.get("variables") or ():
        if name not in names:
            raise inference.unknown_variable(name, names)
    window = inference.window(given, parameters(context), arguments.known())
    found = starts.chosen(given, series, window)
    one_batch = int(given["batch_size"]) * context.nodes * context.devices
    return found[:one_batch] if context.smoke else found


def check_network(context: StageContext, path: str) -> None:
    """Refuse a checkpoint of another network or graph than the parameters describe.

    Raises
    ------
    CheckFailed
        With the first parameter that differs, and both values.
    """
    said = tell_checkpoint.tell(context.work / path)
    if "problem" in said:
        raise CheckFailed(said["problem"], where=path)
    there = said["arguments"]
    if not there:
        what = "the checkpoint does not say which network it is of"
        raise CheckFailed(what, where=path, why="neural-lam 0.7 writes that down")
    here = parameters(context).training
    known = arguments.known().train
    asked_for = {
        key: here.get(key, argument.default)
        for key, argument in known.items()
        if key not in keys.SAYS_NOTHING_OF_THE_NETWORK
    }
    graph = context.params[PARAMS]["graph"]["name"]
    where = dict.fromkeys(asked_for, TRAINING) | {"graph": PARAMS}
    for key, value in {**asked_for, "graph": graph}.items():
        found = there.get(key, known[key].default)
        if str(found) != str(value):
            name = "graph.name" if key == "graph" else key
            raise CheckFailed(
                f"the checkpoint has {name}: {found}, and {where[key]} says {value}",
                where=path,
                why="it is of another network",
                next="dvc repro train, or take the checkpoint's value",
            )


STAGE = Infer()
