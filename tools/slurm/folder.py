"""The folder of a cluster: made with all that the daemons need, read, and removed."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from . import cgroups, configuration
from .cluster import NAME, NODES, Cluster, ClusterError, Options

DIRECTORY = Path(__file__).parents[2] / ".slurm"


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Let one process at a time start or stop the clusters beside each other."""
    # The parent is locked: the folder itself comes and goes.
    directory.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory.parent, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def load(directory: Path = DIRECTORY) -> Cluster | None:
    """Return the cluster of a folder, running or not; None if there is none."""
    directory = directory.resolve()
    try:
        record = json.loads((directory / "cluster.json").read_text())
    except FileNotFoundError:
        return None
    return Cluster(
        directory,
        Path(record["runtime"]),
        Options(**record["options"]),
        record["ports"],
        record["limits"],
    )


def create(directory: Path, options: Options, limits: str) -> Cluster:
    """Make the folder of a cluster with all its configuration."""
    if directory.exists() and any(directory.iterdir()):
        raise ClusterError(
            f"{directory} is not empty, and no cluster: choose another folder"
        )
    # Sockets need a short path (107 characters at most, and slurmstepd adds
    # `spool/n1/n1_123456.4294967291`) that is open to all users and safe in munged's
    # eyes: below /tmp, whatever the folder's is.
    runtime = Path(tempfile.mkdtemp(prefix=f"{NAME}-", dir="/tmp"))
    cluster = Cluster(
        directory,
        runtime,
        options,
        _free_ports(["slurmctld", "slurmdbd", *NODES]),
        limits,
    )
    directory.mkdir(exist_ok=True)
    # First of all: what has no record is not removed by `down`.
    record = {
        "runtime": str(runtime),
        "options": asdict(options),
        "ports": cluster.ports,
        "limits": limits,
    }
    (directory / "cluster.json").write_text(json.dumps(record, indent=2) + "\n")
    (directory / ".gitignore").write_text("*\n")
    shared = [directory, *(directory / name for name in ("pid", "log", "cgroup"))]
    shared += [
        runtime,
        runtime / "spool",
        *(runtime / "spool" / node for node in NODES),
    ]
    for folder in (
        *shared,
        runtime / "private",
        directory / "state",
        directory / "database",
    ):
        folder.mkdir(mode=0o700, exist_ok=True)
        # The umask changes what mkdir is told.
        folder.chmod(0o755 if folder in shared else 0o700)
    files = {
        runtime / "private/munge.key": secrets.token_hex(64),
        cluster.conf: configuration.slurm_conf(cluster),
        directory / "cgroup.conf": configuration.cgroup_conf(cluster),
    }
    if options.accounting:
        files[directory / "slurmdbd.conf"] = configuration.slurmdbd_conf(cluster)
    for path, text in files.items():
        path.write_text(text)
        # munged and slurmdbd want files that only root can read.
        path.chmod(0o600 if path.name in ("munge.key", "slurmdbd.conf") else 0o644)
    if limits == "cgroup/v1":
        cgroups.make(cluster)
    return cluster


def remove(cluster: Cluster) -> None:
    """Remove the cgroups and the files of a cluster that does not run."""
    cgroups.remove(cluster)
    shutil.rmtree(cluster.runtime, ignore_errors=True)
    shutil.rmtree(cluster.directory)


def _free_ports(names: list[str]) -> dict[str, int]:
    """Return ports that nobody listens on, below those that the kernel gives to outgoing connections."""
    found: list[int] = []
    # Two that look at the same moment begin at different places.
    for port in range(20000 + os.getpid() * 16 % 8000, 32000):
        with socket.socket() as candidate, contextlib.suppress(OSError):
            candidate.bind(("", port))
            found.append(port)
        if len(found) == len(names):
            return dict(zip(names, found, strict=True))
    raise ClusterError("no free ports")
