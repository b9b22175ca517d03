"""What ``data/verification_params.yaml`` asks for, and what of it cannot be."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from mllam_exps.base import yaml_files
from mllam_exps.base.errors import MllamError, UsageError, did_you_mean
from mllam_exps.stages.neural_lam.file_names import FORECASTS, VERIFICATION
from mllam_exps.stages.neural_lam.parameters.datastore_file import section
from mllam_exps.stages.neural_lam.parameters.params import given as given_in
from mllam_exps.verification.differences import COMMON, PAIRWISE
from mllam_exps.verification.scorecard import CLIMATOLOGY, PERSISTENCE

DEFAULTS: Mapping[str, Any] = {
    "name": "experiment",
    "forecasts": FORECASTS,
    "compare": {},
    "variables": [],
    "regions": {},
    "spectra_hours": [],
    "cases": COMMON,
}
OURS = (PERSISTENCE, CLIMATOLOGY, "interior")
"""Names that have a meaning."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_BOX = ("latitude", "longitude")


def told(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the file says, with our values where it says nothing."""
    return {**DEFAULTS, **given_in(values)}


def read(root: Path) -> dict[str, Any]:
    """Read the file below `root`.

    Raises
    ------
    UsageError
        If it is missing, or not YAML.
    """
    return yaml_files.read(root / VERIFICATION, VERIFICATION)


def regions(root: Path) -> dict[str, Any]:
    """Return the regions that the stage `verify` is asked for; none where the repository has no such stage."""
    pipeline = root / "dvc.yaml"
    if not pipeline.exists():
        return {}
    stages = section(yaml_files.read(pipeline, by_pyyaml=True), "stages")
    if "verify" not in stages:
        return {}
    return dict(told(read(root))["regions"])


def key_of(source: str, values: Mapping[str, Any]) -> str:
    """Return the key that names what the scoring calls so: a source of forecasts, or a region; empty of another."""
    given = told(values)
    named = {f"region {name}": f"regions.{name}" for name in given["regions"]}
    named |= {name: f"compare.{name}" for name in given["compare"]}
    named[given["name"]] = "forecasts"
    return named.get(source, "")


def paths(values: Mapping[str, Any]) -> dict[str, str]:
    """Return where the forecasts lie, by the name of their source; the experiment's own first."""
    given = told(values)
    return {given["name"]: given["forecasts"], **given["compare"]}


def check(values: Mapping[str, Any]) -> list[MllamError]:
    """Return everything that is wrong with the file, without opening any data."""
    problems = []
    for key in values:
        if key not in DEFAULTS:
            what = f"unknown key{did_you_mean(key, DEFAULTS)}"
            problems.append(UsageError(what, f"{VERIFICATION}: {key}"))
    given = told(values)
    found = (*_of_sources(given), *_of_regions(given["regions"]), *_of_lists(given))
    return [
        *problems,
        *(UsageError(what, f"{VERIFICATION}: {key}") for key, what in found),
    ]


def check_deps(values: Mapping[str, Any], root: Path) -> list[MllamError]:
    """Return which forecasts are no input of the stage: they would not count, and not be where it runs.

    Parameters
    ----------
    root : Path
        The repository; where its ``dvc.yaml`` has no stage `verify`, one of
        ``foreach``, or one whose inputs are filled in by DVC, nothing is said.
    """
    pipeline = yaml_files.read(root / "dvc.yaml", by_pyyaml=True)
    deps = section(section(pipeline, "stages"), "verify").get("deps")
    if not isinstance(deps, list):
        return []
    known = {posixpath.normpath(one) for one in deps if isinstance(one, str)}
    if any("${" in one for one in known):
        return []
    given = told(values)
    named = {"forecasts": given["forecasts"]}
    named |= {f"compare.{name}": path for name, path in given["compare"].items()}
    problems: list[MllamError] = []
    for key, path in named.items():
        place = PurePosixPath(posixpath.normpath(path))
        if not known & {str(one) for one in (place, *place.parents)}:
            what = f"{path} is none of the deps of verify in dvc.yaml"
            way_out = f"add `- {path}` to them"
            problems.append(UsageError(what, f"{VERIFICATION}: {key}", next=way_out))
    return problems


def _of_sources(given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with names and paths, by key."""
    own, compared = given["name"], given["compare"]
    yield from _of_name("name", own)
    yield from _of_path("forecasts", given["forecasts"])
    if not isinstance(compared, Mapping):
        yield "compare", "must hold lines of `name: path`"
        return
    for name, path in compared.items():
        yield from _of_name(f"compare.{name}", name)
        yield from _of_path(f"compare.{name}", path)
        if name == own:
            yield f"compare.{name}", "is the name of the experiment's own forecasts"
    if given["cases"] not in {COMMON, PAIRWISE}:
        yield "cases", f"must be {COMMON} or {PAIRWISE}, not {given['cases']!r}"


def _of_name(key: str, name: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        yield (
            key,
            f"a name has letters, digits, - _ and . only, {name!r} has others or none",
        )
    elif name in OURS:
        yield key, f"{name} is a name of ours: take another one"


def _of_path(key: str, path: Any) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a path: what lies outside of the repository would not count for the result."""
    if not isinstance(path, str) or not path:
        yield key, f"must be the path of a zarr, not {path!r}"
        return
    inside = not posixpath.isabs(path) and "://" not in path
    if not inside or PurePosixPath(posixpath.normpath(path)).parts[:1] == ("..",):
        yield (
            key,
            (
                f"{path} lies outside of the repository, so its content would not count: "
                "link it into it, and name it among the deps of verify in dvc.yaml"
            ),
        )


def _of_regions(regions: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(regions, Mapping):
        yield "regions", "must hold names, with latitude and longitude of each"
        return
    for name, box in regions.items():
        key = f"regions.{name}"
        yield from _of_name(key, name)
        if not isinstance(box, Mapping) or set(box) != {*_BOX}:
            yield key, "must hold latitude: [from, to] and longitude: [from, to]"
            continue
        for side in _BOX:
            if not _are_numbers(box[side]) or len(box[side]) != 2:
                yield f"{key}.{side}", f"must be two numbers, not {box[side]!r}"
            elif side == "latitude" and box[side][0] > box[side][1]:
                yield f"{key}.{side}", f"goes from south to north, not {box[side]!r}"


def _of_lists(given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    names, hours = given["variables"], given["spectra_hours"]
    if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
        yield "variables", f"must be a list of names, not {names!r}"
    if not _are_numbers(hours) or any(one <= 0 for one in hours):
        yield "spectra_hours", f"must be a list of hours, not {hours!r}"


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(
        isinstance(one, int | float) and not isinstance(one, bool) for one in values
    )
