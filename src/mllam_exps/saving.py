"""Saves a submitted experiment as a DVC experiment: ``dvc.lock``, and one commit, pushed to where it came from.

`dvc exp save` cannot: in a clone DVC (3.67) leaves out metrics, plots and ``.gitignore`` files, and hashes every output
again. Here nothing is hashed, copied or linked but what git keeps: the run store knows the hashes, and its files are
given their names in DVC's cache.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllam_exps import outputs
from mllam_exps.clones import git
from mllam_exps.errors import MllamError
from mllam_exps.outputs import digest_of_folder
from mllam_exps.pipeline import Pipeline
from mllam_exps.workspace import run_git

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage as DvcStage

    from mllam_exps.experiments import Experiment
    from mllam_exps.store import Run

TRIES = 4
"""Other saves hold locks in the origin, and in DVC's cache, for moments."""


def save(experiment: Experiment, pipeline: Pipeline) -> str:
    """Save an experiment all of whose results are there.

    Returns
    -------
    str
        The commit that holds it; it is pushed.

    Raises
    ------
    MllamError
        If its name was taken by another one, say.
    """
    # It would tell people to `git add` in a clone that is not theirs.
    logging.getLogger("dvc").setLevel(logging.WARNING)
    _refuse_a_changed_clone(experiment, pipeline)
    tree = _write_tree(experiment, write_lock(experiment, pipeline))
    before = _pushed(experiment)
    if before and _tree(experiment, before) == tree:
        return before  # somebody was killed after he had pushed it
    message = experiment.message or f"dvc: commit experiment {experiment.identity.rsplit('-', 1)[1]}"
    commit = git(experiment.root, "commit-tree", tree, "-p", experiment.baseline, "-F", "-", input=message)
    return _push(experiment, commit)


def _refuse_a_changed_clone(experiment: Experiment, pipeline: Pipeline) -> None:
    """Refuse to save parameters that are not those of the results."""
    for step in experiment.steps:
        key = pipeline.definition(step.stage).key
        if key != step.key:
            why = f"{step.stage} would be {key} now, not {step.key}"
            raise MllamError(
                "the experiment's clone was changed", str(experiment.root), why, "mllam-exps submit it again"
            )


def write_lock(experiment: Experiment, pipeline: Pipeline) -> list[str]:
    """Write ``dvc.lock``, and the files that git keeps.

    Returns
    -------
    list of str
        The files, relative to the DVC repository's root, that belong into the commit although git ignores them.
    """
    repo = pipeline.repo
    known: dict[str, dict[str, Any]] = {step.stage: dict(step.known) for step in experiment.steps if step.known}
    files = ["dvc.lock"]
    made: dict[str, dict[str, Any]] = dict(experiment.sources)
    stages = [pipeline.dvc_stage(name) for name in experiment.stages]
    with repo.lock, repo.scm_context(autostage=False, quiet=True):
        for stage in stages:
            name = str(stage.name)
            if name in experiment.runs:
                known[name] = _hand_over(repo, experiment.runs[name], stage)
            elif name in known:
                _from_cache(repo, stage, pipeline.root, known[name])
            _fill(stage, pipeline.root, made, known.get(name))
            for out in stage.outs:
                path = Path(out.fs_path).relative_to(pipeline.root).as_posix()
                made[path] = _described(out, path, known.get(name))
            for out in stage.outs:
                if out.use_cache:
                    out.ignore()
                    files.append(str((Path(out.fs_path).parent / ".gitignore").relative_to(pipeline.root)))
                else:
                    files.append(Path(out.fs_path).relative_to(pipeline.root).as_posix())
        lockfile = pipeline.root / "dvc.lock"
        if lockfile.exists():  # may be another clone's hard link
            content = lockfile.read_bytes()
            lockfile.unlink()
            lockfile.write_bytes(content)
        if stages:
            stages[0].dvcfile.dump_stages(stages, update_pipeline=False)
    return sorted(set(files))


def _hand_over(repo: Repo, run: Run, stage: DvcStage) -> dict[str, Any]:
    for attempt in range(TRIES):
        try:
            return outputs.hand_over(repo, run, stage)
        except (FileExistsError, FileNotFoundError):
            # Another save of the same output, at the same moment.
            if attempt == TRIES - 1:
                raise
            time.sleep(0.2 * (attempt + 1))
    raise AssertionError


def _from_cache(repo: Repo, stage: DvcStage, root: Path, known: Mapping[str, Any]) -> None:
    """Take what git keeps of a result that DVC knows from its cache, unless it is here already."""
    for out in stage.outs:
        target = Path(out.fs_path)
        digest = str(known[target.relative_to(root).as_posix()]["digest"])
        if not out.use_cache and not (target.is_file() and outputs.md5_of_file(target) == digest):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            shutil.copyfile(repo.cache.local.oid_to_path(digest), target)


def _described(out: Any, path: str, known: dict[str, Any] | None) -> dict[str, Any]:
    if known and path in known:
        return dict(known[path])
    return {"digest": out.hash_info.value, "size": out.meta.size if out.meta else None, "files": None}


