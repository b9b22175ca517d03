"""What a machine would use, and where each value comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mllam_exps.machines.machine_files import Machine

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Value:
    """One value, as it would be used."""

    field: str
    value: Any
    source: str
    """``machines/x.yaml:12``, ``MLLAM_MACHINE_OPTIONS``, ``MLLAM_VENV_PATH`` or ``default``."""


def values(machine: Machine) -> Iterator[Value]:
    """Yield every value of a machine; of resources those that are set, the default's in each stage too."""
    for field in (
        "scheduler",
        "hosts",
        "working_directory",
        "on_interrupt",
        "max_jobs",
    ):
        yield Value(field, getattr(machine, field), machine.origin(field))
    for field in ("logs", "run_store", "cartopy_data"):
        yield Value(
            f"paths.{field}",
            getattr(machine.paths, field),
            machine.origin(f"paths.{field}"),
        )
    for field in ("command", "webhook_file", "on"):
        yield Value(
            f"notify.{field}",
            getattr(machine.notify, field),
            machine.origin(f"notify.{field}"),
        )
    setup = machine.environment
    yield Value(
        "environment.modules", setup.modules, machine.origin("environment.modules")
    )
    yield Value(
        "environment.source", setup.source, machine.origin("environment.source")
    )
    named = setup.venv is not None
    yield Value(
        "environment.venv",
        machine.venv,
        machine.origin("environment.venv") if named else "where it runs",
    )
    for name, value in setup.variables.items():
        field = f"environment.variables.{name}"
        yield Value(field, value, machine.origin(field))
    for stage in sorted(machine.resources, key=lambda name: (name != "default", name)):
        yield from _resources(machine, stage)


def _resources(machine: Machine, stage: str) -> Iterator[Value]:
    for key, value in (
        machine.resources_for(stage).model_dump(exclude_defaults=True).items()
    ):
        inner = value.items() if key in {"sbatch", "srun"} else [("", value)]
        for name, one in inner:
            dotted = f"{key}.{name}" if name else key
            yield Value(
                f"{stage}.{dotted}", one, machine.resource_origin(stage, dotted)
            )


def as_dict(machine: Machine) -> dict[str, Any]:
    """Return what `as_table` shows, for ``--json``: name, file, and a list of field, value and source."""
    rows = [
        {"field": one.field, "value": _plain(one.value), "from": one.source}
        for one in values(machine)
    ]
    return {
        "name": machine.name,
        "file": str(machine.file) if machine.file else None,
        "values": rows,
    }


def as_table(machine: Machine) -> Table:
    """Return a table of every value and its source."""
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=f"machine {machine.name}", title_justify="left", box=None, pad_edge=False
    )
    for title in ("field", "value", "from"):
        table.add_column(title, overflow="fold", no_wrap=title == "field")
    for one in values(machine):
        style = "dim" if one.source == "default" else ""
        # Text, not str: brackets in a value are no markup.
        table.add_row(
            *(
                Text(text, style=style)
                for text in (one.field, _shown(one.value), one.source)
            )
        )
    return table


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return value if value is None or isinstance(value, str | int | bool) else str(value)


def _shown(value: Any) -> str:
    value = _plain(value)
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return " ".join(map(_shown, value)) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(one)}" for name, one in value.items())
    return str(value)
