"""Cgroups: what limits the memory of jobs, if the machine lets us."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from pathlib import Path

from .cluster import NAME, Cluster, ClusterError
from .processes import holds

CGROUPS = Path("/sys/fs/cgroup")


def limits() -> str:
    """Return what can limit the memory of jobs here; say so if nothing can."""
    v2 = CGROUPS / "cgroup.controllers"
    if (
        v2.exists()
        and "memory" in v2.read_text().split()
        and os.access(CGROUPS / "cgroup.subtree_control", os.W_OK)
    ):
        return "cgroup/v2"
    probe = CGROUPS / "memory" / f"{NAME}-probe-{os.getpid()}"
    try:
        (CGROUPS / "freezer" / "cgroup.procs").stat()
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        print(
            f"no limits of memory: cgroups cannot be used here ({error})",
            file=sys.stderr,
        )
        return "none"
    return "cgroup/v1"


def make(cluster: Cluster) -> None:
    """Give the cluster cgroups of its own, below which Slurm makes its `slurm_n1` and so on.

    Slurm names them by the node alone, so two clusters on one machine would share them.
    """
    for controller in ("memory", "freezer"):
        own = CGROUPS / controller / cluster.runtime.name
        own.mkdir()
        (cluster.directory / "cgroup" / controller).symlink_to(own)


def remove(cluster: Cluster) -> None:
    """Remove the cgroups of a cluster that does not run."""
    for root in [link.resolve() for link in cluster.directory.glob("cgroup/*")]:
        if not holds(functools.partial(_removed, root), 5):
            raise ClusterError(f"{root} cannot be removed")


def _removed(root: Path) -> bool:
    """Remove a cgroup and all below it; False if one is still busy, as it is for a moment after its last process."""
    for folder, _, _ in os.walk(root, topdown=False):
        with contextlib.suppress(OSError):
            Path(folder).rmdir()
    return not root.exists()
