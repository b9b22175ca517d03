"""Settings of one copy of a repository, in DVC's own file for them: ``.dvc/config.local``."""

from __future__ import annotations

import io
import shlex
from collections.abc import Mapping
from pathlib import Path

from mllam_exps.base.errors import UsageError

Setting = str | list[str]


def write(file: Path, cache: Mapping[str, Setting]) -> None:
    """Write DVC's settings of the cache into a file, and look that DVC reads the same there.

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
        ConfigObj({"cache": dict(cache)}, encoding="utf-8").write(written)
        file.write_bytes(written.getvalue())
        read = Config.load_file(str(file)).get("cache")
    except (ConfigObjError, ConfigError, UnicodeError) as error:
        raise _refusal(cache, str(error)) from error
    if read != cache:
        raise _refusal(cache, f"it reads {read}")


def _refusal(cache: Mapping[str, Setting], why: str) -> UsageError:
    """Say that the cache's folder has a name that DVC cannot keep; of the other settings it has the words itself."""
    return UsageError(
        "is a path that cannot stand in a file of DVC's settings",
        where=f"cache.dir {shlex.quote(str(cache.get('dir')))}",
        why=why,
        next="move the repository, or dvc cache dir --local FOLDER, to a path without quotes and %(…)",
    )
