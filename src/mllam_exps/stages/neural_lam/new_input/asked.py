"""What is needed of an experiment that forecasts from new input, and the dataset that is made of that.

Of the training's dataset its statistics and its grid are enough; the fields of years
need not be there.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mllam_exps.base import yaml_files
from mllam_exps.base.errors import Problem, UsageError, did_you_mean
from mllam_exps.stages.neural_lam.data.named_paths import is_remote, named
from mllam_exps.stages.neural_lam.file_names import (
    DATASET,
    DATASTORE,
    FILES,
    INFERENCE,
    MODELS,
)
from mllam_exps.stages.neural_lam.parameters import inference
from mllam_exps.stages.neural_lam.parameters.datastore_file import inputs_of, section

READS = (*FILES, INFERENCE)
"""The files of the experiment's commit that are read."""
GRAPH = "data/graph"
PROGRAMS = (
    "mllam-data-prep",
    "neural-lam",
    "numpy",
    "pytorch-lightning",
    "torch",
    "torch-geometric",
    "xarray",
    "zarr",
)
"""The programs that the numbers of a forecast come from, beside ours."""
TRAINED_ON = "trained_on.zarr"
"""Where the program finds the training's dataset without its fields."""
PLAN = "new_input.json"
REFUSED = "refused.json"
"""Where the program writes why it made nothing."""
PROGRAM = "mllam_exps.stages.neural_lam.new_input.program"
_FIELDS = ("state", "forcing", "static")


