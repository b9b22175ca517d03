"""evaluate: ``evaluation/``, ``metrics/evaluate.json`` and ``plots/`` by neural-lam, beside persistence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import CheckFailed
from mllam_exps.stages.contract import Size, StageContext
from mllam_exps.stages.neural_lam import keeping, scores
from mllam_exps.stages.neural_lam.common import (
    ModelStage,
    label,
    need_checkpoint,
    need_dataset,
    need_graph,
    parameters,
    size_of,
)
from mllam_exps.stages.neural_lam.data.zarr_check import open_dataset
from mllam_exps.stages.neural_lam.file_names import (
    DATASET,
    EVALUATION,
    KEPT_FORECASTS,
    MODELS,
)
from mllam_exps.stages.neural_lam.forecasts import store
from mllam_exps.stages.neural_lam.forecasts.plan import STORE, Plan
from mllam_exps.stages.neural_lam.parameters import inference, keys, starts
from mllam_exps.stages.neural_lam.parameters.params import Parameters
from mllam_exps.stages.neural_lam.patches.keep_pictures import FOLDER

RESULTS = "evaluation"
METRICS = "metrics/evaluate.json"
SCORES = "plots/scores.csv"
FORECASTS = "plots/forecasts"
KEPT = ("*.csv", "*.pdf", "spatial_loss_maps/*.pdf", "example_plots_*/*.gif")
"""Of neural-lam's run folder. Not its ``*.pt``: whole forecasts as bare tensors, tens of megabytes each."""


def run_directory(context: StageContext) -> Path:
    """Return neural-lam's own folder of this evaluation."""
    return context.scratch / f"eval-{label(context)}"


def checkpoint(context: StageContext) -> str:
    """Return the path of the checkpoint that is evaluated."""
    return f"{MODELS}/{parameters(context).checkpoint}.ckpt"


def sampling(context: StageContext) -> scores.Sampling:
    """Return which forecasts are made, so that persistence is scored by the same."""
    from mllam_exps.stages.neural_lam.parameters import arguments

    told, known = parameters(context).evaluation, arguments.known().train

    def value(key: str) -> Any:
        given = told.get(key)
        return known[key].default if given is None else given

    # A smoke test evaluates the first batch, of which each process has one.
    limit = (
        int(value("batch_size")) * context.nodes * context.devices
        if context.smoke
        else None
    )
    return scores.Sampling(
        split=str(told["eval"]),
        steps=int(value("ar_steps_eval")),
        past=int(value("num_past_forcing_steps")),
        future=int(value("num_future_forcing_steps")),
        limit=limit,
        single_member=bool(value("load_single_member")),
    )


def _starts(context: StageContext) -> list[starts.Time]:
    """Return the initial times of the forecasts, in order."""
    told = sampling(context)
    series, _ = keeping.times_and_variables(context)
    window = starts.Window(told.steps, told.past, told.future)
    found = starts.chosen({"split": told.split}, series, window, EVALUATION)
    return found[: told.limit]


def check_pictures(directory: Path, variables: list[str]) -> None:
    """Refuse examples of which a variable has no picture, or one has no content.

    Raises
    ------
    CheckFailed
        Naming the picture or the variable.
    """
    found = sorted(directory.glob("*.png"))
    if not found:
        raise CheckFailed("no example forecast was drawn", where=str(directory))
    for path in found:
        with path.open("rb") as file:
            if file.read(8) != b"\x89PNG\r\n\x1a\n":
                raise CheckFailed("the picture is no PNG", where=str(path))
    if len(found) < len(variables):
        raise CheckFailed(
            f"{len(found)} pictures of {len(variables)} variables", where=str(directory)
        )


