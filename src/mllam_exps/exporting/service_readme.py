"""What people read in a folder from which a service forecasts."""

from __future__ import annotations

from collections.abc import Sequence

from mllam_exps.exporting.crate import NO_LICENCE
from mllam_exps.exporting.forecast_folder import (
    ENVIRONMENT,
    MANIFEST,
    OURS,
    REQUIREMENTS,
    Manifest,
)

_TEXT = """\
# {experiment}: a model to forecast with

The experiment {experiment}, commit {commit}.
Written by `export --inference` of mllam-exps {version}. Licence: {licence}
{adopted}
## Once

With Python {python}, in this folder:

```console
$ python -m venv ~/forecasts
$ ~/forecasts/bin/python -m pip install --no-deps -r {requirements}
```
{notes}
## Each time

```console
$ ~/forecasts/bin/mllam-exps infer --from FOLDER {options} -o FORECASTS.zarr
```

FOLDER is this one, which is only read, wherever it lies; FILE is a zarr of the form that `data/datastore.yaml` says;
FORECASTS.zarr is made. `--start TIME`, also more than once, chooses initial times: without it all that the input gives
are taken. `--steps N` says how far each forecast runs.
Refused, before anything is computed: a part that was changed or is missing, and other programs than those in
`{manifest}`.

| | |
|---|---|
| `{manifest}` | the experiment, versions of its programs, and the sha256 of each part |
| `params.yaml`, `data/*.yaml` | arguments and configuration |
| `saved_models/` | the checkpoint |
| `data/graph/` | the graph |
| `trained_on.zarr` | statistics and grid of the training's dataset |
| {packages} | all packages |
{code}"""
_CODE = "| `{folder}/` | the code of packages that no index has |\n"


def text(
    said: Manifest,
    options: Sequence[str],
    python: str,
    notes: Sequence[str],
    *,
    is_recorded: bool,
) -> str:
    """Return it.

    Parameters
    ----------
    options : sequence of str
        Those that the command needs.
    python : str
        Its version.
    notes : sequence of str
        What is to be known of the environment.
    is_recorded : bool
        Whether all of it is known.
    """
    container = [f"its programs ran in a container, {said.container}"]
    told = [*(container if said.container else []), *notes]
    folders = {path.partition("/")[0] for path in said.sources.values()}
    return _TEXT.format(
        experiment=said.experiment,
        commit=said.commit,
        adopted="".join(f"\n- {line}\n" for line in said.adopted),
        version=said.programs[OURS],
        licence=said.licence or NO_LICENCE,
        python=python,
        requirements=REQUIREMENTS,
        packages=", ".join(
            f"`{file}`"
            for file in (REQUIREMENTS, *([ENVIRONMENT] if is_recorded else []))
        ),
        manifest=MANIFEST,
        notes="".join(f"\n- {note}" for note in told) + ("\n" if told else ""),
        options=" ".join(options),
        code="".join(_CODE.format(folder=folder) for folder in sorted(folders)),
    )