@dataclass(frozen=True)
class NewInput:
    """What the program is told.

    Parameters
    ----------
    inputs : mapping
        The archive of each input of ``data/datastore.yaml``, by its name.
    output : str
        Where the forecasts go.
    starts : list of str
        The initial times; all that the input gives, where there are none.
    steps : int or None
        How far each forecast runs; None for what the experiment says.
    experiment, commit : str
        Which one it is.
    new : list of str
        The inputs that are new.
    """

    inputs: Mapping[str, str]
    output: str
    starts: list[str] = field(default_factory=list)
    steps: int | None = None
    experiment: str = ""
    commit: str = ""
    new: list[str] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Write it to the folder in which the program runs."""
        (folder / PLAN).write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> NewInput:
        """Read it there."""
        return cls(**json.loads((folder / PLAN).read_text()))


def refuse(folder: Path, problem: Problem) -> None:
    """Write why nothing was made, for whoever started the program."""
    (folder / REFUSED).write_text(json.dumps(asdict(problem)))


def refused(folder: Path) -> Problem:
    """Return why the program made nothing; an empty one if it did not say."""
    try:
        return Problem(**json.loads((folder / REFUSED).read_text()))
    except OSError:
        return Problem()


def settings(folder: Path) -> dict[str, Any]:
    """Return what ``data/inference_params.yaml`` below a folder says; nothing where it is not there."""
    return inference.read(folder) if (folder / INFERENCE).exists() else {}


def outputs(folder: Path) -> Iterator[tuple[str, str, Callable[[str], bool]]]:
    """Yield what its stages made that is read, as the files below a folder say.

    Each with the path where the experiment has it, that where the program finds it, and
    what tells which of its files are needed.
    """
    checkpoint = f"{inference.told(settings(folder))['checkpoint']}.ckpt"
    yield MODELS, MODELS, lambda file: file == checkpoint
    yield GRAPH, GRAPH, lambda _file: True
    yield DATASET, TRAINED_ON, is_no_field


def is_read(path: str) -> bool:
    """Tell whether the program would read a file at this path below its folder."""
    return path in READS or path.startswith((f"{MODELS}/", f"{GRAPH}/", TRAINED_ON))


def refuse_password(datastore: Mapping[str, Any]) -> None:
    """Refuse an archive's address with a password in it: others are to read it.

    Raises
    ------
    UsageError
        With the key.
    """
    for key, path in named(datastore):
        if "://" in path and urlsplit(path).password:
            way_out = (
                "keep it where fsspec finds it, and make the experiment without it"
            )
            where = f"{DATASTORE}: {key}"
            raise UsageError("carries a password", where, next=way_out)


def is_no_field(path: str) -> bool:
    """Tell whether a file of a dataset is one of those beside its fields: coordinates, statistics, metadata."""
    array, _, file = path.partition("/")
    return array not in _FIELDS or file == "zarr.json" or file.startswith(".z")


def new_ones(datastore: Mapping[str, Any], words: Sequence[str]) -> dict[str, str]:
    """Return the new archives by the names of their inputs.

    Parameters
    ----------
    words : sequence of str
        ``NAME=FILE``; or ``FILE`` alone, for the one archive that all inputs, or all
        with a time, are read from.

    Raises
    ------
    UsageError
        If it is not clear which input a file is for.
    """
    inputs = dict(inputs_of(datastore))
    found: dict[str, str] = {}
    for word in words:
        name, named, path = word.partition("=")
        if named and name in inputs:
            found[name] = path
            continue
        if named and not Path(word).exists():
            near = did_you_mean(name, inputs)
            what = f"{DATASTORE} of that experiment has no input {name}{near}"
            raise UsageError(what, f"--input {word}")
        timed = [one for one in inputs.values() if "time" in (one.get("dims") or ())]
        paths = {str(one.get("path")) for one in timed}
        if len(paths) != 1 or len(words) > 1:
            what = "it is not clear which input it is for"
            way_out = f"--input NAME=FILE, of {', '.join(inputs)}"
            raise UsageError(what, f"--input {word}", next=way_out)
        for name, one in inputs.items():
            if str(one.get("path")) in paths:
                found[name] = word
    return found


def all_of_them(
    datastore: Mapping[str, Any], new: Mapping[str, str], root: Path | None
) -> dict[str, str]:
    """Return the archive of every input: the new ones, and the experiment's own where these are not replaced.

    Parameters
    ----------
    root : Path or None
        The experiment's repository; None where there is none, and its own archives are
        not here but for those that have a URL.

    Raises
    ------
    UsageError
        If one is not there.
    """
    if root is None and (lacking := left_to_name(datastore, new)):
        raise UsageError(
            f"no archive is named for {', '.join(lacking)}",
            "--input",
            "the experiment's own is not in the folder",
            " ".join(f"--input {name}=FILE" for name in lacking),
        )
    found: dict[str, str] = {}
    for name, one in inputs_of(datastore):
        path = new.get(name, str(one.get("path")))
        if not is_remote(path):
            place = Path(path) if name in new else (root or Path()) / path
            if not place.exists():
                where = f"--input {name}" if name in new else f"inputs.{name}.path"
                raise UsageError(
                    f"there is no {path}", where, next=f"--input {name}=FILE"
                )
            path = str(place.resolve())
        found[name] = path
    return found


def options(folder: Path) -> list[str]:
    """Return the options of a command that forecasts from files below a folder, and has nothing else, for people."""
    datastore = yaml_files.read(folder / DATASTORE, DATASTORE)
    lacking = left_to_name(datastore)
    try:
        is_clear = {*new_ones(datastore, ["FILE"])} >= {*lacking}
    except UsageError:
        is_clear = False
    files = ["FILE"] if is_clear else [f"{name}=FILE" for name in lacking]
    steps = [] if inference.told(settings(folder)).get("steps") else ["--steps N"]
    return [*(f"--input {one}" for one in files), *steps]


def left_to_name(
    datastore: Mapping[str, Any], new: Mapping[str, str] | None = None
) -> list[str]:
    """Return the inputs that nobody has named, and that no URL leads to."""
    return [
        name
        for name, one in inputs_of(datastore)
        if name not in (new or {}) and not is_remote(str(one.get("path")))
    ]


def datastore_of(
    datastore: Mapping[str, Any], inputs: Mapping[str, str], first: str, last: str
) -> dict[str, Any]:
    """Return ``data/datastore.yaml`` of the new dataset: all its times, and no statistics of its own.

    Parameters
    ----------
    inputs : mapping
        From `all_of_them`.
    first, last : str
        The times of the new input.
    """
    made: dict[str, Any] = copy.deepcopy(dict(datastore))
    for name, path in inputs.items():
        made["inputs"][name]["path"] = path
    output = made["output"]
    if limits := section(section(output, "coord_ranges"), "time"):
        output["coord_ranges"]["time"] = {**limits, "start": first, "end": last}
    every = {"start": first, "end": last}
    splits = {name: dict(every) for name in ("train", "val", "test")}
    output["splitting"] = {"dim": "time", "splits": splits}
    return made


def refuse_another(made: Any, trained: Any) -> None:
    """Refuse a dataset that lies on another grid than the training's, or has other variables.

    Parameters
    ----------
    made, trained : xarray.Dataset
        As mllam-data-prep makes them; their coordinates are read.

    Raises
    ------
    UsageError
        With what differs.
    """
    import numpy as np

    for axis in ("x", "y"):
        here, there = made[axis].values, trained[axis].values
        if here.shape != there.shape or not np.allclose(here, there, rtol=1e-6):
            what = f"it lies on another grid than the training's: its {axis} differ"
            raise UsageError(what, "the new input")
    for kind in ("state", "forcing", "static"):
        name = f"{kind}_feature"
        here, there = (
            [str(one) for one in data[name].values] if name in data else []
            for data in (made, trained)
        )
        if here != there:
            told, known = (", ".join(names) or "none" for names in (here, there))
            what = f"its {kind} is {told}, the training's {known}"
            raise UsageError(what, "the new input")
