"""What a machine file may say, each key with its description."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from mllam_exps.machines import values as check

Text = Annotated[str, AfterValidator(check.plain)]
Word = Annotated[str, AfterValidator(check.word)]
AbsolutePath = Annotated[Path, BeforeValidator(check.absolute)]
OptionValue = Annotated[str | int | bool | None, BeforeValidator(check.option_value)]
VariableValue = Annotated[
    str, BeforeValidator(check.variable_value, json_schema_input_type=str | int | float)
]
TextOrNumber = WithJsonSchema({"type": ["string", "integer"]})
MayBeEmpty = BeforeValidator(check.empty_mapping)
MayBeEmptyList = BeforeValidator(check.empty_list)
Count = Annotated[int, Field(ge=1, strict=True)]
MailType = Literal[
    "ALL",
    "BEGIN",
    "END",
    "FAIL",
    "REQUEUE",
    "TIME_LIMIT",
    "TIME_LIMIT_50",
    "TIME_LIMIT_80",
    "TIME_LIMIT_90",
]


class Model(BaseModel):
    """Unchangeable, and without unknown keys."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        coerce_numbers_to_str=True,
        use_attribute_docstrings=True,
    )


class Mail(Model):
    """Mail that Slurm sends about a job."""

    user: Word
    """The address, or a user's name."""
    types: tuple[MailType, ...] = ("END", "FAIL")
    """What to write about."""


