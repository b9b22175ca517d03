"""One workspace that two hosts see: processes of one have no numbers on the other, or those of other programs."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from support.experiment import Experiment, eventually
from support.submissions import settled, submit

HOST = """\
#!/bin/bash
# host NAME COMMAND…: on a host of that name, with processes of its own
name=$1; shift
exec unshare --pid --uts --mount --fork --kill-child --mount-proc bash -c 'hostname "$0"; exec "$@"' "$name" "$@"
"""

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None,
    reason="only root makes hosts of its own",
)


def test_what_works_on_another_host_is_known_and_dvc_s_lock_of_a_dead_one_is_told(
    made: Experiment, tmp_path: Path
):
    host = tmp_path / "host"
    host.write_text(HOST)
    host.chmod(0o755)
    made.hold()
    working = made.start(str(host), "a", "dvc", "exp", "run", "-n", "x")
    try:
        eventually(lambda: made.starts() == 1, 60, "its program works")
        [cell] = json.loads(
            made.ok(str(host), "b", "mllam-exps", "status", "x", "--json")
        )[0]["stages"][-1:]
        assert (cell["stage"], cell["state"], cell["node"]) == ("grow", "running", "a")
        submit(made, "-n", "y", "-S", "toy.yaml:grow.epochs=1")
        assert settled(made, "y")["y"]["state"] == "done"
        refused = made.command(str(host), "b", "mllam-exps", "cancel", "grow")
        assert "a" in refused.stdout
        assert made.starts() == 2, "nothing was started twice"
    finally:
        os.killpg(working.pid, signal.SIGKILL)
        working.wait()
    # DVC's process had number 1 there: here that is another program, and it never ends.
    assert (made.root / ".dvc/tmp/rwlock").read_text().count('"pid": 1,')
    told = made.command("mllam-exps", "doctor").stdout
    assert "rwlock: it names process 1, `" in told
    assert "rm " in told
    blocked = made.command("mllam-exps", "why", "grow")
    assert (blocked.returncode, "rwlock: it names process 1" in blocked.stdout) == (
        2,
        True,
    )
    (made.root / ".dvc/tmp/rwlock").unlink()
    made.ok("mllam-exps", "why", "grow")
