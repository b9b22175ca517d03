"""The real programs of the training and what follows it, with a training that is killed between.

One training serves all tests. Its dataset and graph, and a training that nobody
disturbed, are those of the tiny experiment that DVC has run.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import synthetic
from support.checkpoints import Evil

from mllam_exps import stages
from mllam_exps.base.errors import CheckFailed, MllamError, UsageError
from mllam_exps.commands.running import infer as inferring
from mllam_exps.exporting import forecast_folder
from mllam_exps.stages.contract import ENDED_IN_TIME, SAVE_AND_END, StageContext
from mllam_exps.stages.neural_lam import checkpoints, file_names, infer, scores
from mllam_exps.stages.neural_lam.file_names import (
    EVALUATION,
    INFERENCE,
    KEPT_FORECASTS,
    VERIFICATION,
)
from mllam_exps.stages.neural_lam.new_input import asked
from mllam_exps.stages.neural_lam.parameters import params
from mllam_exps.stages.neural_lam.parameters.keys import KEEP_FORECASTS
from mllam_exps.stages.neural_lam.patches import trust_no_checkpoint

# One worker of pytest-xdist makes the experiment, not each of them.
pytestmark = [pytest.mark.models, pytest.mark.filterwarnings("ignore::Warning")]

UNBEATEN = -1.0
"""A validation loss that no epoch can beat, given to the carried checkpoint."""

NAMES = ("prepare_dataset", "create_graph", "train", "evaluate")


EVALUATED = ("08T18", "09T00", "09T06", "09T12", "09T18", "10T00")
"""From these times the evaluation of the tiny experiment forecasts."""
STARTS = [f"2025-12-{day}:00" for day in ("06T00", *EVALUATED)]
FORECASTS = {"starts": STARTS, "steps": 2, "variables": ["t2m", "msl"]}


@dataclass
class Made:
    """What the fixture made, and what it saw on the way."""

    root: Path
    unbroken: Path
    scratch: dict[str, Path]
    killed_epochs: int
    losses_when_killed: str

    def log(self, name: str) -> str:
        return (self.scratch[name] / "log.txt").read_text()


def context(root: Path, scratch: Path, **options: Any) -> StageContext:
    scratch.mkdir(parents=True, exist_ok=True)
    files = {**params.load(root).files, INFERENCE: FORECASTS}
    files[EVALUATION] = {**files[EVALUATION], KEEP_FORECASTS: True}
    return StageContext(root, scratch, files, experiment="tiny", **options)


def named(stage: str) -> stages.Stage:
    """Return a stage; `infer` also where the package was installed before it had that one."""
    return infer.STAGE if stage == infer.STAGE.name else stages.get(stage)


def start(stage: str, run: StageContext, *more: str) -> subprocess.Popen[bytes]:
    """Start a stage's program as an attempt does."""
    argv = [sys.executable, *named(stage).command(run)[1:], *more]
    server = f"sqlite:///{run.scratch.parent}/mlflow.db"
    environment = {
        **{
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("MLLAM_EXPS", "CARTOPY"))
        },
        "MLLAM_EXPS_SCRATCH": str(run.scratch),
        "MLLAM_EXPS_STAGE": stage,
        "MLFLOW_TRACKING_URI": server,
        "XDG_DATA_HOME": str(run.scratch / "no-shapefiles"),
        # As in the training that this one is held against.
        "OMP_NUM_THREADS": "1",
    }
    with (run.scratch / "log.txt").open("wb") as log:
        return subprocess.Popen(
            argv, cwd=run.work, env=environment, stdout=log, stderr=subprocess.STDOUT
        )


def complete(stage: str, run: StageContext) -> Path:
    named(stage).inputs(run)
    assert start(stage, run).wait() == 0, (run.scratch / "log.txt").read_text()[-3000:]
    named(stage).finish(run)
    named(stage).check(run)
    return run.scratch


