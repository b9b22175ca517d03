"""A cluster, named by its folder: its daemons, its nodes, and the processes of its jobs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .packages import SYSTEM_PATH
from .processes import Process, end, holds

NAME = "mllam"
NODES = ("n1", "n2", "n3", "n4")


class ClusterError(Exception):
    """The cluster could not be started or stopped."""


class NodesError(ClusterError):
    """The nodes did not come up."""


@dataclass(frozen=True)
class Options:
    """What a cluster was asked to be."""

    accounting: bool = (
        False  # with slurmdbd on a MariaDB of its own, so that `sacct` answers
    )
    preemption: bool = False  # with the partition `low`, whose jobs are requeued when one of another wants their place
    min_job_age: int = 300  # seconds after which slurmctld forgets a job that ended
    memory: int = 2000  # of each node in MB, as Slurm believes


@dataclass(frozen=True)
class Cluster:
    """A cluster, running or not."""

    directory: Path
    runtime: Path  # of its sockets, spool folders and munge key
    options: Options
    ports: dict[str, int]
    limits: str  # who tracks processes and limits memory: `cgroup/v1`, `cgroup/v2`, or `none`

    @property
    def conf(self) -> Path:
        """Where slurm.conf is: the value of SLURM_CONF."""
        return self.directory / "slurm.conf"

    @property
    def environment(self) -> dict[str, str]:
        """Environment of the daemons: nothing of the caller's, whose secrets every job could read otherwise."""
        # libmariadb takes its socket from MYSQL_UNIX_PORT, slurmdbd has no setting for
        # it.
        socket = str(self.runtime / "private/mariadb.socket")
        return {
            "PATH": SYSTEM_PATH,
            "LANG": "C.UTF-8",
            "SLURM_CONF": str(self.conf),
            "MYSQL_UNIX_PORT": socket,
        }

    @property
    def daemons(self) -> list[str]:
        """Names of its daemons, in the order in which they start."""
        database = ["mariadbd", "slurmdbd"] if self.options.accounting else []
        return ["munged", *database, "slurmctld", *(f"slurmd {node}" for node in NODES)]

    @property
    def pids(self) -> dict[str, int]:
        """PIDs of the daemons that live, by name."""
        return {daemon: pid for daemon in self.daemons if (pid := self.pid(daemon))}

    def pid_file(self, daemon: str) -> Path:
        """Return where a daemon writes its PID."""
        return self.directory / "pid" / f"{daemon.replace(' ', '.')}.pid"

    def log(self, daemon: str) -> Path:
        """Return where a daemon writes its log."""
        return self.directory / "log" / f"{daemon.replace(' ', '.')}.log"

    def tail(self, daemon: str) -> str:
        """Return the end of a daemon's log."""
        log = self.log(daemon)
        return (
            "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            if log.exists()
            else "no log"
        )

    def owns(self, process: Process) -> bool:
        """Tell whether a process was started with this cluster's slurm.conf."""
        return f"SLURM_CONF={self.conf}" in process.environment

    def pid(self, daemon: str) -> int | None:
        """Return the PID of a daemon; None if it does not run."""
        try:
            process = Process.read(int(self.pid_file(daemon).read_text()))
        except (OSError, ValueError):
            return None
        # The number may have gone to another process since. Who is not root has to
        # believe the file.
        if not process or process.name != daemon.partition(" ")[0]:
            return None
        return (
            process.pid
            if self.owns(process) or (os.geteuid() != 0 and not process.environment)
            else None
        )

    def start(self, daemon: str) -> int:
        """Start one daemon, unless it runs, and return its PID; a ClusterError if it does not come up in 20 seconds."""
        if pid := self.pid(daemon):
            return pid
        self.pid_file(daemon).unlink(missing_ok=True)
        with self.log(daemon).open("ab") as log:
            argv, null = self._argv(daemon), subprocess.DEVNULL
            done = subprocess.run(
                argv,
                env=self.environment,
                stdin=null,
                stdout=log,
                stderr=log,
                cwd="/",
                umask=0o022,
                check=False,
            )
        if done.returncode or not holds(lambda: self.pid(daemon), 20):
            kind = NodesError if daemon.startswith("slurmd ") else ClusterError
            raise kind(
                f"{daemon} did not start; the end of its log:\n{self.tail(daemon)}"
            )
        return self.pid(daemon) or 0

    def stop(
        self,
        daemon: str,
        signum: int = signal.SIGTERM,
        *,
        tree: bool = False,
        wait: float = 10,
    ) -> None:
        """Stop one daemon and wait until it is gone; a ClusterError if it lives on after `wait` seconds.

        A slurmd that is stopped leaves its jobs running. With `tree` the slurmstepd
        processes and the jobs of its node are killed too: that is a dead node.
        """
        if not end(lambda: filter(None, [self.pid(daemon)]), signum, wait):
            raise ClusterError(
                f"{daemon} does not react to {signal.Signals(signum).name}"
            )
        if tree:
            self.kill_jobs(daemon.removeprefix("slurmd "))

    def kill_jobs(self, node: str | None = None) -> None:
        """Kill the slurmstepd processes and all processes of jobs, of one node or of all."""
        if not end(
            lambda: self._job_processes([node] if node else list(NODES)),
            signal.SIGKILL,
            5,
        ):
            raise ClusterError("processes of jobs cannot be killed")

    def nodes(self) -> dict[str, str]:
        """Return the nodes' states as `sinfo` tells them; none if slurmctld does not answer."""
        lines = self.command("sinfo", "-h", "-N", "-o", "%N %T").stdout.splitlines()
        return {
            node: state for node, _, state in (line.partition(" ") for line in lines)
        }

    def ready(self) -> bool:
        """Tell whether all nodes take jobs."""
        nodes = self.nodes()
        # A state with a mark, e.g. `idle*`, is one that slurmctld only believes.
        return set(nodes) == set(NODES) and set(nodes.values()) <= {
            "idle",
            "mixed",
            "allocated",
            "completing",
        }

    def wait(self, timeout: float = 60) -> None:
        """Wait until all nodes take jobs; a NodesError with the ends of the logs if they do not in time."""
        if not holds(self.ready, timeout, 0.2):
            logs = "\n".join(
                f"== {daemon}\n{self.tail(daemon)}" for daemon in self.daemons
            )
            raise NodesError(
                f"not all nodes are up after {timeout:.0f} s: {self.nodes() or 'no answer'}\n{logs}"
            )

    def resume(self) -> None:
        """Put nodes to work again that Slurm has drained or holds for dead, and that answer."""
        if lost := [
            node
            for node, state in self.nodes().items()
            if state.startswith(("drain", "down"))
        ]:
            self.command(
                "scontrol", "update", f"NodeName={','.join(lost)}", "State=RESUME"
            )

    def command(
        self, *argv: str, timeout: float = 20
    ) -> subprocess.CompletedProcess[str]:
        """Run one of Slurm's commands on this cluster; exit code 124 if it does not end in time."""
        environment = {**os.environ, **self.environment}
        try:
            return subprocess.run(
                argv,
                env=environment,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            return subprocess.CompletedProcess(argv, 124, "", str(error))

    def _argv(self, daemon: str) -> list[str]:
        run, private, log, pid = (
            self.runtime,
            self.runtime / "private",
            self.log(daemon),
            self.pid_file(daemon),
        )
        program, _, node = daemon.partition(" ")
        munged = [
            "munged",
            "--num-threads=2",
            f"--socket={run}/munge.socket",
            f"--pid-file={pid}",
            f"--log-file={log}",
        ]
        # The only one that does not leave the foreground by itself.
        mariadbd = [
            "setsid",
            "--fork",
            "mariadbd",
            "--no-defaults",
            "--user=root",
            "--skip-networking",
        ]
        mariadbd += [
            f"--datadir={self.directory}/database",
            f"--socket={private}/mariadb.socket",
            f"--pid-file={pid}",
        ]
        return {
            "munged": [
                *munged,
                f"--key-file={private}/munge.key",
                f"--seed-file={private}/munge.seed",
            ],
            "mariadbd": mariadbd,
            "slurmdbd": ["slurmdbd"],
            "slurmctld": ["slurmctld", "-f", str(self.conf)],
            "slurmd": ["slurmd", "-f", str(self.conf), "-N", node],
        }[program]

    def _job_processes(self, nodes: list[str]) -> set[int]:
        """PIDs of slurmstepd, its children, and of what is in a cgroup or carries the marks of a job."""
        processes = Process.all()
        logs = {str(self.log(f"slurmd {node}")) for node in nodes}
        marks = {f"SLURMD_NODENAME={node}" for node in nodes}
        # slurmstepd overwrites its environment with its title, but keeps the log of its
        # slurmd open.
        found = {
            each.pid
            for each in processes
            if each.name.startswith("slurmstepd") and each.files() & logs
        }
        found |= {
            each.pid
            for each in processes
            if self.owns(each) and each.environment & marks
        }
        for node in nodes:
            for members in self.directory.glob(
                f"cgroup/*/slurm_{node}/**/cgroup.procs"
            ):
                with contextlib.suppress(OSError):
                    found.update(map(int, members.read_text().split()))
        while more := {each.pid for each in processes if each.parent in found} - found:
            found |= more
        return found - {os.getpid()} - set(self.pids.values())
