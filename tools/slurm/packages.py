"""Debian's packages, installed where their programs are missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Program → package. MariaDB's bare server: the full package sets up a database and a
# service that nobody asked for.
SLURM = {
    "munged": "munge",
    "slurmctld": "slurm-wlm",
    "slurmd": "slurm-wlm",
    "sbatch": "slurm-wlm",
}
MARIADB = {
    "mariadbd": "mariadb-server-core",
    "my_print_defaults": "mariadb-client-core",
}
# Whose answer keeps Debian's packages from starting their services.
POLICY = Path("/usr/sbin/policy-rc.d")


class UnavailableError(Exception):
    """Slurm cannot be had on this machine: a reason to skip a test, not to fail it."""


def need_root() -> None:
    """Raise an error for who is not root."""
    if os.geteuid() != 0:
        raise UnavailableError("only root can start and stop its daemons")


def install(accounting: bool) -> None:
    """Install what is missing, without starting any service; an UnavailableError if that cannot be done."""
    need_root()
    programs = SLURM | ({"slurmdbd": "slurmdbd", **MARIADB} if accounting else {})
    if not (packages := _missing(programs)):
        return
    if not shutil.which("apt-get"):
        raise UnavailableError(
            f"not installed, and there is no apt-get: {' '.join(packages)}"
        )
    print(f"installing {' '.join(packages)} …", file=sys.stderr)
    # Nothing may be removed: a MySQL server, say, which MariaDB's would replace.
    options = [
        "-q",
        "-y",
        "--no-remove",
        "--no-install-recommends",
        "-o",
        "DPkg::Lock::Timeout=120",
    ]
    command = [
        "apt-get",
        "install",
        *options,
        "-o",
        "Dpkg::Options::=--force-confold",
        *packages,
    ]
    # The machine may have a policy of its own; services without a configuration do not
    # start anyway.
    if ours := not POLICY.exists():
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        # The lists may be old or absent: fetched only then, since that takes longer
        # than the rest.
        for argv in (command, ["apt-get", "update", "-q"], command):
            environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            done = subprocess.run(
                argv,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            if not _missing(programs):
                return
    finally:
        if ours:
            POLICY.unlink()
    raise UnavailableError(
        f"cannot install {' '.join(packages)}: {(done.stderr or done.stdout).strip()[-300:]}"
    )


def _missing(programs: dict[str, str]) -> list[str]:
    return sorted(
        {
            package
            for program, package in programs.items()
            if not shutil.which(program, path=SYSTEM_PATH)
        }
    )