def give_unbeatable_loss(path: Path) -> None:
    import torch

    trust_no_checkpoint.apply()
    content = torch.load(path, weights_only=True)
    for state in content["callbacks"].values():
        if state.get("monitor"):
            state["best_model_score"] = torch.tensor(UNBEATEN)
    torch.save(content, path)


@pytest.fixture(scope="module")
def made(tiny_once: Any, tmp_path_factory: pytest.TempPathFactory) -> Made:
    top = tmp_path_factory.mktemp("programs")
    root = shutil.copytree(tiny_once.ready, top / "work")
    scratch = {
        name: tiny_once.log(name) for name in ("prepare_dataset", "create_graph")
    }

    first = context(root, top / "train-1")
    program = start("train", first)
    while not checkpoints.find(first.scratch):
        assert program.poll() is None, (first.scratch / "log.txt").read_text()[-3000:]
        time.sleep(0.01)
    program.send_signal(signal.SIGKILL)
    program.wait()

    carried = stages.get("train").carry(first.scratch, top / "train-2")
    assert carried is not None
    give_unbeatable_loss(carried.with_name("min_val_loss.ckpt"))
    losses = carried.with_name("epochs.csv").read_text()
    epochs = checkpoints.describe(carried).epochs
    scratch["train"] = complete(
        "train", context(root, top / "train-2", resume_from=carried)
    )
    scratch["evaluate"] = complete("evaluate", context(root, top / "evaluate"))
    scratch["infer"] = complete("infer", context(root, top / "infer"))
    return Made(root, tiny_once.trained, scratch, epochs, losses)


def test_every_declared_output_is_there(made: Made) -> None:
    pipeline = yaml.safe_load((made.root / "dvc.yaml").read_text())
    for name in NAMES:
        stage = pipeline["stages"][name]
        for output in [
            *stage["outs"],
            *stage.get("metrics", []),
            *stage.get("plots", []),
        ]:
            path = output if isinstance(output, str) else next(iter(output))
            assert (made.root / path).exists(), path


def test_a_killed_training_goes_on(made: Made) -> None:
    assert 1 <= made.killed_epochs < 3
    rows = (made.root / "plots/loss.csv").read_text().splitlines()
    before = made.losses_when_killed.splitlines()[: made.killed_epochs + 1]
    assert rows[: len(before)] == before
    assert len(rows) == 1 + 3
    last = checkpoints.describe(made.root / "saved_models/last.ckpt")
    assert (last.epochs, last.step) == (3, 3 * 3)  # the optimiser's steps as well


def trained(
    root: Path, scratch: Path, *more: str, carried: Path | None = None
) -> tuple[dict[str, Any], str]:
    """Train in a scratch folder; return the weights of both checkpoints, and the losses by epoch."""
    run = context(root, scratch, resume_from=carried)
    log = scratch / "log.txt"
    code = ENDED_IN_TIME if (scratch / SAVE_AND_END).exists() else 0
    assert start("train", run, *more).wait() == code, log.read_text()[-3000:]
    if code:
        return {}, ""
    folder = scratch / "train-tiny/checkpoints"
    weights = {
        f"{name} {weight}": value
        for name in (checkpoints.LAST, checkpoints.BEST)
        for weight, value in checkpoints.load(folder / name)["state_dict"].items()
    }
    return weights, (scratch / "epochs.csv").read_text()


