"""``-S``, with the grammar of ``dvc exp run``: which experiments it means, and their parameter files.

DVC reads it with Hydra; so do we, through DVC.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from mllam_exps.base import symlinks, unreadable
from mllam_exps.base.errors import UsageError
from mllam_exps.dvc.parameters.meant_parameters import Setting

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

MOST_EXPERIMENTS = 1000
"""A sweep that means more is refused before its experiments are listed: it was a typing mistake, most likely."""
_LONGEST_SHOWN = 400

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
        Where the command is typed, seen from the repository's root: paths in ``-S``
        start there.

    Raises
    ------
    UsageError
        If Hydra cannot read it, or if it means more than `MOST_EXPERIMENTS`.
    """
    if not set_params:
        return [Variant({}, name)]
    from dvc.utils.cli_parse import to_path_overrides

    by_file: Overrides = {}
    for path, words in to_path_overrides(set_params).items():
        for word in words:
            if not word.partition("=")[0].strip("+~ "):
                raise UsageError("names no parameter", f"-S {word}", next=_GRAMMAR)
        by_file.setdefault(_inside(path, inside), []).extend(words)
    where = _short(f"-S {' -S '.join(set_params)}")
    found = _sweep(by_file, where)
    if found is None:
        return [Variant(by_file, name)]
    if not found:
        raise UsageError("means no value, and so no experiment", where, next=_GRAMMAR)
    return [
        Variant(one, f"{name}-{n}" if name else "") for n, one in enumerate(found, 1)
    ]


def _sweep(by_file: Overrides, where: str) -> list[Overrides] | None:
    """Return what each experiment of a sweep sets; None where it is no sweep.

    Raises
    ------
    UsageError
        If Hydra cannot read it, or it means too many.
    """
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import get_hydra_sweeps, to_hydra_overrides
    from hydra.errors import HydraException

    try:
        read = {file: to_hydra_overrides(words) for file, words in by_file.items()}
        _refuse_too_many(read, where)
        found = get_hydra_sweeps(by_file)
    # Python itself refuses integers of more than 4,300 digits (ValueError), and lists a
    # thousand brackets deep.
    except (DvcException, HydraException, ValueError, RecursionError) as error:
        why = _short(" ".join(str(error).split()))
        raise UsageError("cannot be read", where, why, _GRAMMAR) from error
    every = [override for words in read.values() for override in words]
    if not any(override.is_sweep_override() for override in every):
        return None
    return [{file: list(words) for file, words in one.items()} for one in found]


_GRAMMAR = "-S [FILE:]KEY=VALUE, KEY=1,2,4, 'KEY=range(1,5)', +KEY=VALUE for a key that the file lacks"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def _refuse_too_many(by_file: Mapping[str, Sequence[Override]], where: str) -> None:
    """Count the experiments without listing them: Hydra would first make a list of them all.

    Raises
    ------
    UsageError
        If there are more than `MOST_EXPERIMENTS`.
    """
    counts = [
        _values(override)
        for words in by_file.values()
        for override in _last_of_each_key(words)
    ]
    number = math.prod(counts)
    if number > MOST_EXPERIMENTS:
        several = [f"{count:,}" for count in counts if count > 1]
        product = f" ({' x '.join(several)})" if len(several) > 1 else ""
        raise UsageError(
            f"means {number:,} experiments{product}",
            where,
            f"one command submits at most {MOST_EXPERIMENTS:,}",
            "take fewer values or a larger step, e.g. 'KEY=range(0,100,10)', or share them among several commands",
        )


def _last_of_each_key(overrides: Sequence[Override]) -> list[Override]:
    """Return what Hydra uses where a key is given more than once."""
    return list(
        {override.get_key_element(): override for override in overrides}.values()
    )


def _values(override: Override) -> int:
    """Return how many values an override means.

    Raises
    ------
    ValueError
        For a range that has no end, or no step.
    """
    from hydra.core.override_parser.types import ChoiceSweep, RangeSweep

    sweep = override.value()
    if isinstance(sweep, ChoiceSweep):
        return len(sweep.list)
    if not isinstance(sweep, RangeSweep) or sweep.start is None or sweep.stop is None:
        return 1
    bounds = (sweep.start, sweep.stop, sweep.step)
    if not all(isinstance(number, int) or math.isfinite(number) for number in bounds):
        raise ValueError(
            f"the numbers of a range must be finite: {override.input_line}"
        )
    start, stop, step = map(Decimal, bounds)
    if step == 0:
        raise ValueError(f"the step of a range must not be 0: {override.input_line}")
    return max(0, math.ceil((stop - start) / step))


