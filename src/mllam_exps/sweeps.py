"""``-S``, with the grammar of ``dvc exp run``: which experiments it means, and their parameter files.

DVC reads it with Hydra; so do we, through DVC.
"""

from __future__ import annotations

import difflib
import os
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from mllam_exps.clones import git
from mllam_exps.errors import UsageError

LONGEST_NAME = 200
"""git keeps a ref in a file of its name, and a lock beside it; a sweep's experiments are counted."""

Overrides = dict[str, list[str]]
"""By parameter file, what is set in it."""


@dataclass(frozen=True)
class Variant:
    """One experiment of a sweep: what is set, and the name that the user gave, if any."""

    overrides: Overrides
    name: str


def variants(set_params: Sequence[str], name: str, inside: Path) -> list[Variant]:
    """Return the experiments that the options mean.

    Parameters
    ----------
    set_params : sequence of str
        The values of ``-S``.
    name : str
        The value of ``-n``; those of a sweep are counted, as DVC does.
    inside : Path
        Where the command is typed, seen from the repository's root: paths in ``-S`` start there.

    Raises
    ------
    UsageError
        If Hydra cannot read it.
    """
    if not set_params:
        return [Variant({}, name)]
    from dvc.exceptions import DvcException
    from dvc.utils.cli_parse import to_path_overrides
    from dvc.utils.hydra import get_hydra_sweeps, to_hydra_overrides
    from hydra.errors import HydraException

    by_file: Overrides = {}
    for path, words in to_path_overrides(set_params).items():
        by_file.setdefault(_inside(path, inside), []).extend(words)
    try:
        sweeping = any(o.is_sweep_override() for words in by_file.values() for o in to_hydra_overrides(words))
        found = get_hydra_sweeps(by_file)
    except (DvcException, HydraException) as error:
        why = " ".join(str(error).split())
        raise UsageError("cannot be read", f"-S {' -S '.join(set_params)}", why, _GRAMMAR) from error
    if not sweeping:
        return [Variant(by_file, name)]
    overrides = [{file: list(words) for file, words in one.items()} for one in found]
    if not overrides:
        raise UsageError("means no value, and so no experiment", f"-S {' -S '.join(set_params)}", next=_GRAMMAR)
    return [Variant(one, f"{name}-{n}" if name else "") for n, one in enumerate(overrides, 1)]


_GRAMMAR = "-S [FILE:]KEY=VALUE, KEY=1,2,4, 'KEY=range(1,5)', +KEY=VALUE for a key that the file lacks"


def _inside(path: str, inside: Path) -> str:
    normal = os.path.normpath(inside / path)
    if normal.startswith("..") or Path(normal).is_absolute():
        raise UsageError("lies outside of the repository", f"-S {path}")
    return normal


def apply(root: Path, overrides: Mapping[str, list[str]], hydra: Mapping[str, str]) -> None:
    """Write the parameters into the files of a checkout.

    Parameters
    ----------
    hydra : mapping
        DVC's configuration of that name: with ``enabled`` Hydra composes ``params.yaml``.

    Raises
    ------
    UsageError
        Naming the parameter.
    """
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import apply_overrides, compose_and_dump
    from hydra.errors import HydraException

    composed = "params.yaml" if hydra.get("enabled") else None
    # Composition happens without any -S, too.
    first: Overrides = {composed: []} if composed else {}
    for file, words in (first | dict(overrides)).items():
        path = root / file
        try:
            if file == composed:
                _alone(path)
                module = hydra.get("config_module")
                where = None if module else str(root / hydra.get("config_dir", "conf"))
                plugins = str(root / hydra.get("plugins_path", ""))
                compose_and_dump(path, where, module, hydra.get("config_name", "config"), plugins, words)
            elif not path.is_file():
                raise UsageError("there is no such file", f"-S {file}:{words[0]}", next=_other_file(root, file, words))
            else:
                _alone(path)
                apply_overrides(path, words)
        except (DvcException, HydraException) as error:
            why = " ".join(str(error.__cause__ or error).split())
            way_out = _elsewhere(root, file, words) or _near(path, words) or _GRAMMAR
            raise UsageError("cannot be set", f"-S {file}:{' '.join(words)}", why, way_out) from error
        except KeyError as error:
            raise UsageError("is no file of parameters", f"-S {file}", f"its name ends in {error}") from error