class Resources(Model):
    """What a stage's job asks for. Nodes, and devices on each, are parameters: they change the numbers."""

    partition: Word | None = None
    """Partition (`--partition`); several with commas."""
    account: Word | None = None
    """Account that pays (`--account`)."""
    qos: Word | None = None
    """Quality of service (`--qos`)."""
    time: Annotated[
        str | None,
        BeforeValidator(check.time_limit, json_schema_input_type=str | int | None),
    ] = None
    """Time limit (`--time`): D-HH:MM:SS, H:MM:SS, or minutes. The next job goes on from a checkpoint."""
    warning: Annotated[int, Field(ge=0, strict=True)] | None = None
    """Seconds before the time limit at which a training saves and ends; null: a tenth of it, 300 at most; 0: never."""
    cpus: Count | None = None
    """CPUs for each task (`--cpus-per-task`)."""
    memory: Annotated[Word, AfterValidator(check.memory), TextOrNumber] | None = None
    """Memory on each node (`--mem`), e.g. 64G; 0 is all of it."""
    gpus: Annotated[Word, AfterValidator(check.gpus), TextOrNumber] | None = None
    """GPUs on each node (`--gpus-per-node`), e.g. 8 or a100:8. Where the site wants `gres`, use that."""
    gres: Word | None = None
    """Generic resources on each node (`--gres`), e.g. gpu:8."""
    exclusive: Annotated[bool, Field(strict=True)] | None = None
    """Whole nodes for this job alone (`--exclusive`)."""
    mail: Mail | None = None
    """Mail about the job."""
    sbatch: Annotated[
        dict[Annotated[str, AfterValidator(check.sbatch_option)], OptionValue],
        MayBeEmpty,
    ] = {}
    """Further long options of sbatch, e.g. `constraint: a100`; true is the bare option, false none."""
    srun: Annotated[
        dict[Annotated[str, AfterValidator(check.srun_option)], OptionValue], MayBeEmpty
    ] = {}
    """Further long options of the srun that starts the program: `kill-on-bad-exit: 1`, `cpu-bind: cores`."""

    @model_validator(mode="after")
    def _one_way_for_gpus(self) -> Resources:
        if self.gpus and self.gres and "gpu" in self.gres:
            raise ValueError(
                "`gpus` and `gres` both ask for GPUs: set one of them to null"
            )
        return self

    @property
    def warning_seconds(self) -> int:
        """How long before its time limit a stage with checkpoints is told to save and end."""
        if self.warning is not None:
            return self.warning
        # Where the time limit is the partition's own, nobody here knows it.
        known = self.time_seconds or WARNING_SECONDS * 10
        return max(1, min(WARNING_SECONDS, known // 10))

    @property
    def time_seconds(self) -> int | None:
        """The time limit in seconds, if there is one."""
        return None if self.time is None else check.seconds(self.time)

    def over(self, default: Resources) -> Resources:
        """Return these resources on top of a default; what is null here is taken away."""
        own = self.model_dump(exclude_unset=True)
        merged = default.model_dump(exclude_unset=True) | own
        for key in ("sbatch", "srun"):
            if key in own:
                merged[key] = getattr(default, key) | own[key]
        return Resources.model_validate(merged)

    def for_keeping_books(self) -> Resources:
        """Return what a job needs that computes nothing, as far as these are its defaults: one core, no GPU."""
        modest: dict[str, Any] = {
            "cpus": 1,
            "gpus": None,
            "gres": None,
            "exclusive": None,
        }
        if self.time_seconds and self.time_seconds > BOOKS_SECONDS:
            modest["time"] = BOOKS_SECONDS // 60
        # 0 is all the memory that a node has.
        enough = range(1, BOOKS_MEGABYTES)
        if self.memory and check.megabytes(self.memory) not in enough:
            modest["memory"] = f"{BOOKS_MEGABYTES}M"
        return Resources.model_validate(self.model_dump(exclude_unset=True) | modest)


WARNING_SECONDS = 300
BOOKS_SECONDS = 1800
BOOKS_MEGABYTES = 1024


class Container(Model):
    """The container in which the stages' programs run. What stands around them runs outside, in `venv`."""

    image: Annotated[Text, AfterValidator(check.image)]
    """The image: a file, or a name with its digest (`NAME@sha256:…`)."""
    start: Annotated[tuple[Text, ...], AfterValidator(check.container_start)]
    """How the site runs a command in it, word by word; `{image}` is the image, `{directory}` the command's folder."""
    python: Text = "python3"
    """The Python in it that has the programs, and mllam-exps."""


class Environment(Model):
    """What is made ready before a stage's program starts, in this order."""

    modules: Annotated[
        tuple[Annotated[str, AfterValidator(check.module)], ...], MayBeEmptyList
    ] = ()
    """Modules to load, in this order."""
    source: Annotated[
        tuple[Text, ...],
        BeforeValidator(
            check.one_or_more, json_schema_input_type=str | list[str] | None
        ),
    ] = ()
    """Bash scripts to source: one or a list; from the machines/ folder, or absolute."""
    venv: AbsolutePath | None = None
    """Virtual environment of the stages' programs; MLLAM_VENV_PATH goes first; null is the running one."""
    container: Container | None = None
    """The container in which the programs of the stages run; null is none."""
    variables: Annotated[
        dict[Annotated[str, AfterValidator(check.variable_name)], VariableValue],
        MayBeEmpty,
    ] = {}
    """Environment variables. No secrets."""


class Paths(Model):
    """Where things lie on this machine."""

    logs: Text = "logs"
    """Where a person looks first: links to the logs of attempts; from the repository's root, or absolute."""
    run_store: AbsolutePath | None = None
    """The run store, on a file system that all nodes see; null is beside DVC's cache."""
    cartopy_data: AbsolutePath | None = None
    """Natural Earth shapefiles for maps (CARTOPY_DATA_DIR): nodes without internet can't download them."""


class Notify(Model):
    """Who is told when a submitted experiment has ended, and how. Mail by Slurm: `mail` in `resources.save`."""

    command: Annotated[
        tuple[Text, ...],
        BeforeValidator(
            check.one_or_more, json_schema_input_type=str | list[str] | None
        ),
    ] = ()
    """A command, word by word: it gets the experiment as JSON on its standard input."""
    webhook_file: Text | None = None
    """A file, readable by its owner alone, that holds the URL to which the experiment is posted as JSON."""
    on: tuple[Literal["end", "fail"], ...] = ("end", "fail")
    """When: `end` when it was saved, `fail` when it failed."""

    @property
    def anybody(self) -> bool:
        """Whether anybody is told."""
        return bool(self.command or self.webhook_file)


Then = Literal["again", "stop"]


class MoreMemory(Model):
    """More memory for the next attempt: its job asks for so much more, up to a ceiling."""

    factor: Annotated[float, Field(gt=1, le=8)] = 1.5
    """How many times as much the next job asks for."""
    up_to: Annotated[Word, AfterValidator(check.memory)]
    """The most that a job may ask for, e.g. 256G."""


class Retry(Model):
    """What follows when an attempt ends without a result: `again`, the next attempt starts by itself; or `stop`.

    Where the stage has checkpoints, the next attempt goes on from the newest one.
    """

    stall_timeout: Count | None = 3600
    """Seconds without progress, once there was some, after which a program is stopped; null is never."""
    max_attempts: Count = 3
    """Attempts in a row that come no further; then it stops."""
    time_limit: Then = "again"
    """The time limit. A stage without checkpoints, or that came no further, stops: it would end the same way."""
    preemption: Then = "again"
    """Another job took its place."""
    node_failure: Then = "again"
    """A node failed."""
    killed: Then = "again"
    """It ended without a word: its host went down, or somebody killed it."""
    host_memory: Then | MoreMemory = "stop"
    """It ran out of memory. {factor: 1.5, up_to: 256G} tries again with more."""
    gpu_memory: Then = "stop"
    """It ran out of the GPU's memory."""
    full_disk: Then = "stop"
    """A disk was full."""
    not_finite: Then = "stop"
    """A loss or a weight became NaN or infinite."""
    stall: Then = "again"
    """It came no further for `stall_timeout`."""
    error: Then = "stop"
    """Its program failed, or what it made is not as it must be."""


class Settings(Model):
    """A machine: where stages run, and with what. Nothing here changes a result, or makes one stale."""

    scheduler: Annotated[
        str,
        AfterValidator(check.scheduler),
        WithJsonSchema({"enum": list(check.SCHEDULERS), "type": "string"}),
    ]
    """What starts the attempts: processes on this host, or Slurm's jobs."""
    hosts: Annotated[tuple[Word, ...], MayBeEmptyList] = ()
    """Patterns of host names on which this machine is picked by itself, e.g. `login*.cluster.example`."""
    working_directory: AbsolutePath | None = None
    """A folder, seen by all nodes, in which attempts work; null is the run's own directory in the store."""
    resources: Annotated[
        dict[
            Annotated[str, AfterValidator(check.stage)],
            Annotated[Resources, MayBeEmpty],
        ],
        MayBeEmpty,
    ] = {}
    """What jobs ask for: `default` for all stages, and by stage what differs; null takes a default away."""
    environment: Annotated[Environment, MayBeEmpty] = Environment()
    """What is made ready before a stage's program starts."""
    paths: Annotated[Paths, MayBeEmpty] = Paths()
    """Folders on this machine."""
    notify: Annotated[Notify, MayBeEmpty] = Notify()
    """Who is told when a submitted experiment has ended."""
    on_interrupt: Literal["cancel", "detach"] = "cancel"
    """What Ctrl-C does to the runs that are waited for: cancel them, or leave them running."""
    retry: Annotated[Retry, MayBeEmpty] = Retry()
    """What follows by itself when an attempt ends without a result."""
    max_jobs: Count | None = None
    """At most so many of one's jobs, pending or running, at once; what does not fit waits. null is no limit of ours."""


def schema_text() -> str:
    """Return the JSON schema of machine files, as machines/schema.json holds it for editors."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Settings.model_json_schema(),
    }
    _allow_nothing(schema)
    return json.dumps(schema, indent=1) + "\n"


def _allow_nothing(schema: object) -> None:
    """Let a key stand with nothing behind it, as the check does."""
    if isinstance(schema, list):
        for part in schema:
            _allow_nothing(part)
    elif isinstance(schema, dict):
        for part in schema.values():
            _allow_nothing(part)
        if schema.get("type") in ("object", "array") and "$schema" not in schema:
            schema["type"] = [schema["type"], "null"]


if __name__ == "__main__":
    print(schema_text(), end="")
