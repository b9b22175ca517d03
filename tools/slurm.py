"""A private Slurm cluster of four nodes on this machine, for tests and trials: `up`, `down` and `status`.

Everything lies in one folder (`.slurm/` by default), with ports, a munge key and a database of its own, so a Slurm,
munge or MariaDB that the machine already has is not touched. The daemons run as root, any user may submit. Debian's
packages are installed where they are missing; where that cannot be done, the exit code is 69 (EX_UNAVAILABLE).

    python3 tools/slurm.py up && export SLURM_CONF=$PWD/.slurm/slurm.conf && sinfo
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parents[1] / ".slurm"
NAME = "mllam"
NODES = ("n1", "n2", "n3", "n4")
CPUS = 4
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CGROUPS = Path("/sys/fs/cgroup")
UNAVAILABLE = 69
# A unix socket's path may have 107 characters, and slurmstepd adds `run/spool/n1/n1_123456.4294967291` to the folder's.
LONGEST = 60

# Program → package. MariaDB's bare server: the full package sets up a database and a service that nobody asked for.
SLURM = {"munged": "munge", "slurmctld": "slurm-wlm", "slurmd": "slurm-wlm", "sbatch": "slurm-wlm"}
ACCOUNTING = {
    "slurmdbd": "slurmdbd",
    "mariadbd": "mariadb-server-core",
    "mariadb-install-db": "mariadb-server-core",
    "my_print_defaults": "mariadb-client-core",
}

LOOPBACK_CONF = "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny\n"
# The "password" is where munge listens: AuthInfo does not reach what talks to slurmdbd.
ACCOUNTING_CONF = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={runtime}/munge.socket
"""
# A partition's tier decides whom its jobs may displace. A job of `low` that may not be requeued is cancelled instead.
PREEMPTION_CONF = """\
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
"""
LOW_CONF = "PartitionName=low PriorityTier=1 PreemptMode=REQUEUE\n"


class UnavailableError(Exception):
    """Slurm cannot be had on this machine: a reason to skip a test, not to fail it."""


class ClusterError(Exception):
    """The cluster could not be started or stopped."""


class NodesError(ClusterError):
    """The nodes did not come up."""


@dataclass(frozen=True)
class Options:
    """What a cluster was asked to be.

    Parameters
    ----------
    accounting : bool
        Run slurmdbd on a MariaDB of its own, so that `sacct` answers.
    preemption : bool
        Add the partition `low`, whose jobs are requeued when a job of another partition wants their place.
    min_job_age : int
        Seconds after which slurmctld forgets a job that ended.
    memory : int
        Memory of each node in MB, as Slurm believes.
    """

    accounting: bool = False
    preemption: bool = False
    min_job_age: int = 300
    memory: int = 2000


