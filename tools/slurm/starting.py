"""Starting a cluster and ending it."""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path
from typing import Any

from . import cgroups
from .cluster import NAME, Cluster, ClusterError, NodesError, Options
from .folder import DIRECTORY, create, load, locked, remove
from .packages import install, need_root
from .processes import Process, end, holds


def up(directory: Path = DIRECTORY, *, timeout: float = 60, **asked: Any) -> Cluster:
    """Start the cluster of a folder, or what is missing of it, and wait `timeout` seconds until its nodes take jobs.

    Beside `timeout` it takes the `Options`. An UnavailableError if Slurm cannot be had
    on this machine, a ClusterError if the cluster does not come up, or if it runs with
    other options.
    """
    directory, options = directory.resolve(), Options(**asked)
    with locked(directory):
        cluster = load(directory)
        if cluster and cluster.pids and cluster.options != options:
            raise ClusterError(
                f"the cluster of {directory} runs with other options ({cluster.options}): stop it first"
            )
        install(options.accounting)
        if cluster and cluster.pids:
            return _start(cluster, timeout)
        if cluster:
            _stop(cluster)
        cluster = create(directory, options, cgroups.limits())
        try:
            return _start(cluster, timeout)
        except NodesError:
            if cluster.limits == "none":
                raise
            print(
                f"no limits of memory: the nodes do not come up with {cluster.limits}",
                file=sys.stderr,
            )
            _stop(cluster)
            return _start(create(directory, options, "none"), timeout)


def down(directory: Path = DIRECTORY) -> bool:
    """Stop all processes of a folder's cluster, jobs included, and remove the folder; False if there is none."""
    directory = directory.resolve()
    with locked(directory):
        if cluster := load(directory):
            need_root()
            _stop(cluster)
        return cluster is not None


def _start(cluster: Cluster, timeout: float) -> Cluster:
    """Start what does not run, in order, and wait for the nodes."""
    for daemon in cluster.daemons:
        if cluster.pid(daemon):
            continue
        if daemon == "munged":
            (cluster.runtime / "munge.socket").unlink(missing_ok=True)
        if daemon == "mariadbd" and not (cluster.directory / "database/mysql").is_dir():
            _make_database(cluster)
        cluster.start(daemon)
        if daemon == "mariadbd" and not holds(
            (cluster.runtime / "private/mariadb.socket").is_socket, 30
        ):
            raise ClusterError(f"MariaDB does not answer:\n{cluster.tail(daemon)}")
        if daemon == "slurmdbd":
            _register(cluster)
    cluster.resume()
    cluster.wait(timeout)
    return cluster


def _stop(cluster: Cluster) -> None:
    """Stop all processes of a cluster, of which some may run, and remove its files."""

    def running() -> list[int]:
        # Not by PID files: one may be lost, or not yet written.
        return [
            process.pid
            for process in Process.all()
            if process.name == program and cluster.owns(process)
        ]

    # The nodes first, all at once, then what they talk to; munge last.
    for program in ("slurmd", "slurmctld", "slurmdbd", "mariadbd", "munged"):
        if not (end(running, signal.SIGTERM, 20) or end(running, signal.SIGKILL, 10)):
            raise ClusterError(f"{program} cannot be killed")
    cluster.kill_jobs()
    remove(cluster)


def _make_database(cluster: Cluster) -> None:
    """Make MariaDB's own tables. Only root gets in, by the socket, and without a password."""
    argv = [
        "mariadb-install-db",
        "--no-defaults",
        f"--datadir={cluster.directory}/database",
        "--skip-test-db",
    ]
    argv += [
        "--user=root",
        "--auth-root-socket-user=root",
        "--auth-root-authentication-method=socket",
    ]
    done = cluster.command(*argv, timeout=120)
    if done.returncode:
        raise ClusterError(
            f"MariaDB's tables could not be made:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )


def _register(cluster: Cluster) -> None:
    """Tell slurmdbd of the cluster; without it slurmctld does not start."""

    def registered() -> bool:
        with socket.socket() as probe:
            # sacctmgr itself waits long for a slurmdbd that does not listen yet.
            if probe.connect_ex(("127.0.0.1", cluster.ports["slurmdbd"])):
                return False
        cluster.command("sacctmgr", "-i", "add", "cluster", NAME)
        return (
            NAME
            in cluster.command(
                "sacctmgr", "-n", "-P", "show", "cluster", "format=cluster"
            ).stdout.split()
        )

    if not holds(registered, 60, 0.2):
        raise ClusterError(f"slurmdbd does not answer:\n{cluster.tail('slurmdbd')}")
