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
        for k in stage.get("matrix", {}).get("k", [None]):
            text = json.dumps(stage)
            entry = json.loads(text.replace("${item.k}", k) if k else text)
            found[f"{name}@{k}" if k else name] = entry
    return found


def outs_of(stage: dict[str, Any]) -> dict[str, bool]:
    """Return a stage's outputs as ``dvc.yaml`` names them: whether DVC's cache holds them."""
    return dict.fromkeys(stage["outs"], True) | {
        name: False for metric in stage["metrics"] for name in metric
    }


def make(
    root: Path, stages: dict[str, dict[str, Any]], given: Callable[[str], bool]
) -> None:
    """Make all outputs anew, in a checkout.

    Parameters
    ----------
    given : callable
        Lays out what was saved of a stage that makes something else each time; False
        where nothing was.
    """
    for stage in stages.values():
        for out in outs_of(stage):
            place = root / stage.get("wdir", ".") / out
            if place.is_dir():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)
    left = dict(stages)
    while left:
        for name, stage in left.items():
            folder = root / stage.get("wdir", ".")
            if all((folder / dep).exists() for dep in stage["deps"]):
                folder.mkdir(exist_ok=True)
                if "--nonce" not in stage["cmd"] or not given(name):
                    digest.main(shlex.split(stage["cmd"])[2:], folder)
                del left[name]
                break
        else:
            raise AssertionError(
                f"the test's own pipeline cannot be run: {sorted(left)}"
            )


def md5(path: Path) -> str:
    """Return the hash of a file, or of a folder, as DVC defines it."""
    if path.is_file():
        return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    files = sorted(f for f in path.rglob("*") if f.is_file())
    listing = [
        {"md5": md5(f), "relpath": f.relative_to(path).as_posix()} for f in files
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
        Objects that somebody has taken from the cache.
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

    def given(name: str) -> bool:
        entry, folder = locked.get(name), stages[name].get("wdir", ".")
        for out in entry["outs"] if entry else ():
            if not outs_of(stages[name]).get(out["path"]):
                shutil.copy(saved / folder / out["path"], true / folder / out["path"])
            elif not _lay_out(cache, out["md5"], true / folder / out["path"]):
                unknowable.add(name)
                return False
        return entry is not None

    make(true, stages, given)
    # What made something else each time, and was taken from the cache, nobody can tell.
    for name in sorted(asked_for(stages, target) - that_need(stages, unknowable)):
        if name not in locked:
            yield f"{name} is not in dvc.lock"
            continue
        stage = stages[name]
        entry, folder = locked[name], stage.get("wdir", ".")
        if entry["cmd"] != stage["cmd"]:
            yield f"{name}: dvc.lock has another command"
        deps = {dep["path"]: dep["md5"] for dep in entry["deps"]}
        outs = {out["path"]: out["md5"] for out in entry["outs"]}
        if deps.keys() != set(stage["deps"]) or outs.keys() != outs_of(stage).keys():
            yield f"{name}: dvc.lock names other inputs or outputs"
        for path, found in [*deps.items(), *outs.items()]:
            if found != md5(true / folder / path):
                yield f"{name}: dvc.lock has another {path} than its files give"
        for path, cached in outs_of(stage).items():
            if cached:
                yield from _cached(cache, outs[path], f"{name}: {path}", lost)
            elif (saved / folder / path).read_bytes() != (
                true / folder / path
            ).read_bytes():
                yield f"{name}: {path} is not what its files give"
        for file, values in entry.get("params", {}).items():
            for key, value in values.items():
                if repr(value) != digest.value(saved / folder, file, key):
                    yield f"{name}: dvc.lock has {value!r} for {file}:{key}"


def _lay_out(cache: Path, found: str, place: Path) -> bool:
    """Copy what DVC's cache has of an output; False where somebody has taken any of it."""
    held = cache / "files/md5" / found[:2] / found[2:]
    if not held.is_file():
        return False
    if found.endswith(".dir"):
        return all(
            _lay_out(cache, file["md5"], place / file["relpath"])
            for file in json.loads(held.read_bytes())
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(held, place)
    return True


def _cached(cache: Path, found: str, what: str, lost: Set[str]) -> Iterator[str]:
    """Yield what is wrong with an object of DVC's cache."""
    place = cache / "files/md5" / found[:2] / found[2:]
    if not place.is_file() and found in lost:
        return
    if not place.is_file():
        yield f"{what} is not in the cache"
    elif hashlib.md5(
        place.read_bytes(), usedforsecurity=False
    ).hexdigest() != found.removesuffix(".dir"):
        yield f"{what}: its object in the cache is damaged"
    elif found.endswith(".dir"):
        for file in json.loads(place.read_bytes()):
            yield from _cached(cache, file["md5"], f"{what}/{file['relpath']}", lost)


def clean(folder: Path) -> None:
    """Remove a folder, read-only files included."""
    for path in folder.rglob("*") if os.geteuid() else ():
        path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
