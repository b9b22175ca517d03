"""Settings of DVC's cache that a clone gets: DVC reads there what was meant, whatever the folder is called."""

from __future__ import annotations

from pathlib import Path

import pytest
from dvc.config import Config

from mllam_exps.base.errors import UsageError
from mllam_exps.dvc import local_settings

NAMES = [
    "run,2",
    "b #2,x",
    "#a",
    ' "q", #x',
    "it's",
    "a;b = c",
    "é,è",
    "50%",
    "[cache]",
]


@pytest.mark.parametrize("name", NAMES)
def test_dvc_reads_the_folder_that_was_meant(tmp_path: Path, name: str):
    given = {"dir": f"/data/{name}/cache", "type": ["copy"], "shared": "group"}
    both = {"cache": given, "parsing": {"list": "append"}}
    local_settings.write(tmp_path / "config.local", both)
    read = Config(str(tmp_path))
    assert {key: read["cache"][key] for key in given} == given
    assert read["parsing"]["list"] == "append"


@pytest.mark.parametrize("name", ["%(x)s", "'''and\"\"\""])
def test_a_folder_that_dvc_would_not_find_is_refused(tmp_path: Path, name: str):
    with pytest.raises(UsageError, match="dvc cache dir"):
        local_settings.write(
            tmp_path / "config.local", {"cache": {"dir": f"/data/{name}"}}
        )
