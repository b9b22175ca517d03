"""How one experiment, or one run, stands: a row of `status`."""

from __future__ import annotations

from dataclasses import replace

from mllam_exps.runs.state.judge import NOTHING_WRONG, RunState, judge
from mllam_exps.runs.state.observe import observe
from mllam_exps.runs.store import Run
from mllam_exps.submission import standing
from mllam_exps.submission.experiment import Experiment
from mllam_exps.views.rows import Cell, Row


def of_experiment(experiment: Experiment) -> Row:
    """Return what is known of one submitted experiment."""
    cells = {stage: of_run(run) for stage, run in experiment.runs.items()}
    row = Row(experiment.name, cells, experiment, of_run(experiment.saving))
    return as_it_stays(row)


def as_it_stays(row: Row) -> Row:
    """Return an experiment without the words that another attempt follows, where nobody will start that attempt."""
    if not row.over:
        return row
    cells = dict(row.cells)
    for stage, cell in row.cells.items():
        now = cell.now
        if now.as_left is not None and not standing.is_waited_for(cell.run):
            cells[stage] = Cell(cell.run, now.as_left)
        elif now.state is RunState.NEW and now.untried:
            # It waited for room, or for its inputs.
            cells[stage] = Cell(cell.run, replace(now, problem=NOTHING_WRONG))
    return replace(row, cells=cells)


def of_run(run: Run) -> Cell:
    """Return what is known of one run."""
    return Cell(run, judge(observe(run)))
