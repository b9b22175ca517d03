"""Settings of one copy of a repository, in DVC's own file for them: ``.dvc/config.local``, which git ignores."""

from __future__ import annotations

import io
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import UsageError

Setting = str | list[str]
Settings = Mapping[str, Mapping[str, Setting]]
"""By section."""


def write(file: Path, settings: Settings) -> None:
    """Write settings of DVC's into a file, by sections, and look that DVC reads the same there.

    Raises
    ------
    UsageError
        If a value cannot stand in such a file, and so no copy of the repository can
        have it.
    """
    from configobj import ConfigObj, ConfigObjError
    from dvc.config import Config, ConfigError

    # DVC (3.67) reads its files with configobj (5.0): unquoted, a comma makes a list of
    # a value, and `#` ends it.
    written = io.BytesIO()
    try:
        sections = {name: dict(values) for name, values in settings.items()}
        ConfigObj(sections, encoding="utf-8").write(written)
        file.write_bytes(written.getvalue())
        read = Config.load_file(str(file))
    except (ConfigObjError, ConfigError, UnicodeError) as error:
        raise _refusal(settings["cache"], str(error)) from error
    if not _holds(read, settings):
        raise _refusal(settings["cache"], f"it reads {read.get('cache')}")


def _refusal(cache: Mapping[str, Any], why: str) -> UsageError:
    """Say that the cache's folder has a name that DVC cannot keep; of the other settings it has the words itself."""
    return UsageError(
        "is a path that cannot stand in a file of DVC's settings",
        where=f"cache.dir {shlex.quote(str(cache.get('dir')))}",
        why=why,
        next="move the repository, or dvc cache dir --local FOLDER, to a path without quotes and %(…)",
    )


def of_a_share(cache: Path, remote: Path, name: str) -> dict[str, dict[str, Any]]:
    """Return the settings with which a clone has cache and remote in a team's folders.

    ``shared`` makes DVC give its folders to the group; links to a colleague's files are
    symbolic ones: Linux refuses a second name of a file that one may not write to.
    """
    return {
        "cache": {"dir": str(cache), "shared": "group", "type": ["symlink"]},
        "remote": {name: {"url": str(remote), "shared": "group"}},
    }


def differ(root: Path, settings: Mapping[str, Any]) -> bool:
    """Tell whether DVC reads anything else in the repository at `root`."""
    return not _holds(_read(root), settings)


def _holds(read: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Tell whether all settings are among what was read; DVC adds its defaults."""
    return all(
        _holds(read.get(key, {}), value)
        if isinstance(value, Mapping)
        else read.get(key) == value
        for key, value in settings.items()
    )


def has_default_remote(root: Path) -> bool:
    """Tell whether DVC knows where to push to without being told."""
    return bool(_read(root).get("core", {}).get("remote"))


def change(root: Path, settings: Mapping[str, Mapping[str, Any]]) -> None:
    """Change settings of this copy, leaving its others; what DVC would read otherwise is not left there.

    Raises
    ------
    UsageError
        If a value cannot stand in such a file.
    """
    from dvc.config import Config, ConfigError

    file = root / ".dvc" / "config.local"
    before = file.read_bytes() if file.exists() else None
    try:
        with Config(str(root / ".dvc")).edit("local") as edited:
            for section, values in settings.items():
                for key, value in values.items():
                    edited.setdefault(section, {})[key] = value
        understood = not differ(root, settings)
    except (ConfigError, UnicodeError) as error:
        understood = False
        why = str(error)
    else:
        why = f"it reads {_read(root).get('cache')}"
    if not understood:
        if before is None:
            file.unlink(missing_ok=True)
        else:
            file.write_bytes(before)
        raise _refusal(settings.get("cache", {}), why)


def _read(root: Path) -> Mapping[str, Any]:
    from dvc.config import Config

    found: Mapping[str, Any] = Config(str(root / ".dvc"))
    return found
