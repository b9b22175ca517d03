"""What a saved experiment should hold, worked out from its commit alone; and whether it does."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Iterator, Set
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from support.oracle import digest


def check_out(repository: Path, commit: str, target: Path) -> None:
    """Write the files of a commit."""
    done = subprocess.run(
        ["git", "-C", str(repository), "archive", commit],
        capture_output=True,
        check=True,
    )
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(target, filter="tar")


def expanded(pipeline: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the stages, each matrix as several."""
    found = {}
    for name, stage in pipeline["stages"].items():
        body = stage.get("do", stage)
        for k in stage.get("foreach") or stage.get("matrix", {}).get("k", [None]):
            text = json.dumps(body)
            for item in ("${item.k}", "${item}") if k else ():
                text = text.replace(item, k)
            found[f"{name}@{k}" if k else name] = json.loads(text)
    return found


def outs_of(stage: dict[str, Any]) -> dict[str, bool]:
    """Return a stage's outputs as ``dvc.yaml`` names them: whether DVC's cache holds them."""
    found = {}
    for out in [*stage["outs"], *stage["metrics"]]:
        for name, options in (out if isinstance(out, dict) else {out: {}}).items():
            found[name] = options.get("cache", True)
    return found


def commands_of(stage: dict[str, Any]) -> list[str]:
    """Return a stage's commands."""
    return stage["cmd"] if isinstance(stage["cmd"], list) else [stage["cmd"]]


def make(
    root: Path,
    stages: dict[str, dict[str, Any]],
    given: Callable[[str], None],
    scratch: Path,
) -> None:
    """Make all outputs anew, in a checkout.

    Each program runs in a copy of what git keeps and no stage makes, with its inputs.

    Parameters
    ----------
    given : callable
        Writes what was saved of a stage that makes something else each time into its
        outputs.
    scratch : Path
        Where the copies lie.
    """
    for stage in stages.values():
        for out in outs_of(stage):
            _remove(root / stage.get("wdir", ".") / out)
    bare = scratch / "bare"
    shutil.copytree(root, bare, symlinks=True)
    left = dict(stages)
    while left:
        for name, stage in left.items():
            below = stage.get("wdir", ".")
            if all((root / below / dep).exists() for dep in stage["deps"]):
                (root / below).mkdir(exist_ok=True)
                _run(stage, root, bare, scratch / f"work-{name}")
                if "--nonce" in str(stage["cmd"]):
                    given(name)
                del left[name]
                break
        else:
            raise AssertionError(
                f"the test's own pipeline cannot be run: {sorted(left)}"
            )


def _run(stage: dict[str, Any], root: Path, bare: Path, work: Path) -> None:
    """Run a program in a folder of its own, and take from there what it makes."""
    below = stage.get("wdir", ".")
    shutil.copytree(bare, work, symlinks=True)
    (work / below).mkdir(exist_ok=True)
    for dep in stage["deps"]:
        _bring(root / below / dep, work / below / dep)
    for command in commands_of(stage):
        digest.main(shlex.split(command)[2:], work / below)
    for out in outs_of(stage):
        _bring(work / below / out, root / below / out)


