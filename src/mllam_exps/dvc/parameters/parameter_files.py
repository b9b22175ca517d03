"""Parameter files, as DVC reads them: YAML 1.2, TOML, JSON, or Python. No repository is needed for that."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mllam_exps.base import unreadable
from mllam_exps.base.errors import UsageError
from mllam_exps.identity.definition import same


class _Disk:
    """What DVC asks of a file system to read a file. Importing its own (5.2) is a tenth of what a job's start takes."""

    open = staticmethod(open)

    @staticmethod
    def suffix(path: str) -> str:
        """Return what DVC goes by: all behind the name's first dot."""
        _, dot, suffix = os.path.basename(path).partition(".")  # noqa: PTH119 - of text
        return dot + suffix


def read(path: Path) -> dict[str, Any]:
    """Return all that stands in a parameter file.

    Raises
    ------
    UsageError
        If it cannot be read.
    """
    from dvc.exceptions import DvcException
    from dvc.utils.serialize import ParseError, load_path

    try:
        found: dict[str, Any] = load_path(str(path), _Disk)
    except ParseError as error:
        raise unreadable.refusal(
            str(path), path.read_text(encoding="utf-8", errors="replace"), error
        ) from error
    except (DvcException, OSError) as error:
        why = str(error.__cause__ or error).splitlines()[0]
        raise UsageError("it cannot be read", where=str(path), why=why) from error
    return found


def holds(path: Path, values: Mapping[str, Any]) -> bool:
    """Tell whether a parameter file says what DVC read from it before.

    Parameters
    ----------
    values : mapping
        What DVC read: values by (dotted) name, or all that stands in the file.
    """
    from dvc.dependency.param import read_param_file
    from dvc.exceptions import DvcException
    from dvc_objects.fs.local import localfs

    try:
        found = read_param_file(localfs, str(path), list(values), flatten=True)
        return same(found, values) or same(read_param_file(localfs, str(path)), values)
    except (DvcException, OSError, ValueError):
        return False