@dataclass(frozen=True)
class Cluster:
    """A cluster, named by its folder.

    Parameters
    ----------
    directory : Path
        The folder of all its files.
    runtime : Path
        Where its sockets, spool folders and munge key lie: below `directory` if that does, else below /tmp.
    options : Options
        What it was asked to be.
    ports : dict of str to int
        Ports by daemon.
    limits : str
        Who tracks processes and limits memory: `cgroup/v1`, `cgroup/v2`, or `none`.
    """

    directory: Path
    runtime: Path
    options: Options
    ports: dict[str, int]
    limits: str

    @property
    def conf(self) -> Path:
        """Where slurm.conf is: the value of SLURM_CONF."""
        return self.directory / "slurm.conf"

    @property
    def cgroups(self) -> Path:
        """Where Slurm finds its cgroups: links to this cluster's own."""
        return self.directory / "cgroup"

    @property
    def environment(self) -> dict[str, str]:
        """Environment of the daemons: nothing of the caller's, whose secrets every job could read otherwise."""
        # libmariadb takes its socket from MYSQL_UNIX_PORT, slurmdbd has no setting for it.
        return {
            "PATH": SYSTEM_PATH,
            "LANG": "C.UTF-8",
            "SLURM_CONF": str(self.conf),
            "MYSQL_UNIX_PORT": str(self.runtime / "private/mariadb.socket"),
        }

    @property
    def daemons(self) -> list[str]:
        """Names of its daemons, in the order in which they start."""
        database = ["mariadbd", "slurmdbd"] if self.options.accounting else []
        return ["munged", *database, "slurmctld", *(f"slurmd {node}" for node in NODES)]

    @property
    def partitions(self) -> list[str]:
        """Names of its partitions, the default one first."""
        return ["main", "short", *(["low"] if self.options.preemption else [])]

    @property
    def pids(self) -> dict[str, int]:
        """PIDs of the daemons that live, by name."""
        found = {daemon: self.pid(daemon) for daemon in self.daemons}
        return {daemon: pid for daemon, pid in found.items() if pid is not None}

    def pid_file(self, daemon: str) -> Path:
        """Return where a daemon writes its PID."""
        return self.directory / "pid" / f"{daemon.replace(' ', '.')}.pid"

    def log(self, daemon: str) -> Path:
        """Return where a daemon writes its log."""
        return self.directory / "log" / f"{daemon.replace(' ', '.')}.log"

    def pid(self, daemon: str) -> int | None:
        """Return the PID of a daemon; None if it does not run."""
        try:
            process = Process.read(int(self.pid_file(daemon).read_text()))
        except (OSError, ValueError):
            return None
        # The number may have gone to another process since.
        return process.pid if process and process.is_daemon_of(self, daemon) else None

    def start(self, daemon: str) -> int:
        """Start one daemon, unless it runs, and return its PID.

        Raises
        ------
        ClusterError
            If it does not come up within twenty seconds.
        """
        if pid := self.pid(daemon):
            return pid
        self.pid_file(daemon).unlink(missing_ok=True)
        with self.log(daemon).open("ab") as log:
            done = subprocess.run(
                self._argv(daemon),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                umask=0o022,
                check=False,
            )
        if done.returncode or not _wait(lambda: self.pid(daemon), 20):
            kind = NodesError if daemon.startswith("slurmd ") else ClusterError
            raise kind(f"{daemon} did not start; the end of its log:\n{_tail(self.log(daemon))}")
        return self.pid(daemon) or 0

    def stop(self, daemon: str, signum: int = signal.SIGTERM, *, tree: bool = False, wait: float = 10) -> None:
        """Stop one daemon and wait until it is gone.

        A slurmd that is stopped leaves its jobs running. With `tree` the slurmstepd processes and the jobs of its node
        are killed too: that is a dead node.

        Raises
        ------
        ClusterError
            If it lives on after `wait` seconds.
        """
        if pid := self.pid(daemon):
            _signal(pid, signum)
            if not _wait(lambda: not self.pid(daemon), wait):
                raise ClusterError(f"{daemon} (PID {pid}) does not react to {signal.Signals(signum).name}")
        if tree:
            self.kill_jobs(daemon.removeprefix("slurmd "))

    def kill_jobs(self, node: str | None = None) -> None:
        """Kill the slurmstepd processes and all processes of jobs, of one node or of all."""
        for _ in range(100):
            # Again until there is none: a process may have been starting another one meanwhile.
            if not (found := self._job_processes(node)):
                return
            for pid in found:
                _signal(pid, signal.SIGKILL)
            time.sleep(0.05)
        raise ClusterError(f"processes of jobs cannot be killed: {sorted(found)}")

    def nodes(self) -> dict[str, str]:
        """Return the nodes' states as `sinfo` tells them; none if slurmctld does not answer."""
        lines = self.command("sinfo", "-h", "-N", "-o", "%N %T").stdout.splitlines()
        return {node: state for node, _, state in (line.partition(" ") for line in lines)}

    def ready(self) -> bool:
        """Tell whether all nodes take jobs."""
        nodes = self.nodes()
        # A state with a mark, e.g. `idle*`, is one that slurmctld only believes.
        return set(nodes) == set(NODES) and set(nodes.values()) <= {"idle", "mixed", "allocated", "completing"}

    def wait(self, timeout: float = 60) -> None:
        """Wait until all nodes take jobs.

        Raises
        ------
        NodesError
            If they do not within `timeout` seconds; with the ends of the logs.
        """
        if not _wait(self.ready, timeout, 0.2):
            logs = "\n".join(f"== {daemon}\n{_tail(self.log(daemon))}" for daemon in self.daemons)
            raise NodesError(f"not all nodes are up after {timeout:.0f} s: {self.nodes() or 'no answer'}\n{logs}")

    def resume(self) -> None:
        """Put nodes to work again that Slurm has drained or holds for dead, and that answer."""
        if lost := [node for node, state in self.nodes().items() if state.startswith(("drain", "down"))]:
            self.command("scontrol", "update", f"NodeName={','.join(lost)}", "State=RESUME")

    def command(self, *argv: str, timeout: float = 20) -> subprocess.CompletedProcess[str]:
        """Run one of Slurm's commands on this cluster; exit code 124 if it does not end in time."""
        environment = {**os.environ, **self.environment}
        try:
            return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired as error:
            return subprocess.CompletedProcess(argv, 124, "", str(error))

    def record(self) -> dict[str, Any]:
        """Return a JSON-able record: what `up --json` prints."""
        return {
            "conf": str(self.conf),
            "directory": str(self.directory),
            "runtime": str(self.runtime),
            "pids": self.pids,
            "ports": self.ports,
            "partitions": self.partitions,
            "limits": self.limits,
            **asdict(self.options),
        }

    def _argv(self, daemon: str) -> list[str]:
        program, _, node = daemon.partition(" ")
        run, pid, log, conf = self.runtime, self.pid_file(daemon), self.log(daemon), self.conf
        munge = {"socket": run / "munge.socket", "key-file": run / "private/munge.key"}
        munge |= {"seed-file": run / "private/munge.seed", "pid-file": pid, "log-file": log}
        database: dict[str, Any] = {"datadir": self.directory / "database", "socket": run / "private/mariadb.socket"}
        database |= {"pid-file": pid, "user": "root", "skip-networking": 1, "innodb-buffer-pool-size": "64M"}
        database |= {"innodb-lock-wait-timeout": 900, "innodb-flush-log-at-trx-commit": 0}
        return {
            "munged": ["munged", "--num-threads=2", *_flags(munge)],
            # The only one that does not leave the foreground by itself.
            "mariadbd": ["setsid", "--fork", "mariadbd", "--no-defaults", *_flags(database)],
            "slurmdbd": ["slurmdbd"],
            "slurmctld": ["slurmctld", "-f", str(conf)],
            "slurmd": ["slurmd", "-f", str(conf), "-N", node],
        }[program]

    def _job_processes(self, node: str | None = None) -> set[int]:
        """PIDs of slurmstepd, its children, and of what is in a cgroup or carries the marks of a job."""
        processes = {process.pid: process for process in Process.all()}
        found = {pid for pid, process in processes.items() if process.is_job_of(self, node)}
        for members in self.cgroups.glob(f"*/slurm_{node or '*'}/**/cgroup.procs"):
            with contextlib.suppress(OSError):
                found.update(map(int, members.read_text().split()))
        while more := {pid for pid, process in processes.items() if process.parent in found} - found:
            found |= more
        return found - {os.getpid()} - set(self.pids.values())