def _bring(source: Path, target: Path) -> None:
    """Copy a file, or a folder as it is, with its modes."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy2(source, target)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def md5(path: Path) -> str:
    """Return the hash of a file, or of a folder, as DVC defines it."""
    if path.is_file():
        return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    files = [f for f in path.rglob("*") if f.is_file()]
    listing = [
        {"md5": md5(f), "relpath": f.relative_to(path).as_posix()}
        for f in files
        if digest.counts(f.relative_to(path))
    ]
    listing.sort(key=lambda f: f["relpath"])
    return (
        hashlib.md5(
            json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False
        ).hexdigest()
        + ".dir"
    )


def asked_for(stages: dict[str, dict[str, Any]], target: str) -> set[str]:
    """Return the stages that a submission of one stage makes: it, or all of its matrix, and what they need."""
    if not target:
        return set(stages)
    places = {name: _places(stage, outs_of(stage)) for name, stage in stages.items()}
    asked = {name for name in stages if name.partition("@")[0] == target}
    while True:
        read = {
            path
            for name in asked
            for path in _places(stages[name], stages[name]["deps"])
        }
        more = {
            name
            for name, made in places.items()
            if any(_touch(m, path) for m in made for path in read)
        }
        if more <= asked:
            return asked
        asked |= more


def that_need(stages: dict[str, dict[str, Any]], names: Set[str]) -> set[str]:
    """Return stages, and those that read what they make, directly or through others."""
    found = set(names)
    while True:
        made = {
            path
            for name in found
            for path in _places(stages[name], outs_of(stages[name]))
        }
        more = {
            name
            for name, stage in stages.items()
            if any(
                _touch(m, path) for path in _places(stage, stage["deps"]) for m in made
            )
        }
        if more <= found:
            return found
        found |= more


def _places(stage: dict[str, Any], paths: Iterable[str]) -> list[str]:
    return [os.path.normpath(f"{stage.get('wdir', '.')}/{path}") for path in paths]


def _touch(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def falsehoods(
    repository: Path,
    commit: str,
    target: str,
    cache: Path,
    scratch: Path,
    lost: Set[str],
) -> Iterator[str]:
    """Yield what is not true of a saved experiment.

    Parameters
    ----------
    target : str
        The stage that was asked for; none is all.
    cache : Path
        DVC's.
    scratch : Path
        An empty folder.
    lost : set of str
        Objects that somebody has taken from the cache, or damaged, since.
    """
    saved, true = scratch / "saved", scratch / "true"
    check_out(repository, commit, saved)
    shutil.copytree(saved, true, symlinks=True)
    stages = expanded(
        YAML(typ="safe").load((saved / "dvc.yaml").read_text(encoding="utf-8"))
    )
    locked = YAML(typ="safe").load((saved / "dvc.lock").read_text(encoding="utf-8"))[
        "stages"
    ]

    unknowable: set[str] = set()

    def given(name: str) -> None:
        entry, folder = locked.get(name), stages[name].get("wdir", ".")
        for out in entry["outs"] if entry else ():
            place = true / folder / out["path"]
            if outs_of(stages[name]).get(out["path"]):
                if not _lay_out(cache, out["md5"], place):
                    unknowable.add(name)
            elif place.is_dir():
                shutil.copytree(
                    saved / folder / out["path"],
                    place,
                    dirs_exist_ok=True,
                    copy_function=shutil.copyfile,
                )
            else:
                shutil.copyfile(saved / folder / out["path"], place)

    make(true, stages, given, scratch)
    # What made something else each time, and was taken from the cache, nobody can tell.
    unknown = that_need(stages, unknowable)
    for name in sorted(asked_for(stages, target)):
        if name not in locked:
            yield f"{name} is not in dvc.lock"
            continue
        stage = stages[name]
        entry, folder = locked[name], stage.get("wdir", ".")
        for out in entry["outs"]:
            if outs_of(stage).get(out["path"]):
                yield from _cached(cache, out["md5"], f"{name}: {out['path']}", lost)
        if name in unknown:
            continue
        if entry["cmd"] != stage["cmd"]:
            yield f"{name}: dvc.lock has another command"
        deps = {dep["path"]: _noted(dep) for dep in entry["deps"]}
        outs = {out["path"]: _noted(out) for out in entry["outs"]}
        if deps.keys() != set(stage["deps"]) or outs.keys() != outs_of(stage).keys():
            yield f"{name}: dvc.lock names other inputs or outputs"
        for path, found in [*deps.items(), *outs.items()]:
            if found != noted(true / folder / path):
                yield f"{name}: dvc.lock has another {path} than its files give"
        for path, cached in outs_of(stage).items():
            mine, right = saved / folder / path, true / folder / path
            if not cached and noted(mine) != noted(right):
                yield f"{name}: {path} is not what its files give"
        for file, values in entry.get("params", {}).items():
            for key, value in values.items():
                if repr(value) != digest.value(saved / folder, file, key):
                    yield f"{name}: dvc.lock has {value!r} for {file}:{key}"


def noted(path: Path) -> tuple[str, bool]:
    """Return what DVC notes of a file or folder: its hash, and whether it is a file that may be executed."""
    return md5(path), path.is_file() and digest.executable(path)


def _noted(entry: dict[str, Any]) -> tuple[str, bool]:
    return entry["md5"], entry.get("isexec", False)


def _lay_out(cache: Path, found: str, place: Path) -> bool:
    """Write what DVC's cache has of an output; False where somebody has taken any of it."""
    held = cache / "files/md5" / found[:2] / found[2:]
    if not held.is_file() or md5(held) != found.removesuffix(".dir"):
        return False
    if found.endswith(".dir"):
        return all(
            _lay_out(cache, file["md5"], place / file["relpath"])
            for file in json.loads(held.read_bytes())
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(held.read_bytes())
    return True


def _cached(cache: Path, found: str, what: str, lost: Set[str]) -> Iterator[str]:
    """Yield what is wrong with an object of DVC's cache."""
    place = cache / "files/md5" / found[:2] / found[2:]
    if found in lost:
        return
    if not place.is_file():
        yield f"{what} is not in the cache"
    elif md5(place) != found.removesuffix(".dir"):
        yield f"{what}: its object in the cache is damaged"
    elif found.endswith(".dir"):
        for file in json.loads(place.read_bytes()):
            yield from _cached(cache, file["md5"], f"{what}/{file['relpath']}", lost)


def clean(folder: Path) -> None:
    """Remove a folder, read-only files included."""
    for path in folder.rglob("*") if os.geteuid() else ():
        path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