def _inside(path: str, inside: Path) -> str:
    if Path(path).is_absolute():
        why = "an experiment has files of its own, elsewhere"
        way_out = "name the file by its path from here, as in -S params.yaml:KEY=VALUE"
        raise UsageError("is an absolute path", f"-S {path}", why, way_out)
    normal = os.path.normpath(inside / path)
    if normal.startswith(".."):
        way_out = "copy the file into the repository, and git add it"
        raise UsageError("lies outside of the repository", f"-S {path}", next=way_out)
    return normal


def apply(
    root: Path,
    overrides: Mapping[str, list[str]],
    hydra: Mapping[str, str],
    inside: Path = Path(),
) -> None:
    """Write the parameters into the files of a checkout.

    Parameters
    ----------
    hydra : mapping
        DVC's configuration of that name: with ``enabled`` Hydra composes
        ``params.yaml``.
    inside : Path
        Where ``-S`` was typed, seen from the root: so are the paths that are proposed.

    Raises
    ------
    UsageError
        Naming the parameter.
    """
    composed = "params.yaml" if hydra.get("enabled") else None
    # Composition happens without any -S, too.
    first: Overrides = {composed: []} if composed else {}
    for file, words in (first | dict(overrides)).items():
        compose = hydra if file == composed else None
        _apply(Setting(root, file, words, inside), compose)


def _apply(setting: Setting, hydra: Mapping[str, str] | None) -> None:
    """Write parameters into one file.

    Parameters
    ----------
    hydra : mapping or None
        DVC's configuration, where Hydra composes this file.

    Raises
    ------
    UsageError
        Naming the parameter.
    """
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import apply_overrides
    from dvc.utils.serialize import ParseError
    from hydra.errors import HydraException

    path, words = setting.path, setting.words
    shown = f"-S {os.path.relpath(setting.file, setting.inside)}"
    if hydra is None and not path.is_file():
        where = f"{shown}:{words[0]}"
        way_out = setting.in_another_file() or setting.in_a_file_of_nearly_that_name()
        raise UsageError("there is no such file", where, next=way_out)
    _alone(setting.root, path)
    try:
        if hydra is None:
            apply_overrides(path, words)
        else:
            _compose(setting.root, path, words, hydra)
    except ParseError as error:
        text = path.read_text(encoding="utf-8", errors="replace")
        raise unreadable.refusal(setting.file, text, error) from error
    # A name in a list's place is a ValueError (omegaconf 2.3).
    except (DvcException, HydraException, ValueError) as error:
        why = " ".join(str(error.__cause__ or error).split())
        raise _refusal(setting, why) from error
    except KeyError as error:
        why = f"its name ends in {error}"
        raise UsageError("is no file of parameters", shown, why) from error


def _refusal(setting: Setting, why: str) -> UsageError:
    """Return what to say of a parameter that Hydra does not set; `why` in its words."""
    shown = os.path.relpath(setting.file, setting.inside)
    where = f"-S {shown}:{' '.join(setting.words)}"
    if elsewhere := setting.in_another_file():
        return UsageError("cannot be set", where, why, elsewhere)
    if hint := setting.in_place_of_a_key():
        return UsageError("cannot be set", where, hint.why or why, hint.next)
    return UsageError("cannot be set", where, why, _GRAMMAR)


def _compose(
    root: Path, path: Path, words: list[str], hydra: Mapping[str, str]
) -> None:
    """Have Hydra compose a parameter file, as DVC does."""
    from dvc.utils.hydra import compose_and_dump

    module = hydra.get("config_module")
    where = None if module else str(root / hydra.get("config_dir", "conf"))
    plugins = str(root / hydra.get("plugins_path", ""))
    name = hydra.get("config_name", "config")
    compose_and_dump(path, where, module, name, plugins, words)


def _alone(root: Path, path: Path) -> None:
    """Make a file no other's hard link: it is about to be written in place."""
    path = symlinks.in_folder(symlinks.top_of(root), path.resolve())
    if path.is_file():
        content, mode = path.read_bytes(), path.stat().st_mode
        path.unlink()
        path.write_bytes(content)
        path.chmod(mode)