def _elsewhere(root: Path, file: str, words: list[str]) -> str:
    """Name the parameter file that has a key, where it was looked for in another: in params.yaml, mostly."""
    for other in sorted(name for name in _tracked(root) - {file} if Path(name).suffix in {".yaml", ".yml"}):
        known = _keys(yaml.safe_load((root / other).read_text(encoding="utf-8")))
        for word in words:
            if word.partition("=")[0] in known:
                return f"did you mean {other}:{word}?"
    return ""


def _other_file(root: Path, file: str, words: list[str]) -> str:
    """Name the parameter file that was meant, where there is none of that name: its folder was left out, mostly."""
    known = sorted(name for name in {"params.yaml"} | _tracked(root) if (root / name).is_file())
    by_stem = {Path(name).stem: name for name in reversed(known)}
    near = difflib.get_close_matches(Path(file).stem, by_stem, 1)
    return f"did you mean {by_stem[near[0]]}:{words[0]}?" if near else ""


def _tracked(root: Path) -> set[str]:
    """Return the parameter files that stages name, and that are there."""
    stages = (yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8")) or {}).get("stages") or {}
    entries = (entry for stage in stages.values() for entry in stage.get("params") or () if isinstance(entry, dict))
    return {name for entry in entries for name in entry if (root / name).is_file()}


def _near(path: Path, words: list[str]) -> str:
    """Say which key was meant, where one that the file lacks is nearly right."""
    known = _keys(yaml.safe_load(path.read_text(encoding="utf-8"))) if path.suffix in {".yaml", ".yml"} else []
    for word in words:
        key = word.partition("=")[0]
        if key.startswith("+") and key.lstrip("+") in known:
            return f"{word.lstrip('+')}: the file has that key"
        if key not in known and (near := difflib.get_close_matches(key, known, 1)):
            return f"did you mean {near[0]}? (+{word} adds the key)"
    return ""


def _keys(values: object, prefix: str = "") -> list[str]:
    if not isinstance(values, dict):
        return []
    names = [(f"{prefix}{key}", value) for key, value in values.items()]
    return [found for name, value in names for found in [name, *_keys(value, f"{name}.")]]


def _alone(path: Path) -> None:
    """Make a file no other's hard link: it is about to be written in place."""
    path = path.resolve()
    if path.is_file():
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)


def saved_in_git(origin: Path, baseline: str) -> dict[str, str]:
    """Return the DVC experiments that start from a commit: their own commits, by name."""
    start = f"refs/exps/{baseline[:2]}/{baseline[2:]}/"
    found = git(origin, "for-each-ref", "--format=%(objectname) %(refname)", start)
    pairs = (line.split(" ", 1) for line in found.splitlines())
    return {ref.removeprefix(start): commit for commit, ref in pairs}


def check_name(name: str) -> None:
    """Refuse a name that DVC or git would.

    Raises
    ------
    UsageError
        With what is wrong.
    """
    if len(name.encode()) > LONGEST_NAME:
        raise UsageError("is too long for an experiment's name", f"-n {name[:20]}…", f"{LONGEST_NAME} bytes fit")
    command = ["git", "check-ref-format", f"refs/exps/00/{'0' * 38}/{name}"]
    if "/" in name or name.startswith("-") or subprocess.run(command, check=False).returncode != 0:
        raise UsageError(
            "cannot be an experiment's name",
            f"-n {name!r}",
            "git takes no spaces, `..`, `~^:?*[\\`, no dot at an end; DVC no slash",
            "letters, digits, - and _ are good",
        )


def new_name(taken: Collection[str]) -> str:
    """Return a name as DVC makes them up, that is not taken."""
    from dvc.repo.experiments.utils import gen_random_name

    while (name := str(gen_random_name())) in taken:
        pass
    return name