def different(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return the names of the weights that are not the same to the bit."""
    assert one.keys() == other.keys()
    return [name for name in one if not one[name].equal(other[name])]


def test_a_killed_training_ends_as_one_that_was_never_stopped(made: Made) -> None:
    losses, weights = Path("plots/loss.csv"), Path("saved_models/last.ckpt")
    assert (made.root / losses).read_text() == (made.unbroken / losses).read_text()
    ours, unbroken = (
        checkpoints.load(root / weights)["state_dict"]
        for root in (made.root, made.unbroken)
    )
    assert not different(ours, unbroken)


# `test_same_numbers` has the same with a small network, in seconds.
@pytest.mark.long
@pytest.mark.parametrize("more", [(), ("--tasks_per_node=2",)])
def test_a_training_that_saved_within_an_epoch_ends_as_one_that_was_never_stopped(
    made: Made, tmp_path: Path, more: tuple[str, ...]
) -> None:
    """It is told at its start that its time limit is near, and ends after its first batch."""
    weights, losses = trained(made.root, tmp_path / "unbroken", *more)
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    (first / SAVE_AND_END).touch()
    trained(made.root, first, *more)
    carried = stages.get("train").carry(first, second)
    assert carried is not None
    assert carried.name == checkpoints.WITHIN_EPOCH
    found = trained(made.root, second, *more, carried=carried)
    assert not different(found[0], weights)
    rows, again = losses.splitlines(), found[1].splitlines()
    assert again[2:] == rows[2:], "the first epoch's training loss is that of the rest"


@pytest.mark.long
@pytest.mark.parametrize(
    "more",
    [
        ("--num_sanity_val_steps=2",),
        ("--num_workers=2",),
        ("--tasks_per_node=2",),
        ("--tasks_per_node=2", "--num_workers=2"),
    ],
    ids=" ".join,
)
def test_stopped_after_each_epoch(
    made: Made, tmp_path: Path, more: tuple[str, ...]
) -> None:
    weights, losses = trained(made.root, tmp_path / "unbroken", *more)
    for epochs in (1, 2):
        first, second = tmp_path / f"{epochs}-first", tmp_path / f"{epochs}-second"
        trained(made.root, first, *more, f"--epochs={epochs}")
        carried = stages.get("train").carry(first, second)
        found = trained(made.root, second, *more, carried=carried)
        assert not different(found[0], weights)
        assert found[1] == losses


def test_the_best_checkpoint_of_an_earlier_attempt_is_not_forgotten(made: Made) -> None:
    best = checkpoints.describe(made.root / "saved_models/min_val_loss.ckpt")
    assert best.best_loss == UNBEATEN
    assert best.epochs <= made.killed_epochs + 1
    assert (
        checkpoints.describe(made.root / "saved_models/last.ckpt").best_loss == UNBEATEN
    )
    folder = made.scratch["train"] / "train-tiny/checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == [
        "last.ckpt",
        "min_val_loss.ckpt",
    ]


def test_logs_are_for_reading(made: Made) -> None:
    for name in NAMES:
        log = made.log(name)
        assert "\x1b[" not in log
        assert "\r" not in log
    log = made.log("evaluate")
    assert "maps are drawn without" not in log, "the package has what they show"
    assert "Downloading" not in log
    assert "The dirpath has changed" not in log + made.log("train")


def test_pictures_are_named_by_variable_time_and_lead(made: Made) -> None:
    names = sorted(path.name for path in (made.root / "plots/forecasts").iterdir())
    # The test split begins at 12 h; the second of two initial states is the forecast's
    # time.
    assert names == [
        f"{v}_2025-12-08T18_+{h:03d}h.png" for v in ("msl", "t2m") for h in (6, 12)
    ]


def test_persistence_is_scored_as_neural_lam_scores(made: Made) -> None:
    """Feed persistence through neural-lam's own samples, metrics and mask, as ``test_step`` does with a model."""
    import numpy as np
    import torch
    from neural_lam import metrics
    from neural_lam.config import load_config_and_datastore
    from neural_lam.weather_dataset import WeatherDataset

    _, datastore = load_config_and_datastore(str(made.root / "data/config.yaml"))
    samples = WeatherDataset(datastore, split="test", ar_steps=2)
    statistics = datastore.get_standardization_dataarray("state")
    mean, std = (
        torch.tensor(statistics[f"state_{kind}"].values) for kind in ("mean", "std")
    )
    inside = torch.tensor(datastore.boundary_mask.values) == 0
    errors: dict[str, list[Any]] = {"mse": [], "mae": []}
    for initial, target, _, _ in samples:
        prediction = ((initial[1] - mean) / std).expand_as(target)
        for name, found in errors.items():
            metric = metrics.get_metric(name)
            truth = (target - mean) / std
            found.append(
                metric(prediction, truth, torch.ones(2), mask=inside, sum_vars=False)
            )
    rmse = torch.sqrt(torch.stack(errors["mse"]).mean(dim=0)) * std
    mae = torch.stack(errors["mae"]).mean(dim=0) * std

    rows = scores.read_csv(made.root / "plots/scores.csv")
    for name, expected in (("persistence_rmse", rmse), ("persistence_mae", mae)):
        ours = np.array([getattr(row, name) for row in rows]).reshape(2, 2).T
        np.testing.assert_allclose(ours, expected.numpy(), rtol=1e-4)
    written = np.loadtxt(made.root / "evaluation/test_rmse.csv", delimiter=",")
    np.testing.assert_allclose([row.rmse for row in rows], written.T.ravel())


def rmse_of(path: Path, dataset: Path, starts: list[str]) -> Any:
    """Work out the RMSE of stored forecasts in the interior, by lead time and variable."""
    import numpy as np
    import xarray as xr

    with xr.open_zarr(path) as kept, xr.open_zarr(dataset) as made:
        found = kept.sel(reference_time=starts)
        state = made.state.set_index(grid_index=["x", "y"]).unstack("grid_index")
        columns = []
        for name in made.state_feature.values:
            truth = state.sel(state_feature=name, time=found.valid_time)
            truth = truth.transpose("reference_time", "lead_time", "y", "x")
            error = found[str(name)].astype("float64").values - truth.values
            inside = error[..., found.interior.values == 1]
            assert (error[..., found.interior.values == 0] == 0).all()
            columns.append(np.sqrt((inside**2).mean(axis=(0, 2))))
        return np.stack(columns, axis=1)


def test_stored_forecasts_score_as_neural_lam_scores_its_own(made: Made) -> None:
    import numpy as np
    import xarray as xr

    path, dataset = made.root / file_names.FORECASTS, made.root / "data/datastore.zarr"
    written = np.loadtxt(made.root / "evaluation/test_rmse.csv", delimiter=",")
    found = rmse_of(path, dataset, STARTS[1:])
    np.testing.assert_allclose(found, written, rtol=1e-5)
    by_evaluation = made.root / KEPT_FORECASTS
    found = rmse_of(by_evaluation, dataset, STARTS[1:])
    np.testing.assert_allclose(found, written, rtol=1e-5)
    with xr.open_zarr(by_evaluation) as forecasts:
        assert forecasts.sizes["reference_time"] == len(EVALUATED)
    with xr.open_zarr(path) as forecasts:
        kept = forecasts.reference_time.values.astype("datetime64[m]").astype(str)
        assert kept.tolist() == STARTS
        assert forecasts.attrs["boundary"] == "analysis"
        assert forecasts.attrs["experiment"] == "tiny"
        assert forecasts.attrs["checkpoint"] == "saved_models/min_val_loss.ckpt"
        assert len(forecasts.attrs["checkpoint_sha256"]) == 64
        assert "neural-lam" in forecasts.attrs["programs"]


@pytest.mark.long
def test_new_input_gives_the_forecasts_that_the_training_s_dataset_gives(
    made: Made, tmp_path: Path
) -> None:
    """Of that dataset nothing but its statistics and its grid is there: a folder as `export --inference` writes it."""
    import numpy as np
    import xarray as xr

    folder, output = tmp_path / "folder", tmp_path / "out.zarr"
    for file in file_names.FILES:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(made.root / file, folder / file)
    (folder / INFERENCE).write_text(yaml.safe_dump(FORECASTS))
    for out, place, wanted in asked.outputs(folder):
        for path in filter(Path.is_file, (made.root / out).rglob("*")):
            part = path.relative_to(made.root / out)
            if wanted(str(part)):
                (folder / place / part).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, folder / place / part)
    forecast_folder.seal(folder, forecast_folder.Manifest("tiny", "1a"))
    source = tmp_path / "new.zarr"
    with xr.open_zarr(made.root / synthetic.SOURCE) as whole:
        late = whole.sel(time=slice("2025-12-08T00:00", None)).load().drop_encoding()
    late.to_zarr(source)
    inferring.infer_from(folder, [str(source)], output)
    with (
        xr.open_zarr(output) as new,
        xr.open_zarr(made.root / file_names.FORECASTS) as known,
    ):
        assert new.attrs["input"] == str(source)
        times = [
            one for one in new.reference_time.values if one in known.reference_time
        ]
        assert len(times) == len(EVALUATED)
        for name in ("msl", "t2m"):
            pair = (one[name].sel(reference_time=times) for one in (new, known))
            # In other batches, sums are rounded otherwise.
            np.testing.assert_allclose(*pair, rtol=1e-5)

    late.assign_coords(x=late.x + 1e3).to_zarr(source, mode="w")
    with pytest.raises(UsageError) as error:
        inferring.infer_from(folder, [str(source)], tmp_path / "none.zarr")
    told = "it lies on another grid than the training's: its x differ"
    assert told in str(error.value)
    assert {*tmp_path.iterdir()} == {folder, output, source}


