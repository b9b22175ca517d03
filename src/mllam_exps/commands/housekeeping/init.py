"""Start an experiment repository of one's own from one of the examples."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mllam_exps
from mllam_exps.base.errors import UsageError
from mllam_exps.schedulers import child_environment

ROOT_EXAMPLE = "north-atlantic-2025"
"""The example whose files are this repository's own: there is one copy of everything."""

_PACKAGE = Path(mllam_exps.__file__).parent
_PACKAGED = _PACKAGE / "_examples"
_CHECKOUT = _PACKAGE.parents[1]
# The files of the root example, as pyproject.toml's force-include lays them out in a
# wheel.
_ROOT_FILES = (
    "dvc.yaml",
    "params.yaml",
    "data/*.yaml",
    "machines/*.yaml",
    "machines/schema.json",
)
_STAGE = "stage.yaml"
"""What an option adds to ``dvc.yaml``; its other files go to where they lie in its folder."""
_SCHEMA = Path("machines/schema.json")
# Never copied, even where an example has been run in place.
_UNWANTED = frozenset(
    {
        "__pycache__",
        ".git",
        ".dvc",
        ".dvcignore",
        ".gitignore",
        "dvc.lock",
        "version.mllam.txt",
        "logs",
    }
    | {
        "saved_models",
        "evaluation",
        "forecasts",
        "verification",
        "metrics",
        "plots",
        "mlruns",
        "mlartifacts",
        "mlflow.db",
    }
)

_GITIGNORE = """\
/.venv/
/logs/*
!/logs/.gitkeep
/mlflow.db*
/mlruns/
/mlartifacts/
/wandb/
/dvc_plots/
/*.html
/*.crate/
/*.crate.zip
/*.inference/
/*.inference.zip
__pycache__/
"""

_README = """\
# {name}

Started from the example `{example}` of mllam-exps.

```console
$ mllam-exps machine show    # where stages run, and with what: machines/
$ dvc exp run                # run the experiment: dvc.yaml, params.yaml, data/
$ dvc exp show               # compare experiments
```

A cluster is a file: copy `machines/slurm.yaml` to `machines/<cluster>.yaml` and fill it in.
"""

# .dvc/config. For one user; a cache that a team shares wants `shared = group` and `type
# = symlink`.
_DVC_CONFIG = """\
[core]
    # New dvc.lock and .gitignore files go into git by themselves: no experiment is saved without them.
    autostage = true
    # Compute nodes reach no internet, and a job has no business telling anyone what it does.
    analytics = false
    check_update = false
[cache]
    # Outputs exist once. Hard links are read-only, so nothing is changed in place by mistake, and commits at
    # the same time don't disturb each other as with symlinks; those are for a cache on another file system.
    type = "reflink,hardlink,symlink"
"""


def examples() -> dict[str, Path]:
    """Return the examples that can be started from, by name: the folder that holds each one's files."""
    if _PACKAGED.is_dir():
        pipelines = sorted(_PACKAGED.glob("*/dvc.yaml"))
        return {path.parent.name: path.parent for path in pipelines}
    found = {ROOT_EXAMPLE: _CHECKOUT} if (_CHECKOUT / "dvc.yaml").is_file() else {}
    others = sorted((_CHECKOUT / "examples").glob("*/dvc.yaml"))
    return found | {path.parent.name: path.parent for path in others}


def options() -> dict[str, Path]:
    """Return the stages that an experiment can have beside those of its example, by name: the folder of each."""
    packaged = _PACKAGE / "_options"
    folder = packaged if packaged.is_dir() else _CHECKOUT / "examples" / "options"
    found = sorted(folder.glob(f"*/{_STAGE}"))
    return {path.parent.name: path.parent for path in found}


def with_what_they_need(names: Sequence[str], known: Mapping[str, Path]) -> list[str]:
    """Return these optional stages, each behind those others whose outputs it reads.

    Raises
    ------
    UsageError
        If there is none of a name.
    """
    stages = {name: _read(folder / _STAGE)[name] for name, folder in known.items()}
    found: dict[str, None] = {}

    def add(name: str) -> None:
        if name not in stages:
            why = f"there are: {', '.join(known)}"
            raise UsageError(f"no stage named {name!r} can be added", why=why)
        for other, stage in stages.items():
            if not set(stage["outs"]).isdisjoint(stages[name]["deps"]):
                add(other)
        found[name] = None

    for name in names:
        add(name)
    return list(found)


def _read(file: Path) -> Any:
    import yaml

    return yaml.safe_load(file.read_text(encoding="utf-8"))


