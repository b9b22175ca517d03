"""A scheduler that another package adds: one module and an entry point, as `mllam_exps.schedulers` says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mllam_exps import schedulers
from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.machines import machine_files, values

MODULE = """
from mllam_exps.schedulers.local import RECORD, LocalScheduler

TRACES = ("PBS_",)
SETTINGS = ("PBS_CONF_FILE",)


class Pbs(LocalScheduler):
    name = "pbs"


def make(shared):
    return Pbs()
"""


@pytest.fixture
def pbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package with a scheduler, as pip installs it; and a repository whose machine file names that."""
    (tmp_path / "site_pbs.py").write_text(MODULE)
    info = tmp_path / "site_pbs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: site-pbs\nVersion: 1.0\n"
    )
    (info / "entry_points.txt").write_text("[mllam_exps.schedulers]\npbs = site_pbs\n")
    (tmp_path / "machines").mkdir()
    (tmp_path / "machines/x.yaml").write_text("scheduler: pbs\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(schedulers, "_modules", {})
    values.added_schedulers.cache_clear()
    yield tmp_path
    values.added_schedulers.cache_clear()
    schedulers.get.cache_clear()


def test_a_machine_file_may_name_it(pbs: Path) -> None:
    machine = machine_files.load(pbs, "x")
    scheduler = schedulers.get(machine.scheduler, pbs)
    assert scheduler.name == "pbs"
    assert schedulers.record_shape("pbs") == schedulers.record_shape("local")


def test_what_it_leaves_in_the_environment_does_not_go_on(pbs: Path) -> None:
    environ = {"PBS_JOBID": "7", "PBS_CONF_FILE": "/etc/pbs.conf", "HOME": "/h"}
    environ |= {"GIT_DIR": "/r/.git", "GIT_CONFIG_COUNT": "1", "DVC_ROOT": "/r"}
    schedulers.get("pbs", pbs)
    assert set(schedulers.child_environment(environ)) == {"PBS_CONF_FILE", "HOME"}


def test_without_the_package_it_is_refused(pbs: Path) -> None:
    (pbs / "site_pbs-1.0.dist-info/entry_points.txt").unlink()
    with pytest.raises(MllamError, match="must be 'local' or 'slurm', not 'pbs'"):
        machine_files.load(pbs, "x")
    with pytest.raises(UsageError, match="install the package that has it"):
        schedulers.get("pbs", pbs)
    assert schedulers.record_shape("pbs") is None