def test_verify_scores_them_as_neural_lam_does(made: Made) -> None:
    pytest.importorskip("scores")
    import numpy as np
    import xarray as xr

    from mllam_exps.stages.neural_lam.scoring import asked, program

    (made.root / VERIFICATION).write_text(f"forecasts: {KEPT_FORECASTS}\n")
    program.score(made.root)
    written = np.loadtxt(made.root / "evaluation/test_rmse.csv", delimiter=",")
    with xr.open_zarr(made.root / asked.SCORES) as found:
        assert found.sizes["init_time"] == len(EVALUATED)
        for number, name in enumerate(("msl", "t2m")):
            of_case = found[f"rmse.{name}"].sel(forecast_source="experiment")
            of_all = np.sqrt((of_case**2).mean("init_time"))
            np.testing.assert_allclose(of_all, written[:, number], rtol=1e-5)


def test_forecasts_are_refused_of_another_network_or_of_times_that_are_not_there(
    made: Made,
) -> None:
    run = context(made.root, made.scratch["infer"])

    def refused(file: str, **changed: Any) -> str:
        files = {**run.params, file: {**run.params[file], **changed}}
        with pytest.raises(MllamError) as error:
            infer.STAGE.inputs(replace(run, params=files))
        return str(error.value)

    wider = refused("data/training_params.yaml", hidden_dim=8)
    assert "hidden_dim: 4, and data/training_params.yaml says 8" in wider
    late = refused(INFERENCE, starts=["2025-12-10T18:00"])
    assert "2025-12-10T18:00 has too few times after it" in late
    assert "did you mean t2m?" in refused(INFERENCE, variables=["t2"])


def test_what_neural_lam_swallows_is_a_failure_and_code_in_a_checkpoint_never_runs(
    made: Made, tmp_path: Path
) -> None:
    """Loading the checkpoint raises inside neural-lam's ``main``, which logs every exception and would exit 0."""
    import torch

    root = tmp_path / "work"
    shutil.copytree(
        made.root, root, ignore=shutil.ignore_patterns("mlruns", "evaluation", "plots")
    )
    path = root / "saved_models/min_val_loss.ckpt"
    trust_no_checkpoint.apply()
    content = torch.load(path, weights_only=True)
    torch.save({**content, "evil": Evil(tmp_path / "ran")}, path)
    run = replace(context(root, tmp_path / "scratch"), experiment="evil")
    stages.get("evaluate").inputs(run)
    # Whoever keeps forecasts says from which checkpoint they are, and looks at it before.
    with pytest.raises(CheckFailed, match="refused unread"):
        start("evaluate", run)
    evaluation = {**run.params[EVALUATION], KEEP_FORECASTS: False}
    run = replace(run, params={**run.params, EVALUATION: evaluation})
    assert start("evaluate", run).wait() != 0
    assert "UnpicklingError" in (run.scratch / "log.txt").read_text()
    assert not (tmp_path / "ran").exists()