def _stages(pipeline: Path) -> Collection[str]:
    """Return the names of an example's stages."""
    return list(_read(pipeline)["stages"])


def files(example: str) -> dict[Path, Path]:
    """Return an example's files: the place of each in a new repository, and where it lies now.

    Raises
    ------
    UsageError
        If there is no such example.
    """
    known = examples()
    if example not in known:
        listed = ", ".join(known) or "none is installed"
        raise UsageError(f"no example named {example!r}", why=f"there are: {listed}")
    folder = known[example]
    if folder == _CHECKOUT:
        found = [path for pattern in _ROOT_FILES for path in folder.glob(pattern)]
        found += _below(folder / "examples" / example)
    else:
        found = list(_below(folder))
    placed = {path.relative_to(folder): path for path in found}
    # Every machines/ folder has the schema that its files name; only one copy is kept.
    if _SCHEMA not in placed and ROOT_EXAMPLE in known:
        placed[_SCHEMA] = known[ROOT_EXAMPLE] / _SCHEMA
    return dict(sorted(placed.items()))


def _below(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name in _UNWANTED:
            continue
        if path.is_dir():
            # What the pipeline makes: data/datastore.zarr, data/graph. A source has no
            # sibling of that kind.
            if path.parent.name == "data" and path.name in {"datastore.zarr", "graph"}:
                continue
            yield from _below(path)
        elif path.is_file():
            yield path


def init(
    directory: Path, example: str = ROOT_EXAMPLE, more: Sequence[str] = ()
) -> Path:
    """Start an experiment repository.

    Copies the example, makes a git and a DVC repository of the folder, and commits. If
    any of it fails, the folder is left as it was found.

    Parameters
    ----------
    directory : Path
        The folder: absent, empty, or a git repository without a commit.
    example : str
        Which example to start from.
    more : sequence of str
        Stages beside those of the example, from `options`; those whose outputs they
        read are added, too. Those that the example has are its own.

    Returns
    -------
    Path
        The new repository.

    Raises
    ------
    UsageError
        If the folder is not empty, there is no such example, or git doesn't know who
        commits.
    """
    placed = files(example)
    there = _stages(placed[Path("dvc.yaml")])
    known = {name: folder for name, folder in options().items() if name not in there}
    wanted = with_what_they_need([one for one in more if one not in there], known)
    directory = Path(os.path.abspath(directory))  # noqa: PTH100 - resolve() would follow a link given on purpose
    _refuse_what_is_there(directory)
    existing = next(path for path in (directory, *directory.parents) if path.is_dir())
    _refuse_nobody(existing)
    with _undone_on_failure(directory):
        _copy(placed, directory)
        for name in wanted:
            _add_stage(directory, known[name])
        _write(directory, directory.name, example)
        if not (directory / ".git").exists():
            _call(directory, "git", "init", "--quiet")
        _call(directory, sys.executable, "-m", "dvc", "init", "--quiet")
        (directory / ".dvc" / "config").write_text(_DVC_CONFIG, encoding="utf-8")
        _ignore_outputs(directory)
        _add(directory)
        message = f"Start from mllam-exps' example {example}"
        _call(directory, "git", "commit", "--quiet", "-m", message)
    return directory


def _refuse_what_is_there(directory: Path) -> None:
    if directory.is_symlink() and not directory.exists():
        raise UsageError("is a link that leads nowhere", where=str(directory))
    if not directory.exists():
        return
    where, way_out = str(directory), "name a folder that is absent or empty"
    if not directory.is_dir():
        raise UsageError("is a file", where=where, next=way_out)
    inside = {path.name for path in directory.iterdir()}
    if extra := sorted(inside - {".git"}):
        shown = ", ".join(extra[:3]) + (" …" if len(extra) > 3 else "")
        why = f"it holds {shown}"
        raise UsageError("is not empty", where=where, why=why, next=way_out)
    if ".git" in inside and _has_commits(directory):
        way_out = "name a folder without a history"
        raise UsageError("has commits already", where=where, next=way_out)


def _has_commits(directory: Path) -> bool:
    head = ("git", "rev-parse", "--verify", "--quiet", "HEAD")
    return _run(directory, *head).returncode == 0


def _refuse_nobody(folder: Path) -> None:
    """Refuse to start where git doesn't know whose commit it would be."""
    try:
        # By itself git would make a name up from the user's and the host's, and sign
        # experiments with it.
        ident = ("-c", "user.useConfigOnly=true", "var")
        done = [
            _run(folder, "git", *ident, f"GIT_{who}_IDENT")
            for who in ("AUTHOR", "COMMITTER")
        ]
    except FileNotFoundError:
        raise UsageError("git is not installed", next="install git") from None
    if any(one.returncode for one in done):
        raise UsageError(
            "git doesn't know who you are",
            why="the experiment's commits carry your name",
            next='git config --global user.name "Your Name"; git config --global user.email you@site.example',
        )


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


@contextmanager
def _undone_on_failure(directory: Path) -> Iterator[None]:
    """Leave the folder as it was found if anything fails: empty, or with a ``.git`` without a commit."""
    made = [path for path in (directory, *directory.parents) if not path.exists()]
    had_git = (directory / ".git").exists()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException as error:
        if directory.is_dir():
            _empty(directory, had_git=had_git)
        _remove_empty(made)
        if isinstance(error, OSError):
            where = str(error.filename or directory)
            why = error.strerror or str(error)
            raise UsageError("can't be written", where=where, why=why) from None
        raise


def _empty(directory: Path, *, had_git: bool) -> None:
    """Remove what is in a folder; of a ``.git`` that was there before, the index only."""
    for path in directory.iterdir():
        if path.name == ".git" and had_git:
            rm = ("git", "rm", "-r", "--cached", "--quiet", "--ignore-unmatch", ".")
            _run(directory, *rm)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _copy(placed: dict[Path, Path], directory: Path) -> None:
    for place, source in placed.items():
        target = directory / place
        target.parent.mkdir(parents=True, exist_ok=True)
        # The content alone: files of an installed package may be read-only.
        shutil.copyfile(source, target)


def _add_stage(directory: Path, option: Path) -> None:
    """Put an option's stage below those of ``dvc.yaml``, as text, and its files beside the others."""
    pipeline = directory / "dvc.yaml"
    lines = pipeline.read_text(encoding="utf-8").splitlines(keepends=True)
    begin = lines.index("stages:\n") + 1
    end = begin
    for number in range(begin, len(lines)):
        if lines[number].startswith(" "):
            end = number + 1
        elif lines[number].strip():
            break
    stage = (option / _STAGE).read_text(encoding="utf-8")
    text = [*lines[:end], "\n", stage, *lines[end:]]
    pipeline.write_text("".join(text), encoding="utf-8")
    found = {path.relative_to(option): path for path in _below(option)}
    del found[Path(_STAGE)]
    _copy(found, directory)


def _write(directory: Path, name: str, example: str) -> None:
    (directory / "logs").mkdir(exist_ok=True)
    (directory / "logs" / ".gitkeep").touch()
    (directory / ".gitignore").write_text(_GITIGNORE, encoding="utf-8")
    readme = directory / "README.md"
    if not readme.exists():
        readme.write_text(_README.format(name=name, example=example), encoding="utf-8")


def _ignore_outputs(directory: Path) -> None:
    """Let git ignore what DVC will keep, as DVC itself writes it.

    DVC (3.67) writes these lines at the end of an experiment, and not where a stage
    fails: the `git add --all` after that would commit a dataset.
    """
    import yaml

    stages = yaml.safe_load((directory / "dvc.yaml").read_text(encoding="utf-8"))[
        "stages"
    ]
    for stage in stages.values():
        for out in [*stage.get("outs", []), *stage.get("plots", [])]:
            path, options = (
                next(iter(out.items())) if isinstance(out, dict) else (out, {})
            )
            if (options or {}).get("cache", True):
                place = directory / path
                place.parent.mkdir(parents=True, exist_ok=True)
                with (place.parent / ".gitignore").open("a", encoding="utf-8") as file:
                    file.write(f"/{place.name}\n")


def _add(directory: Path) -> None:
    """Put everything into git that is here now, whatever the user's own rules ignore (``*.nc``, ``*.zarr``, say)."""
    every = ("--cached", "--others", "--exclude-per-directory=.gitignore")
    listed = _run(directory, "git", "ls-files", *every, "-z").stdout
    files = [file for file in listed.split("\0") if file]
    _call(directory, "git", "add", "--all", "--force", "--", *files)


def _run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    # GIT_DIR and its like, as set inside a hook, would send git to another repository.
    kept = ("GIT_AUTHOR", "GIT_COMMITTER", "GIT_CONFIG")
    environ = child_environment(os.environ)
    for name in list(environ):
        if name.startswith("GIT_") and not name.startswith(kept):
            del environ[name]
    return subprocess.run(
        command,
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def _call(folder: Path, *command: str) -> None:
    done = _run(folder, *command)
    if done.returncode:
        # `python -m dvc` is shown as people type it.
        words = command[2:] if command[0] == sys.executable else command
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        why = said[-1] if said else ""
        raise UsageError(f"`{' '.join(words)}` failed", where=str(folder), why=why)
