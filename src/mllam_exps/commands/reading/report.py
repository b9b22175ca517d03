"""``mllam-exps report``: one page by which to choose between experiments."""

from __future__ import annotations

import logging
import os
import shlex
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from mllam_exps.attempts import tracked
from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.base.terminal import say, warn
from mllam_exps.dvc.repository import Repository
from mllam_exps.dvc.saved import differences, holdings
from mllam_exps.dvc.saved.commits import Checkout, Commit, Locked
from mllam_exps.dvc.saved.differences import SHORT, WORKSPACE
from mllam_exps.dvc.saved.experiment_refs import Saved
from mllam_exps.identity.definition import VERSIONS_FILE
from mllam_exps.machines.workspace import Workspace
from mllam_exps.runs.store import Run
from mllam_exps.sharing import adopted
from mllam_exps.stages.neural_lam.reporting import content, page
from mllam_exps.stages.neural_lam.reporting import figures as drawing
from mllam_exps.stages.neural_lam.reporting.comparison import BASELINES, Comparison
from mllam_exps.stages.neural_lam.reporting.evidence import (
    NEEDED,
    Ancestor,
    Background,
    Evidence,
)
from mllam_exps.views import costs, energy
from mllam_exps.views.context import Context, saved_here
from mllam_exps.views.energy import Energy
from mllam_exps.views.histories import Histories, History
from mllam_exps.views.lineage import Training

PAGE = "report.html"
"""What the page is called in MLflow."""
HERE = "experiment"
"""What it is called where nobody says what it is of."""

log = logging.getLogger(__name__)


def report(
    names: Sequence[str],
    *,
    out: Path,
    references: Sequence[str],
    figures: Mapping[str, Path | None],
    in_mlflow: bool = False,
    here: bool = False,
) -> None:
    """Write the page; of no experiment, that of the workspace.

    Parameters
    ----------
    figures : mapping
        Folders for its figures, by their kind (``png``, ``pdf``); None for none.
    in_mlflow : bool
        Whether the page is added to the experiment's run in MLflow.
    here : bool
        Whether nothing counts but the files of the current folder, laid out as the
        repository: no git, DVC or run store, so that the same files give the same page.

    Raises
    ------
    UsageError
        If an experiment has no scores, or they cannot be compared.
    """
    _refuse_folder(out)
    wanted = {kind: folder for kind, folder in figures.items() if folder}
    for kind, folder in wanted.items():
        _make_folder(kind, folder)
    if here and (names or in_mlflow):
        what = "is of the files of this folder alone"
        way_out = "leave out the experiments and --mlflow, or --here"
        raise UsageError(what, "--here", next=way_out)
    root = Path() if here else Workspace.here().root
    run = _run_in_mlflow(root, names) if in_mlflow else None
    with _files() if here else _evidence(root, names) as found:
        compared = Comparison(found)
        known = [one for one in BASELINES if one in compared.sources]
        shown = content.of(compared, references or known)
        page.write(out, shown, _typed(names, out, references, here=here))
        drawn = {
            folder: drawing.write(folder, shown, kind)
            for kind, folder in wanted.items()
        }
    if compared.left_out:
        left = ", ".join(compared.left_out)
        warn(f"note: left out, as not all of them have it: {left}")
    for card in shown.cards:
        say(f"{card.name} against {card.reference}: {card.verdict}")
    if len(found) > 1:
        best = shown.ranking[0]
        say(
            f"the best of {len(found)} is {best.evidence.name} (skill {best.skill:.3f})"
        )
    for folder, paths in drawn.items():
        say(f"{folder}: {len(paths)} figures")
    say(f"{out}: open it in a browser")
    if run is not None:
        _add(out, run)


def _run_in_mlflow(root: Path, names: Sequence[str]) -> Run:
    """Return the run of an experiment, or of the workspace, that has the page in MLflow: its newest one there.

    Raises
    ------
    UsageError
        If there is none, or several experiments are named.
    """
    if names:
        found = saved_here(root, names)
        meant = list(dict.fromkeys(one.name for one in found))
        if len(meant) > 1:
            what = "adds the page of one experiment to its run in MLflow"
            way_out = f"mllam-exps report {shlex.quote(meant[0])} --mlflow"
            raise UsageError(what, "--mlflow", f"{len(meant)} are named", way_out)
        one = found[0]
        history = Histories().of_saved(one)
    else:
        history = Histories().of_workspace()
    if (run := tracked.in_mlflow(history.runs)) is None:
        name = names[0] if names else WORKSPACE
        why = "no attempt of yours at it has logged to MLflow"
        way_out = "the same without --mlflow"
        raise UsageError(f"{name} has no run in MLflow", "--mlflow", why, way_out)
    return run


def _add(page: Path, run: Run) -> None:
    """Add the page to a run in MLflow.

    Raises
    ------
    MllamError
        If MLflow does not take it now; the page is there, and kept for MLflow.
    """
    here = Context.open()
    tracked.keep_file(run, page, PAGE)
    start = tracked.in_environment_of(here.machine, here.workspace.root)
    done = tracked.sync(run, start)
    if done and done.left:
        what = "the page is kept for MLflow, and not there yet"
        raise MllamError(what, why=done.left, next="mllam-exps track sync")
    say(f"in MLflow it is {PAGE} of the run of {run.stage}")


def _typed(
    names: Sequence[str], out: Path, references: Sequence[str], *, here: bool
) -> str:
    words = ["mllam-exps", "report", *(["--here"] if here else names)]
    words += [word for one in references for word in ("--reference", one)]
    return shlex.join([*words, "-o", str(out)])


