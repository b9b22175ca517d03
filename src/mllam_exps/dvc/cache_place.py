"""Where DVC's cache is, by its settings alone: to import DVC and open the repository takes most of a second."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_LEVELS = ("DVC_SYSTEM_CONFIG_DIR", "DVC_GLOBAL_CONFIG_DIR")
"""The variables that name the folders of settings of all users, and of this one (DVC 3.67)."""


def cache_directory(root: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the cache of the repository at `root` is, as `Repository.cache_directory` does.

    Raises
    ------
    UsageError
        If DVC cannot read its settings.
    """
    try:
        return _by_settings(root, environ)
    except (OSError, ValueError, SyntaxError):
        # What is not as simple DVC says.
        from mllam_exps.dvc.repository import Repository

        return Repository.open(root, check=False).cache_directory


def _by_settings(root: Path, environ: Mapping[str, str]) -> Path:
    found = root / ".dvc" / "cache"
    if not (root / ".dvc").is_dir():
        raise ValueError("no repository of DVC's")
    for file in _files(root, environ):
        for section, values in _read(file).items():
            if section.lower() != "cache":
                continue
            if not isinstance(values, dict) or "local" in values:
                raise ValueError(file)
            if (place := values.get("dir")) is not None:
                if not isinstance(place, str) or "://" in place or "%" in place:
                    raise ValueError(place)
                found = Path(os.path.abspath(file.parent / Path(place).expanduser()))  # noqa: PTH100 - as DVC, which follows no link here
    return found


def _files(root: Path, environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the files of settings, each of which counts before the one above it."""
    import platformdirs

    of_all = platformdirs.site_config_dir("dvc", "iterative")
    of_user = platformdirs.user_config_dir("dvc", "iterative")
    for variable, folder in zip(_LEVELS, (of_all, of_user), strict=True):
        yield Path(environ.get(variable) or folder) / "config"
    yield root / ".dvc" / "config"
    yield root / ".dvc" / "config.local"


def _read(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        return {}
    # As DVC (3.67) reads them; a ConfigObjError is a SyntaxError.
    from configobj import ConfigObj

    with file.open("rb") as opened:
        found: Mapping[str, Any] = ConfigObj(opened).dict()
    return found
