"""What is needed of an experiment that forecasts from new input, and the dataset that is made of that.

Of the training's dataset its statistics and its grid are enough; the fields of years
need not be there.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import Problem, UsageError, did_you_mean
from mllam_exps.stages.neural_lam.data.named_paths import is_remote
from mllam_exps.stages.neural_lam.file_names import DATASTORE, FILES, INFERENCE, MODELS
from mllam_exps.stages.neural_lam.parameters.datastore_file import inputs_of, section

READS = (*FILES, INFERENCE)
"""The files of the experiment's commit that are read."""
OUTPUTS = (MODELS, "data/graph")
"""What its stages made that is read."""
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
    datastore: Mapping[str, Any], new: Mapping[str, str], root: Path
) -> dict[str, str]:
    """Return the archive of every input: the new ones, and the experiment's own where these are not replaced.

    Raises
    ------
    UsageError
        If one is not there.
    """
    found: dict[str, str] = {}
    for name, one in inputs_of(datastore):
        path = new.get(name, str(one.get("path")))
        if not is_remote(path):
            place = Path(path) if name in new else root / path
            if not place.exists():
                where = f"--input {name}" if name in new else f"inputs.{name}.path"
                raise UsageError(
                    f"there is no {path}", where, next=f"--input {name}=FILE"
                )
            path = str(place.resolve())
        found[name] = path
    return found


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