@dataclass(frozen=True)
class Process:
    """A living process, as /proc shows it; its environment is empty where only root may see it."""

    pid: int
    parent: int
    name: str
    environment: frozenset[str]

    @classmethod
    def read(cls, pid: int) -> Process | None:
        """Return a process; None if there is none, or if it has ended and only its parent does not know yet."""
        folder = Path("/proc", str(pid))
        try:
            before, _, after = (folder / "stat").read_text().rpartition(")")
            environment = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
        except PermissionError:
            environment = []
        except OSError:
            return None
        state, parent = after.split()[:2]
        return None if state in "ZX" else cls(pid, int(parent), before.partition("(")[2], frozenset(environment))

    @classmethod
    def all(cls) -> Iterator[Process]:
        """Return all processes."""
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and (process := cls.read(int(folder.name))):
                yield process

    def belongs_to(self, cluster: Cluster) -> bool:
        """Tell whether it was started with this cluster's slurm.conf."""
        return f"SLURM_CONF={cluster.conf}" in self.environment

    def is_daemon_of(self, cluster: Cluster, daemon: str) -> bool:
        """Tell whether it is a certain daemon; who is not root has to believe the PID file."""
        known = self.belongs_to(cluster) or (os.geteuid() != 0 and not self.environment)
        return known and self.name == daemon.partition(" ")[0]

    def is_job_of(self, cluster: Cluster, node: str | None) -> bool:
        """Tell whether it is a slurmstepd, or was started by one, on a node or on any."""
        nodes = [name for name in NODES if node in (None, name)]
        if self.name.startswith("slurmstepd"):
            # It overwrites its environment with its title, but keeps the log of its slurmd open.
            return bool(self._open_files() & {str(cluster.log(f"slurmd {name}")) for name in nodes})
        return self.belongs_to(cluster) and any(f"SLURMD_NODENAME={name}" in self.environment for name in nodes)

    def _open_files(self) -> set[str]:
        found = set()
        with contextlib.suppress(OSError):
            for link in Path("/proc", str(self.pid), "fd").iterdir():
                with contextlib.suppress(OSError):
                    found.add(str(link.readlink()))
        return found


