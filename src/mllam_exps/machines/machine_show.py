"""What a machine would use, and where each value comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from mllam_exps.machines.machine_files import Machine
from mllam_exps.machines.model import Retry

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Value:
    """One value, as it would be used."""

    field: str
    value: Any
    source: str
    """``machines/x.yaml:12``, ``MLLAM_MACHINE_OPTIONS``, ``MLLAM_VENV_PATH`` or ``default``."""


_FIELDS = ("scheduler", "hosts", "working_directory", "on_interrupt", "max_jobs")
_SECTIONS = {
    "paths": ("logs", "run_store", "cartopy_data"),
    "notify": ("command", "webhook_file", "on"),
    "environment": ("modules", "source"),
    "retry": tuple(Retry.model_fields),
}


def values(machine: Machine) -> Iterator[Value]:
    """Yield every value of a machine; of resources those that are set, the default's in each stage too."""
    for field in _FIELDS:
        yield Value(field, getattr(machine, field), machine.origin(field))
    for section, keys in _SECTIONS.items():
        for key in keys:
            field = f"{section}.{key}"
            value = getattr(getattr(machine, section), key)
            yield Value(field, value, machine.origin(field))
    named = machine.environment.venv is not None
    source = machine.origin("environment.venv") if named else "where it runs"
    yield Value("environment.venv", machine.venv, source)
    if machine.environment.container is not None:
        for key, value in machine.environment.container.model_dump().items():
            field = f"environment.container.{key}"
            yield Value(field, value, machine.origin(field))
    for name, value in machine.environment.variables.items():
        field = f"environment.variables.{name}"
        yield Value(field, value, machine.origin(field))
    for stage in sorted(machine.resources, key=_default_first):
        yield from _resources(machine, stage)


def _default_first(stage: str) -> tuple[bool, str]:
    return stage != "default", stage


def _resources(machine: Machine, stage: str) -> Iterator[Value]:
    resources = machine.resources_for(stage).model_dump(exclude_defaults=True)
    for key, value in resources.items():
        if key not in {"sbatch", "srun"}:
            source = machine.resource_origin(stage, key)
            yield Value(f"{stage}.{key}", value, source)
            continue
        for option, given in value.items():
            dotted = f"{key}.{option}"
            source = machine.resource_origin(stage, dotted)
            yield Value(f"{stage}.{dotted}", given, source)


def as_dict(machine: Machine) -> dict[str, Any]:
    """Return what `as_table` shows, for ``--json``: name, file, and a list of field, value and source."""
    rows = [
        {"field": row.field, "value": _plain(row.value), "from": row.source}
        for row in values(machine)
    ]
    file = str(machine.file) if machine.file else None
    return {"name": machine.name, "file": file, "values": rows}


def as_table(machine: Machine) -> Table:
    """Return a table of every value and its source."""
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=f"machine {machine.name}", title_justify="left", box=None, pad_edge=False
    )
    for title in ("field", "value", "from"):
        table.add_column(title, overflow="fold", no_wrap=title == "field")
    for row in values(machine):
        style = "dim" if row.source == "default" else ""
        # Text, not str: brackets in a value are no markup.
        cells = (row.field, _shown(row.value), row.source)
        table.add_row(*(Text(cell, style=style) for cell in cells))
    return table


def _plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if value is None or isinstance(value, str | int | bool):
        return value
    return str(value)


def _shown(value: Any) -> str:
    value = _plain(value)
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return " ".join(map(_shown, value)) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(item)}" for name, item in value.items())
    return str(value)
