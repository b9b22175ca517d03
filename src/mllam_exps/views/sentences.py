"""Why something waits or failed, and the command that goes on from there: one sentence for all that it is true of."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mllam_exps.machines.workspace import exp_run
from mllam_exps.runs.state.judge import Assessment, RunState, stated
from mllam_exps.submission.applying import made_again
from mllam_exps.submission.experiment import Experiment
from mllam_exps.views.rows import Cell, Row

NAMED = 3
"""Experiments that a sentence names; it counts the others."""
NAMES, FIRST = "<names>", "<first>"
"""In a command: all experiments that a sentence is about, and the first of them."""
RETRY = f"mllam-exps retry {NAMES}"
CANCEL = f"mllam-exps cancel {NAMES}"
STUCK = f"{CANCEL}, and once that is mended, {RETRY}"


@dataclass(frozen=True)
class Sentence:
    """Why something waits or failed.

    Parameters
    ----------
    state : RunState
        Of what it is about: that gives its colour.
    text : str
        The sentence, without the name of the experiment.
    way_out : str
        The command that goes on from there, with `NAMES` or `FIRST` in it.
    """

    state: RunState
    text: str
    way_out: str = ""

    def typed(self, rows: list[Row]) -> str:
        """Return the command for some experiments, as it can be typed."""
        names = [row.called for row in rows]
        words = words_for(names, self.state, self.way_out)
        return fill(self.way_out, words, shlex.quote(names[0]))


def fill(way_out: str, names: str, first: str) -> str:
    """Put names in the places that a command has for them."""
    return way_out.replace(NAMES, names).replace(FIRST, first)


def words_for(names: Iterable[str], state: RunState, way_out: str = RETRY) -> str:
    """Return names as a shell takes them, each once; where `retry` knows many of them by what they are, that word."""
    unique = list(dict.fromkeys(names))
    has_failed = state in {RunState.FAILED, RunState.LOST}
    retries = RETRY in way_out and CANCEL not in way_out
    if has_failed and retries and len(unique) > NAMED:
        return "--failed"
    return shlex.join(unique)


def named(names: Iterable[str]) -> str:
    """Name some experiments, or count them."""
    unique = list(dict.fromkeys(names))
    if len(unique) <= NAMED:
        return ", ".join(unique)
    return f"{len(unique)} experiments ({', '.join(unique[: NAMED - 1])}, …)"


def sentences(rows: Iterable[Row]) -> dict[Sentence, list[Row]]:
    """Return the sentences, and the experiments that each is true of."""
    found: dict[Sentence, list[Row]] = {}
    for row in rows:
        for sentence in of_row(row):
            found.setdefault(sentence, []).append(row)
    return found


def of_row(row: Row) -> Iterator[Sentence]:
    """Yield the sentences on one experiment."""
    if row.older and row.over and row.state.stopped:
        # Its name is another's now: nothing that goes on would lead to it.
        text = f"{row.state}; {row.name} was submitted again since"
        yield Sentence(row.state, text, f"mllam-exps clean {NAMES}")
        return
    for stage, cell in row.cells.items():
        if sentence := _of_stage(row, stage, cell):
            yield sentence
    if row.waits or row.needs_advance:
        yield _of_waiting(row)
    if sentence := _of_saving(row):
        yield sentence


def _of_stage(row: Row, stage: str, cell: Cell) -> Sentence | None:
    """Say why a stage waits or stopped."""
    if row.is_past(stage):
        return None
    if cell.has_stopped:
        return _of_stopped(row, stage, cell)
    return _of_living(row, stage, cell.now)


def _of_stopped(row: Row, stage: str, cell: Cell) -> Sentence:
    """Say why a stage failed, was lost or cancelled."""
    now = cell.now
    why = stated(now.state, now.problem.line)
    way_out = now.problem.next
    if not way_out:
        look = f"{FIRST} {stage}" if row.experiment else stage
        way_out = f"{_after_failure(row, cell)}\n  → mllam-exps logs {look}"
    return Sentence(now.state, f"{stage} {why}", way_out)


def _after_failure(row: Row, cell: Cell) -> str:
    """Return what goes on with an experiment of which a stage stopped."""
    if row.is_saved:
        return after_saving(row)
    way_out = _to_go_on(row)
    if cell.now.is_its_program_s and way_out == RETRY and _is_a_command(cell):
        return _mend_first(row.experiment)
    return way_out


def after_saving(row: Row) -> str:
    """Return what brings back a result of a saved experiment, which was damaged, and set aside since."""
    if row.removed and row.experiment:
        return row.experiment.submit_again
    return made_again(
        f"dvc exp apply {shlex.quote(row.saved_as) if row.saved_as else FIRST}"
    )


def _is_a_command(cell: Cell) -> bool:
    definition = cell.run.definition
    return definition is not None and bool(definition.commands)


def _mend_first(experiment: Experiment | None) -> str:
    """Return what goes on where a command of the user's failed: tried again as it was, most fail again."""
    if experiment is None:
        return RETRY
    command = shlex.join(experiment.command)
    return f"mend that, then {command}\n  → {RETRY} tries it as it was"


def _of_living(row: Row, stage: str, now: Assessment) -> Sentence | None:
    """Say why a stage waits, or that nothing is heard of it."""
    told = now.problem.line
    if now.state in {RunState.PENDING, RunState.UNKNOWN} and told:
        way_out = CANCEL if now.hopeless else ""
        return Sentence(now.state, f"{stage} {now.state}: {told}", way_out)
    if now.silent:
        way_out = f"{CANCEL}, then {RETRY}"
        if row.experiment is None:
            way_out = f"mllam-exps cancel {stage}, then dvc exp run"
        return Sentence(now.state, f"{stage}: {told}", way_out)
    if now.state is RunState.NEW and told and not row.waits:
        return Sentence(now.state, f"{stage} waits: {told}")
    return None


def _of_waiting(row: Row) -> Sentence:
    """Say that something waits in the run store, and whether that has to be gone on with by a command."""
    why = f": {row.waits}" if row.waits else ""
    if not row.needs_advance:
        return Sentence(RunState.NEW, f"waits in the run store{why}")
    text = f"waits in the run store, and nothing at work will submit it{why}"
    return Sentence(RunState.NEW, text, "mllam-exps advance")


def _of_saving(row: Row) -> Sentence | None:
    """Say why an experiment is not saved, where that is not a stage's fault."""
    if row.saving is None or any(cell.has_stopped for cell in row.cells.values()):
        return None
    now = row.saving.now
    told = now.problem.line
    if now.state.stopped:
        return _of_stopped_saving(row, now)
    done = all(cell.now.state is RunState.DONE for cell in row.cells.values())
    if now.state is RunState.NEW and told and done:
        return Sentence(now.state, told)
    return None


def _of_stopped_saving(row: Row, now: Assessment) -> Sentence:
    told = now.problem.line
    what = "" if now.state is RunState.CANCELLED else "saving it "
    why = "" if told.startswith(str(now.state)) else f": {told}"
    way_out = now.problem.next or _to_go_on(row)
    return Sentence(now.state, f"{what}{now.state}{why}", way_out)


def _to_go_on(row: Row) -> str:
    """Return what goes on with an experiment: `retry` works in its clone, and where that is gone it is submitted."""
    if row.experiment is None:
        smoke = any(cell.is_smoke for cell in row.cells.values())
        return "mllam-exps smoke" if smoke else exp_run(row.name)
    if row.experiment.is_mine and not row.experiment.root.is_dir():
        return f"its clone is gone: {row.experiment.submit_again}"
    return RETRY