def up(
    directory: Path = DIRECTORY,
    *,
    accounting: bool = False,
    preemption: bool = False,
    min_job_age: int = 300,
    memory: int = 2000,
    timeout: float = 60,
) -> Cluster:
    """Start the cluster of a folder, or what is missing of it, and wait until its nodes take jobs.

    Parameters
    ----------
    directory : Path
        Its folder, made if there is none.
    accounting, preemption, min_job_age, memory
        See `Options`.
    timeout : float
        Seconds that the nodes may take.

    Raises
    ------
    UnavailableError
        If Slurm cannot be had on this machine.
    ClusterError
        If it does not come up, or if it runs with other options.
    """
    directory = directory.resolve()
    options = Options(accounting, preemption, min_job_age, memory)
    with _locked(directory):
        cluster = load(directory)
        if cluster and cluster.pids and cluster.options != options:
            raise ClusterError(f"the cluster of {directory} runs with other options ({cluster.options}): stop it first")
        install({**SLURM, **(ACCOUNTING if accounting else {})})
        if cluster and cluster.pids:
            return _start(cluster, timeout)
        if cluster:
            _remove(cluster)
        limits = _limits()
        try:
            return _start(_create(directory, options, limits), timeout)
        except NodesError:
            if limits == "none" or not (cluster := load(directory)):
                raise
            print(f"no limits of memory: the nodes do not come up with {limits}", file=sys.stderr)
            _stop(cluster)
            return _start(_create(directory, options, "none"), timeout)


def down(directory: Path = DIRECTORY) -> bool:
    """Stop all processes of a folder's cluster, jobs included, and remove the folder; False if there is none."""
    directory = directory.resolve()
    with _locked(directory):
        cluster = load(directory)
        if cluster:
            _need_root()
            _stop(cluster)
        return cluster is not None


def load(directory: Path = DIRECTORY) -> Cluster | None:
    """Return the cluster of a folder, running or not; None if there is none."""
    directory = directory.resolve()
    try:
        record = json.loads((directory / "cluster.json").read_text())
    except FileNotFoundError:
        return None
    return Cluster(directory, Path(record["runtime"]), Options(**record["options"]), record["ports"], record["limits"])


