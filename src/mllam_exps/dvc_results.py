"""What DVC itself knows of a stage's result: by ``dvc.lock``, or by its run cache.

So a dataset that a colleague pushed, or that was made before there was a run store, is not made again.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllam_exps.outputs import describe

if TYPE_CHECKING:
    from mllam_exps.pipeline import Pipeline

Known = dict[str, dict[str, Any]]
"""By output: its digest, size in bytes and number of files, as ``result.json`` has them."""


def known(pipeline: Pipeline, name: str) -> Known | None:
    """Return the outputs of stage `name` as it is now, if DVC has them; nothing is checked out, and nothing hashed.

    The digests of its inputs come from the run store, or from what DVC knows of the stages that make them.
    """
    from dvc.stage.cache import _get_cache_hash
    from dvc.stage.serialize import to_single_stage_lockfile
    from dvc_data.hashfile.hash_info import HashInfo

    stage = pipeline.dvc_stage(name)
    if stage.always_changed or stage.is_callback or not (stage.cmd and stage.deps and stage.outs):
        return None
    locked = _locked(pipeline.root, name)
    definition = pipeline.definition(name)
    digests = {i.path: i.digest or pipeline.digest_of(i) for i in definition.inputs}
    if None in digests.values():
        return None
    for dep in stage.deps:
        if dep.hash_name == "params":
            file = Path(dep.fs_path).relative_to(pipeline.root).as_posix()
            dep.hash_info = HashInfo("params", dict(definition.params[file]))
        else:
            path = pipeline.relative(dep.fs_path)
            if path not in digests:
                return None  # a folder with other stages' outputs in it
            dep.hash_info = HashInfo("md5", digests[path])
    # The run cache's own name for "this command, on these inputs and parameters, for these outputs" (DVC 3.67).
    now = to_single_stage_lockfile(stage)
    key = _get_cache_hash(copy.deepcopy(now), key=True)
    for candidate in _candidates(stage, key, locked):
        if _identity(candidate) == _identity(now) and _is_there(pipeline, stage, candidate):
            below = Path(stage.wdir).relative_to(pipeline.root)
            return {
                (below / out["path"]).as_posix(): {
                    "digest": out["md5"],
                    "size": out.get("size"),
                    "files": out.get("nfiles", 1),
                }
                for out in candidate["outs"]
            }
    return None


def _identity(entry: dict[str, Any]) -> tuple[Any, ...]:
    """Return what has to be the same for the same result.

    DVC's own digest (3.67) leaves out whatever is called `size` or `nfiles`, parameters of that name included.
    """
    deps = {dep["path"]: dep.get("md5") for dep in entry.get("deps", ())}
    params = {file: dict(values) for file, values in entry.get("params", {}).items()}
    return entry["cmd"], deps, params, sorted(out["path"] for out in entry["outs"])


def _locked(root: Path, name: str) -> dict[str, Any] | None:
    """Return what ``dvc.lock`` says of a stage; DVC's own objects may have been given other hashes since."""
    from dvc.utils.serialize import load_yaml

    try:
        found: dict[str, Any] | None = load_yaml(str(root / "dvc.lock"))["stages"].get(name)
    except Exception:
        return None
    return found


def _candidates(stage: Any, key: str, locked: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    from dvc.utils.serialize import load_yaml

    if locked is not None:
        yield locked
    folder = Path(stage.repo.stage_cache.cache_dir) / key[:2] / key
    for entry in sorted(folder.glob("*"), key=lambda path: path.stat().st_mtime, reverse=True):
        with contextlib.suppress(Exception):  # DVC has a class of its own for each way in which it can be broken
            yield load_yaml(str(entry))


def _is_there(pipeline: Pipeline, stage: Any, candidate: dict[str, Any]) -> bool:
    """Tell whether every output is in DVC's cache, or, where git keeps it, in the checkout."""
    kept_by_git = {out.def_path for out in stage.outs if not out.use_cache}
    for out in candidate["outs"]:
        if _in_cache(pipeline.repo.cache.local, out["md5"]):
            continue
        path = Path(stage.wdir) / out["path"]
        if out["path"] not in kept_by_git or not path.exists() or describe(path)["digest"] != out["md5"]:
            return False
    return True


@functools.lru_cache(maxsize=64)
def _in_cache(cache: Any, digest: str) -> bool:
    """Tell whether a file, or all of a folder, is in the cache."""
    if not cache.exists(digest):
        return False
    if not digest.endswith(".dir"):
        return True
    listed = json.loads(Path(cache.oid_to_path(digest)).read_bytes())
    return all(cache.exists(file["md5"]) for file in listed)
