"""Parts of folders, as DVC's cache lists them: for a stage that reads a file inside of what another one makes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mllam_exps import outputs
from mllam_exps.content import digest_of_folder

if TYPE_CHECKING:
    from mllam_exps.dvc_cache import Cache
    from mllam_exps.store import Run


def below(files: Iterable[Mapping[str, Any]], inside: str) -> list[dict[str, Any]]:
    """Return the files below a folder inside another one, named as seen from there.

    Parameters
    ----------
    files : iterable of mapping
        ``{"md5": …, "relpath": …}`` of each file.
    """
    found = (file for file in files if str(file["relpath"]).startswith(f"{inside}/"))
    return [dict(file) | {"relpath": file["relpath"][len(inside) + 1 :]} for file in found]


def part(cache: Cache, whole: str, inside: str) -> dict[str, Any] | None:
    """Describe a file or folder inside a folder that DVC's cache holds; None where it is not there.

    Parameters
    ----------
    whole : str
        The folder's digest.
    inside : str
        The part, seen from the folder.
    """
    if not whole.endswith(".dir") or not cache.holds(whole):
        return None
    files = json.loads(cache.path(whole).read_bytes())
    for file in files:
        if file["relpath"] == inside:
            return {"digest": file["md5"], "size": _size(cache, [file]), "files": None}
    found = below(files, inside)
    if not found:
        return None
    digest, listing = digest_of_folder(found)
    # DVC lists whole outputs only. With a list of its own the part can be checked out as any other folder.
    if not cache.holds(digest):
        cache.add_listing(digest, listing)
    return {"digest": digest, "size": _size(cache, found), "files": len(found)}


def known_digest(run: Run, path: str) -> str | None:
    """Return the digest of an output of a finished run, or of a part of one; None where there is none."""
    if digest := outputs.known_digest(run, path):
        return digest
    whole = next((out for out in (run.result or {"outputs": ()})["outputs"] if path.startswith(f"{out}/")), None)
    if whole is None:
        return None
    manifest = outputs.result_attempt(run).manifest
    files = (manifest.get(whole) or {}).get("files") or []
    inside = path.removeprefix(f"{whole}/")
    for file in files:
        if file["relpath"] == inside:
            return str(file["md5"])
    found = below(files, inside)
    return digest_of_folder(found)[0] if found else None


def _size(cache: Cache, files: Iterable[Mapping[str, Any]]) -> int | None:
    """Return the bytes of files; None where one of them is gone."""
    try:
        return sum(cache.path(str(file["md5"])).stat().st_size for file in files)
    except OSError:
        return None