def install(programs: dict[str, str]) -> None:
    """Install the packages of the programs that are missing, without starting any service.

    Raises
    ------
    UnavailableError
        If that cannot be done, or if this is not root.
    """
    _need_root()
    if not (packages := _missing(programs)):
        return
    if not shutil.which("apt-get"):
        raise UnavailableError(f"not installed, and there is no apt-get: {' '.join(packages)}")
    print(f"installing {' '.join(packages)} …", file=sys.stderr)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _no_services():
        # Nothing may be removed: a MySQL server, say, which MariaDB's would replace.
        options = ["-q", "-y", "--no-remove", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120"]
        command = ["apt-get", "install", *options, "-o", "Dpkg::Options::=--force-confold", *packages]
        # The lists may be old or absent: fetched only then, since that takes longer than the rest.
        for argv in (command, ["apt-get", "update", "-q"], command):
            done = subprocess.run(
                argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
            )
            if not _missing(programs):
                return
    raise UnavailableError(f"cannot install {' '.join(packages)}: {(done.stderr or done.stdout).strip()[-300:]}")


def _need_root() -> None:
    if os.geteuid() != 0:
        raise UnavailableError("only root can start and stop its daemons")


def _missing(programs: dict[str, str]) -> list[str]:
    return sorted({package for program, package in programs.items() if not shutil.which(program, path=SYSTEM_PATH)})


@contextlib.contextmanager
def _no_services() -> Iterator[None]:
    """Keep Debian's packages from starting their services, for the duration of a `with`."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        # The machine has a policy of its own; services without a configuration do not start anyway.
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Let one process at a time start or stop the clusters beside each other."""
    # The parent is locked: the folder itself comes and goes.
    directory.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory.parent, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _create(directory: Path, options: Options, limits: str) -> Cluster:
    """Make the folder of a cluster with all its configuration."""
    if directory.exists() and any(directory.iterdir()):
        raise ClusterError(f"{directory} is not empty, and no cluster: choose another folder")
    daemons = ["slurmctld", "slurmdbd", *NODES]
    runtime = directory / "run" if _reachable(directory) else Path("/tmp") / f"{NAME}-{_digest(directory)}"  # noqa: S108
    cluster = Cluster(directory, runtime, options, dict(zip(daemons, _free_ports(len(daemons)), strict=True)), limits)
    directory.mkdir(exist_ok=True)
    # First of all: what has no record is not removed by `down`.
    record = {"runtime": str(runtime), "options": asdict(options), "ports": cluster.ports, "limits": limits}
    _write(directory / "cluster.json", json.dumps(record, indent=2) + "\n")
    _write(directory / ".gitignore", "*\n")
    if runtime.parent != directory and runtime.exists():
        _remove_runtime(runtime)
    shared, private = ("pid", "log", "cgroup"), ("state", "database")
    directory.chmod(0o755)
    for folder in (runtime, *(directory / name for name in shared)):
        _make(folder, 0o755)
    for folder in (runtime / "private", *(directory / name for name in private)):
        _make(folder, 0o700)
    for folder in (runtime / "spool", *(runtime / "spool" / node for node in NODES)):
        _make(folder, 0o755)
    _write(runtime / "private/munge.key", secrets.token_hex(64), 0o600)
    _write(cluster.conf, _slurm_conf(cluster))
    _write(directory / "cgroup.conf", _cgroup_conf(cluster))
    if options.accounting:
        _write(directory / "slurmdbd.conf", _slurmdbd_conf(cluster), 0o600)
    if limits == "cgroup/v1":
        _make_cgroups(cluster)
    return cluster


def _make(folder: Path, mode: int) -> None:
    # It must be new: below /tmp another user may have been quicker. What mkdir is told of modes, the umask changes.
    folder.mkdir()
    folder.chmod(mode)


def _start(cluster: Cluster, timeout: float) -> Cluster:
    """Start what does not run, in order, and wait for the nodes."""
    for daemon in cluster.daemons:
        if cluster.pid(daemon):
            continue
        if daemon == "munged":
            (cluster.runtime / "munge.socket").unlink(missing_ok=True)
        if daemon == "mariadbd" and not (cluster.directory / "database" / "mysql").is_dir():
            _make_database(cluster)
        cluster.start(daemon)
        if daemon == "mariadbd" and not _wait((cluster.runtime / "private/mariadb.socket").is_socket, 30):
            raise ClusterError(f"MariaDB does not answer:\n{_tail(cluster.log(daemon))}")
        if daemon == "slurmdbd":
            _register(cluster)
    cluster.resume()
    cluster.wait(timeout)
    return cluster


def _stop(cluster: Cluster) -> None:
    """Stop all processes of a cluster, and remove its files."""
    # The nodes first, all at once, then what they talk to; munge last.
    for daemon in cluster.daemons:
        if daemon.startswith("slurmd ") and (pid := cluster.pid(daemon)):
            _signal(pid, signal.SIGTERM)
    for daemon in reversed(cluster.daemons):
        try:
            cluster.stop(daemon, wait=20)
        except ClusterError:
            cluster.stop(daemon, signal.SIGKILL)
    cluster.kill_jobs()
    # What no PID file names: a daemon whose file was lost, or one that was just starting.
    programs = {daemon.split()[0] for daemon in cluster.daemons}
    for process in Process.all():
        if process.name in programs and process.belongs_to(cluster):
            _signal(process.pid, signal.SIGKILL)
    _remove(cluster)


def _remove(cluster: Cluster) -> None:
    """Remove the cgroups and the files of a cluster that does not run."""
    cluster.kill_jobs()
    for root in [link.resolve() for link in cluster.cgroups.glob("*")]:
        if not _wait(functools.partial(_remove_cgroup, root), 5):
            raise ClusterError(f"{root} cannot be removed")
    if cluster.runtime.parent != cluster.directory:
        _remove_runtime(cluster.runtime)
    shutil.rmtree(cluster.directory)


def _remove_cgroup(root: Path) -> bool:
    """Remove a cgroup and all below it; False if one is still busy, as it is for a moment after its last process."""
    for folder, _, _ in os.walk(root, topdown=False):
        with contextlib.suppress(OSError):
            Path(folder).rmdir()
    return not root.exists()


def _remove_runtime(runtime: Path) -> None:
    """Remove a folder below /tmp, where anybody could have made one of that name."""
    if not runtime.exists():
        return
    if runtime.is_symlink() or runtime.stat().st_uid != os.geteuid():
        raise ClusterError(f"{runtime} belongs to somebody else")
    shutil.rmtree(runtime)


def _limits() -> str:
    """Return what can limit the memory of jobs here; say so if nothing can."""
    v2 = CGROUPS / "cgroup.controllers"
    if v2.exists() and "memory" in v2.read_text().split() and os.access(CGROUPS / "cgroup.subtree_control", os.W_OK):
        return "cgroup/v2"
    probe = CGROUPS / "memory" / f"{NAME}-probe-{os.getpid()}"
    try:
        (CGROUPS / "freezer" / "cgroup.procs").stat()
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        print(f"no limits of memory: cgroups cannot be used here ({error})", file=sys.stderr)
        return "none"
    return "cgroup/v1"


def _make_cgroups(cluster: Cluster) -> None:
    """Give the cluster cgroups of its own, below which Slurm makes its `slurm_n1` and so on.

    Slurm names them by the node alone, so two clusters on one machine would share them.
    """
    for controller in ("memory", "freezer"):
        own = CGROUPS / controller / f"{NAME}-{_digest(cluster.directory)}"
        own.mkdir(exist_ok=True)
        (cluster.cgroups / controller).symlink_to(own)


def _make_database(cluster: Cluster) -> None:
    """Make MariaDB's own tables. Only root gets in, by the socket, and without a password."""
    options = {"datadir": cluster.directory / "database", "user": "root", "auth-root-socket-user": "root"}
    argv = ["mariadb-install-db", "--no-defaults", "--skip-test-db", "--auth-root-authentication-method=socket"]
    done = cluster.command(*argv, *_flags(options), timeout=120)
    if done.returncode:
        raise ClusterError(f"MariaDB's tables could not be made:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def _register(cluster: Cluster) -> None:
    """Tell slurmdbd of the cluster; without it slurmctld does not start."""

    def registered() -> bool:
        with socket.socket() as probe:
            # sacctmgr itself waits long for a slurmdbd that does not listen yet.
            if probe.connect_ex(("127.0.0.1", cluster.ports["slurmdbd"])):
                return False
        cluster.command("sacctmgr", "-i", "add", "cluster", NAME)
        return NAME in cluster.command("sacctmgr", "-n", "-P", "show", "cluster", "format=cluster").stdout.split()

    if not _wait(registered, 60, 0.2):
        raise ClusterError(f"slurmdbd does not answer:\n{_tail(cluster.log('slurmdbd'))}")


def _slurm_conf(cluster: Cluster) -> str:
    """Return slurm.conf."""
    options, ports, directory, runtime = cluster.options, cluster.ports, cluster.directory, cluster.runtime
    host = socket.gethostname().partition(".")[0]
    proctrack, task = ("pgid", "none") if cluster.limits == "none" else ("cgroup", "cgroup")
    nodes = "\n".join(f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[node]}" for node in NODES)
    # The short life of credentials is what a requeued job waits for, two minutes by default. `config_overrides`: the
    # nodes are what is said here, whatever the machine has.
    return f"""\
ClusterName={NAME}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports["slurmctld"]}
{LOOPBACK_CONF if _name_is_loopback() else ""}\
SlurmUser=root
SlurmdUser=root
AuthInfo=socket={runtime}/munge.socket,cred_expire=5
StateSaveLocation={directory}/state
SlurmdSpoolDir={runtime}/spool/%n
SlurmctldPidFile={directory}/pid/slurmctld.pid
SlurmdPidFile={directory}/pid/slurmd.%n.pid
SlurmctldLogFile={directory}/log/slurmctld.log
SlurmdLogFile={directory}/log/slurmd.%n.log
ProctrackType=proctrack/{proctrack}
TaskPlugin=task/{task}
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=5
JobCompType=jobcomp/none
MailProg=/bin/true
MpiDefault=none
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=10
KillWait=5
MinJobAge={options.min_job_age}
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
{ACCOUNTING_CONF.format(port=ports["slurmdbd"], runtime=runtime) if options.accounting else ""}\
{PREEMPTION_CONF if options.preemption else ""}\
NodeName=DEFAULT CPUs={CPUS} RealMemory={options.memory}
{nodes}
PartitionName=DEFAULT Nodes=ALL DefMemPerCPU=300 MaxTime=1-00:00:00 PriorityTier=10 PreemptMode=OFF
PartitionName=main Default=YES
PartitionName=short MaxTime=00:02:00
{LOW_CONF if options.preemption else ""}"""


def _name_is_loopback() -> bool:
    """Tell whether the host's name stands for 127.0.0.1: that is where slurmd and srun would listen, else anywhere."""
    with contextlib.suppress(OSError):
        return socket.gethostbyname(socket.gethostname()) == "127.0.0.1"
    return False


def _cgroup_conf(cluster: Cluster) -> str:
    """Return cgroup.conf."""
    if cluster.limits == "none":
        return ""
    # Swap is limited where the kernel counts it, or a job over its limit would swap instead of being killed.
    swap = "yes" if cluster.limits == "cgroup/v2" or (CGROUPS / "memory/memory.memsw.limit_in_bytes").exists() else "no"
    place = "IgnoreSystemdOnFailure=yes" if cluster.limits == "cgroup/v2" else f"CgroupMountpoint={cluster.cgroups}"
    return f"""\
CgroupPlugin={cluster.limits}
{place}
ConstrainRAMSpace=yes
ConstrainSwapSpace={swap}
AllowedSwapSpace=0
ConstrainCores=no
ConstrainDevices=no
"""


def _slurmdbd_conf(cluster: Cluster) -> str:
    """Return slurmdbd.conf."""
    return f"""\
AuthType=auth/munge
AuthInfo=socket={cluster.runtime}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={cluster.ports["slurmdbd"]}
SlurmUser=root
PidFile={cluster.pid_file("slurmdbd")}
LogFile={cluster.log("slurmdbd")}
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct_db
"""


def _reachable(directory: Path) -> bool:
    """Tell whether sockets below a folder work: short paths, open to all users, and safe in munged's eyes."""

    def fine(folder: Path) -> bool:
        status = folder.stat()
        writable = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX
        return status.st_uid == 0 and bool(status.st_mode & stat.S_IXOTH) and not writable

    return len(str(directory)) <= LONGEST and all(fine(folder) for folder in directory.parents)


def _free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, below those that the kernel gives to outgoing connections."""
    with contextlib.ExitStack() as stack:
        found: list[int] = []
        # Two that look at the same moment begin at different places.
        for port in range(20000 + os.getpid() * 16 % 8000, 32000):
            candidate = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                candidate.bind(("", port))
                found.append(port)
            if len(found) == count:
                return found
    raise ClusterError("no free ports")


def _flags(options: dict[str, Any]) -> list[str]:
    return [f"--{name}={value}" for name, value in options.items()]


def _digest(directory: Path) -> str:
    return hashlib.sha256(str(directory).encode()).hexdigest()[:8]


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a new file that nobody may ever read but whom its mode allows."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, mode)
        file.write(text)


def _signal(pid: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)


def _wait(condition: Callable[[], object], timeout: float, interval: float = 0.05) -> bool:
    """Wait until a condition holds; False if it does not within `timeout` seconds."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(interval)
    return True


def _tail(log: Path, lines: int = 15) -> str:
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError as error:
        return str(error)


def _print_up(cluster: Cluster, before: dict[str, int], as_json: bool) -> None:
    """Tell of a cluster that is up, and how to use it."""
    if as_json:
        print(json.dumps(cluster.record(), indent=2))
        return
    what = "is up already" if before == cluster.pids else "is up" if not before else "is up again"
    limits = cluster.limits if cluster.limits != "none" else "without limits of memory"
    print(f"the cluster {what}: {len(NODES)} nodes, partitions {', '.join(cluster.partitions)}, {limits}")
    if closed := [str(folder) for folder in cluster.directory.parents if not folder.stat().st_mode & stat.S_IXOTH]:
        print(f"other users cannot reach it: {closed[0]} is closed to them")
    print(f"export SLURM_CONF={cluster.conf}")


def _parse(arguments: Iterable[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="slurm.py", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    helps = {"up": "start it", "down": "stop it, and remove its folder", "status": "tell whether it runs"}
    for name, text in helps.items():
        command = commands.add_parser(name, help=text)
        command.add_argument("--directory", type=Path, default=DIRECTORY, help="its folder (default: %(default)s)")
        if name != "down":
            command.add_argument("--json", action="store_true", help="print a JSON record")
        if name == "up":
            command.add_argument("--accounting", action="store_true", help="with slurmdbd and MariaDB, for sacct")
            command.add_argument("--preemption", action="store_true", help="with the partition `low`")
            command.add_argument("--min-job-age", type=int, default=300, help="seconds after which jobs are forgotten")
            command.add_argument("--memory", type=int, default=2000, help="memory of each node, in MB")
            command.add_argument("--timeout", type=float, default=60, help="seconds to wait for the nodes")
    return parser.parse_args(None if arguments is None else list(arguments))


def _run(options: argparse.Namespace) -> int:
    if options.command == "down":
        print("stopped" if down(options.directory) else f"there is no cluster in {options.directory}")
        return 0
    cluster = load(options.directory)
    before = cluster.pids if cluster else {}
    if options.command == "up":
        asked = {name: getattr(options, name) for name in (*asdict(Options()), "timeout")}
        cluster = up(options.directory, **asked)
        _print_up(cluster, before, options.json)
        return 0
    if not cluster:
        print(f"there is no cluster in {options.directory}", file=sys.stderr)
        return 1
    nodes = cluster.nodes()
    if options.json:
        print(json.dumps({**cluster.record(), "nodes": nodes}, indent=2))
    else:
        for daemon in cluster.daemons:
            print(f"{daemon:<10}  {before.get(daemon, 'does not run')}")
        print("nodes       " + (", ".join(f"{k} {v}" for k, v in nodes.items()) or "slurmctld does not answer"))
    return 0 if len(before) == len(cluster.daemons) and cluster.ready() else 1


def main(arguments: Iterable[str] | None = None) -> int:
    """Run the command, and return its exit code."""
    try:
        return _run(_parse(arguments))
    except UnavailableError as error:
        print(f"no Slurm cluster here: {error}", file=sys.stderr)
        return UNAVAILABLE
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