@contextmanager
def _files() -> Iterator[list[Evidence]]:
    """Yield what lies here, whatever it is of."""
    behind = Background(programs=Checkout(Path()).programs)
    yield [Evidence(HERE, Path(), background=behind)]


@contextmanager
def _evidence(root: Path, names: Sequence[str]) -> Iterator[list[Evidence]]:
    """Lay out what experiments have left, and yield it; afterwards that is removed."""
    if not names:
        here = Checkout(root)
        _refuse_what_is_left(WORKSPACE, here)
        history = _history(Histories().of_workspace)
        behind = _background(history, energy.of_runs(history.runs), here)
        yield [Evidence(WORKSPACE, root, background=behind)]
        return
    called = saved_here(root, names)
    found = list({one.commit: one for one in called}.values())
    repository = Repository.open(root, check=False)
    parameters = _differing(repository, found)
    labels = _labels(found)
    known = Histories()
    histories = [_history(partial(known.of_saved, one)) for one in found]
    energies = energy.of_runs(run for one in histories for run in one.runs)
    with tempfile.TemporaryDirectory(prefix="mllam-exps-report-") as scratch:
        laid = []
        for number, (one, history) in enumerate(zip(found, histories, strict=True)):
            folder, commit = Path(scratch, str(number)), Commit(root, one.commit)
            _lay_out(repository, commit, one.name, folder)
            its = parameters[one.commit]
            behind = _background(history, energies, commit)
            laid.append(Evidence(labels[one.commit], folder, one.commit, its, behind))
        yield laid


def _history(ask: Callable[[], History]) -> History:
    """Return what is recorded of an experiment; of files as they lie a page can be made, too."""
    try:
        return ask()
    except MllamError as error:
        log.info("nothing is known of what it took: %s", error)
        return History([], [], [])


def _background(
    history: History, energies: Mapping[str, Energy], locked: Locked
) -> Background:
    """Return what an experiment took, and where it comes from."""
    took = costs.in_words(history.costs, energies) if history.costs else ""
    lineage = tuple(one for tree in history.trees for one in _flat(tree, 0))
    taken = tuple(one.line for one in adopted.of(locked))
    return Background(took, lineage, locked.programs, taken)


def _flat(training: Training, depth: int) -> Iterator[Ancestor]:
    yield Ancestor(depth, training.line, training.asked)
    for one in training.then:
        yield from _flat(one, depth + 1)


def _labels(found: Sequence[Saved]) -> dict[str, str]:
    """Return what experiments are called in the page, by commit: those of other baselines may have the same name."""
    times = Counter([*BASELINES, *(one.name for one in found)])
    return {
        one.commit: one.name
        if times[one.name] == 1
        else f"{one.name} ({one.commit[:SHORT]})"
        for one in found
    }


def _lay_out(repository: Repository, commit: Commit, name: str, folder: Path) -> None:
    """Bring an experiment's outputs into a folder, from DVC's cache, or from git.

    Raises
    ------
    UsageError
        If the cache lacks any of it.
    """
    left = _refuse_what_is_left(name, commit)
    known = commit.outputs
    for path in NEEDED:
        if path not in known or path in left:
            continue
        if commit.text(path) is not None and path.endswith(".csv"):
            commit.lay_out([path], folder)
        elif not repository.cache.check_out(known[path], folder / path):
            what = f"{name}: DVC's cache has not all of {path}"
            raise UsageError(what, next=f"mllam-exps pull {name}")


def _refuse_what_is_left(name: str, locked: Locked) -> dict[str, str]:
    """Return the outputs that are of other inputs than an experiment's, with the reasons.

    Raises
    ------
    UsageError
        If its scores are among them.
    """
    left = holdings.left_outputs(locked)
    scores, *_ = NEEDED
    if scores in left:
        way_out = f"dvc exp apply {shlex.quote(name)}, then dvc exp run"
        if name == WORKSPACE:
            way_out = "dvc exp run"
        what = f"{name} has no scores of its own"
        raise UsageError(what, scores, left[scores], way_out)
    return left


def _differing(
    repository: Repository, found: Sequence[Saved]
) -> dict[str, dict[str, Any]]:
    """Return for each experiment, by commit, the parameters that are not the same in all, versions aside."""
    first = found[0]
    table: dict[str, dict[str, Any]] = {one.commit: {} for one in found}
    same: dict[str, Any] = {}
    for one in found[1:]:
        for each in differences.of_parameters(repository, first.commit, one.commit):
            if each.where != VERSIONS_FILE:
                same[each.what] = each.first
                table[one.commit][each.what] = each.second
    return {commit: same | values for commit, values in table.items()}


def _refuse_folder(out: Path) -> None:
    """Refuse a path to which no page can be written.

    Raises
    ------
    UsageError
        Naming it.
    """
    if out.is_dir() or not out.resolve().parent.is_dir():
        raise UsageError(
            "is no file to write a page to", str(out), next="-o report.html"
        )


def _make_folder(kind: str, folder: Path) -> None:
    """Make the folder for figures, before anything is read.

    Raises
    ------
    UsageError
        If that cannot be.
    """
    way_out = f"--{kind} figures"
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        what = "is no folder to write figures to"
        why = "" if folder.exists() else str(error.strerror)
        raise UsageError(what, str(folder), why, way_out) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError("cannot be written", str(folder), next=way_out)