class Evaluate(ModelStage):
    """Score the trained model's forecasts, and draw examples."""

    name = "evaluate"
    recipe = 1

    def size(self, root: Path, phase: int | None = None) -> Size:
        """Return the nodes and devices of evaluation."""
        return size_of(Parameters(self.parameters(root)).evaluation)

    def inputs(self, context: StageContext) -> None:
        """Refuse missing inputs, and a checkpoint that is cut off or damaged."""
        need_dataset(context)
        need_graph(context)
        need_checkpoint(context, checkpoint(context))
        if parameters(context).keeps_forecasts:
            self._refuse_members(context)
            _starts(context)

    def _refuse_members(self, context: StageContext) -> None:
        """Refuse to keep an ensemble's forecasts: neural-lam's batches don't say which member each one is of."""
        dataset = self._dataset(context)
        has_members = "ensemble_member" in dataset["state"].dims
        dataset.close()
        if has_members and not sampling(context).single_member:
            raise CheckFailed(
                "the forecasts of an ensemble's members are not kept here",
                where=f"{EVALUATION}: {keys.KEEP_FORECASTS}",
                why="neural-lam's batches don't say which member each one is of",
                next="set it to null, and use the stage infer",
            )

    def command(self, context: StageContext) -> list[str]:
        """Return neural-lam's evaluation, in a folder of this attempt's own."""
        from mllam_exps.stages.neural_lam.parameters import arguments, params

        given = params.evaluation_argv(parameters(context), arguments.known())
        ours = [
            *self._keeping(context),
            f"--tasks_per_node={context.devices}",
            "--config_path=data/config.yaml",
            f"--runs_root={context.scratch}",
            f"--logger_run_name={run_directory(context).name}",
            f"--load={checkpoint(context)}",
        ]
        return [
            "python",
            "-m",
            "mllam_exps.stages.neural_lam.programs.neural_lam",
            "evaluate",
            *given,
            *ours,
        ]

    def _keeping(self, context: StageContext) -> list[str]:
        """Return what the program is told of the forecasts that it keeps."""
        if not parameters(context).keeps_forecasts:
            return []
        told = sampling(context)
        plan = Plan(
            starts=inference.isoformat(_starts(context)),
            steps=told.steps,
            past=told.past,
            future=told.future,
            checkpoint=checkpoint(context),
            single_member=told.single_member,
            attributes=keeping.attributes(context, checkpoint(context), self.name),
        )
        return [f"--forecasts={plan.write(context.scratch)}"]

    def finish(self, context: StageContext) -> None:
        """Bring neural-lam's files and the pictures to their places, and score persistence beside them."""
        made, results = run_directory(context), context.work / RESULTS
        results.mkdir(parents=True, exist_ok=True)
        for pattern in KEPT:
            for path in made.glob(pattern):
                target = results / path.relative_to(made)
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(path, target)
        forecasts = context.work / FORECASTS
        forecasts.mkdir(parents=True, exist_ok=True)
        for path in sorted((context.scratch / FOLDER).glob("*.png")):
            shutil.copyfile(path, forecasts / path.name)
        rmse, mae = (
            scores.read_matrix(made / f"test_{name}.csv") for name in ("rmse", "mae")
        )
        dataset = self._dataset(context)
        try:
            found = scores.combine(dataset, sampling(context), rmse, mae)
        finally:
            dataset.close()
        scores.write_csv(context.work / SCORES, found)
        (context.work / METRICS).parent.mkdir(parents=True, exist_ok=True)
        (context.work / METRICS).write_text(
            json.dumps(scores.summary(found), indent=2) + "\n"
        )
        if parameters(context).keeps_forecasts:
            store.finish(context.scratch / STORE, context.work / KEPT_FORECASTS)

    def check(self, context: StageContext) -> None:
        """Prove the scores: every variable, every lead time, all finite; and that examples were drawn."""
        dataset = self._dataset(context)
        variables = [str(name) for name in dataset["state_feature"].values]
        step, steps = scores.step_hours(dataset), sampling(context).steps
        dataset.close()
        leads = [step * (number + 1) for number in range(steps)]
        scores.check(scores.read_csv(context.work / SCORES), variables, leads, SCORES)
        examples = parameters(context).evaluation.get("n_example_pred", 1)
        if examples > 0:
            check_pictures(context.work / FORECASTS, variables)
        if parameters(context).keeps_forecasts:
            times = inference.isoformat(_starts(context))
            path = context.work / KEPT_FORECASTS
            keeping.check_store(path, variables, times, steps)

    @staticmethod
    def _dataset(context: StageContext) -> Any:
        return open_dataset(context.work / DATASET)


STAGE = Evaluate()