def _fill(stage: DvcStage, root: Path, made: dict[str, Any], known: dict[str, Any] | None) -> None:
    """Give DVC's objects the hashes that are known; what nobody knows is small, and hashed."""
    for dep in stage.deps:
        path = Path(dep.fs_path).relative_to(root).as_posix()
        described = None if dep.hash_name == "params" else made.get(path) or _part(path, made)
        if described is None:
            dep.save()
        else:
            _set(dep, described)
    for out in stage.outs:
        path = Path(out.fs_path).relative_to(root).as_posix()
        if known is None:
            out.save()
        else:
            _set(out, known[path])
    stage.md5 = stage.compute_md5()


def _part(path: str, made: dict[str, Any]) -> dict[str, Any] | None:
    """Describe a file or folder inside an output."""
    for whole, described in made.items():
        if not path.startswith(f"{whole}/") or not described.get("files") or isinstance(described["files"], int):
            continue
        inside = path.removeprefix(f"{whole}/")
        files = {f["relpath"]: f for f in described["files"]}
        if inside in files:
            return {"digest": files[inside]["md5"], "size": files[inside]["size"], "files": None}
        below = [f | {"relpath": r[len(inside) + 1 :]} for r, f in files.items() if r.startswith(f"{inside}/")]
        if below:
            return {"digest": digest_of_folder(below)[0], "size": sum(f["size"] for f in below), "files": below}
    return None


def _set(item: Any, described: dict[str, Any]) -> None:
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.meta import Meta

    digest = str(described["digest"])
    folder = digest.endswith(".dir")
    files = described.get("files")
    count = (len(files) if isinstance(files, list) else files) if folder else None
    item.hash_name = "md5"
    item.hash_info = HashInfo("md5", digest)
    item.meta = Meta(isdir=folder, size=described.get("size"), nfiles=count)
    item.obj, item.files = None, None


def _write_tree(experiment: Experiment, files: list[str]) -> str:
    """Return the git tree of what tracked files hold, and `files`."""
    root = experiment.root
    there = [file for file in files if (root / file).exists()]
    # In an index of our own: one who was killed at this leaves a lock that nobody takes away.
    with tempfile.TemporaryDirectory(prefix="saving-", dir=experiment.clone / ".git") as folder:
        index = Path(folder) / "index"
        shutil.copy2(experiment.clone / ".git" / "index", index)
        git(root, "add", "--update", "--", ".", index=index)
        # What the user's own rules ignore stays out, as it does with `dvc exp run`.
        ignored = ignored_by_git(root, there)
        wanted = [file for file in there if file not in ignored]
        git(root, "add", "--force", "--", *wanted, *experiment.overrides, index=index)
        return git(root, "write-tree", index=index)


def ignored_by_git(root: Path, files: list[str]) -> set[str]:
    """Return which of these files git ignores."""
    done = run_git(root, "check-ignore", "--stdin", "-z", input="".join(f"{file}\0" for file in files))
    return set(filter(None, done.stdout.split("\0")))


def _tree(experiment: Experiment, commit: str) -> str:
    return git(experiment.root, "rev-parse", f"{commit}^{{tree}}")


def _pushed(experiment: Experiment) -> str:
    """Return the commit that the experiment's name stands for in its origin, fetched; empty where there is none."""
    found = git(experiment.root, "ls-remote", "--", experiment.repository, experiment.git_ref)
    commit = found.partition("\t")[0]
    if commit:
        git(experiment.root, "fetch", "--quiet", "--no-tags", "--", experiment.repository, experiment.git_ref)
    return commit


def _push(experiment: Experiment, commit: str) -> str:
    """Push the one ref; pushing all of DVC's would also push those by which it works at the moment.

    Raises
    ------
    MllamError
        If another experiment has the name by now.
    """
    ref = experiment.git_ref
    for attempt in range(TRIES):
        try:
            lease = f"--force-with-lease={ref}:{experiment.replaces}"
            git(experiment.root, "push", "--quiet", lease, "--", experiment.repository, f"{commit}:{ref}")
        except MllamError as error:
            taken = _pushed(experiment)
            if taken and _tree(experiment, taken) == _tree(experiment, commit):
                return taken  # another job saved the same at the same moment
            if taken not in {"", commit, experiment.replaces}:
                raise MllamError(
                    "another experiment has this name by now",
                    experiment.name,
                    f"{ref} is {taken[:8]} in {experiment.origin}",
                    f"dvc exp rename {experiment.name} OTHER, then mllam-exps retry {experiment.name}",
                ) from error
            if attempt == TRIES - 1:
                raise
            time.sleep(0.5 * (attempt + 1))
        else:
            break
    return commit


def forget_clone(experiment: Experiment) -> None:
    """Remove the clone of a saved experiment: its commit holds all of it."""
    shutil.rmtree(experiment.clone, ignore_errors=True)
