"""A training that goes on makes its iterators where one that never stopped makes them, and so draws the same."""

from __future__ import annotations

import functools
from typing import Any

from mllam_exps.stages.patch import Issue, Patch

PATCH = Patch(
    name="draw_as_if_never_stopped",
    purpose="a training that goes on sees its samples in the order in which one that never stopped sees them",
    tried={"pytorch-lightning": ("2.6.6",), "torch": ("2.13.0",)},
    spots={
        "pytorch_lightning.loops.training_epoch_loop:_TrainingEpochLoop.on_run_start": "is_resuming",
        "pytorch_lightning.loops.evaluation_loop:_EvaluationLoop.reset": "iter(data_fetcher)",
    },
    until="Lightning keeps the random state, and makes a resumed training's first iterator where its epoch begins",
    issue=Issue(
        repository="Lightning-AI/pytorch-lightning",
        title="A resumed training sees its samples in another order; with DDP and workers, in that of epoch 0",
        body="""\
A training that is stopped at the end of an epoch and resumed with `ckpt_path` ends with other weights than
one that was never stopped (2.6.6, on a CPU, `deterministic=True`, `seed_everything(…, workers=True)`):

* checkpoints hold no state of the random generators;
* in a resumed run `FitLoop.setup_data` makes the iterator of the first epoch, before every hook, and
  `_TrainingEpochLoop.on_run_start` does not make it again (`is_resuming`), as it does in each later epoch.
  Whoever restores the random state in a hook is too late, or draws in another order;
* with `num_workers > 0` that iterator asks the sampler at once, before `FitLoop.on_advance_start` calls
  `set_epoch`: a `DistributedSampler` gives the order of epoch 0 in the resumed epoch, whichever it is;
* with `persistent_workers=True` the first validation of a resumed run draws the workers' seed, which a
  training that never stopped has drawn long before.

Proposal: keep `_collect_rng_states()` of each rank in the checkpoint, restore it before
`on_train_epoch_start`, and in `_TrainingEpochLoop.on_run_start` call `iter(data_fetcher)` also where the
training resumes at an epoch's end.
""",
    ),
)


def apply() -> None:
    """Begin the first epoch of a training that goes on as later epochs begin, and its validation as later ones do."""
    if not PATCH.fits():
        return
    from pytorch_lightning.loops.evaluation_loop import _EvaluationLoop
    from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop

    begin_epoch = _TrainingEpochLoop.on_run_start
    begin_validation = _EvaluationLoop.reset

    @functools.wraps(begin_epoch)
    def on_run_start(self: Any, data_fetcher: Any) -> None:
        loop, keeper = self.trainer.fit_loop, _keeper(self.trainer)
        done = self.batch_progress.current.ready
        if keeper is not None and loop.is_resuming and self.restarting and done:
            # After a stop within an epoch Lightning goes on with the iterator that it
            # has, which begins with samples that are done.
            keeper.go_on_within_epoch(self.trainer, data_fetcher, done)
        else:
            if keeper is not None:
                keeper.note_begin_of_samples(self.trainer)
            if loop.is_resuming and not loop.restarting and not self.restarting:
                iter(data_fetcher)
        begin_epoch(self, data_fetcher)

    @functools.wraps(begin_validation)
    def reset(self: Any) -> None:
        from pytorch_lightning.utilities.seed import isolate_rng

        if not _workers_begin_anew(self):
            begin_validation(self)
            return
        with isolate_rng():
            begin_validation(self)

    _TrainingEpochLoop.on_run_start = on_run_start
    _EvaluationLoop.reset = reset


def _keeper(trainer: Any) -> Any:
    """Return the callback that keeps the random state; None outside of our runs."""
    from mllam_exps.stages.neural_lam.training.random_state import RandomState

    kept = [one for one in trainer.callbacks if isinstance(one, RandomState)]
    return kept[0] if kept else None


def _workers_begin_anew(loop: Any) -> bool:
    """Tell whether workers are started that a training that never stopped has had since its first validation."""
    keeper = _keeper(loop.trainer)
    if keeper is None or not (keeper.goes_on and keeper.validated):
        return False
    # torch 2.13 makes an iterator with persistent workers once, and draws their seed
    # then.
    return any(
        getattr(loader, "persistent_workers", False) and loader._iterator is None
        for loader in loop._combined_loader.flattened
    )
