"""The texts of slurm.conf, cgroup.conf and slurmdbd.conf."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

from .cluster import NAME, NODES, Cluster

LOOPBACK = "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny\n"
# The "password" is where munge listens: AuthInfo does not reach what talks to slurmdbd.
ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={munge}
"""
# A partition's tier decides whom its jobs may displace. A job of `low` that may not be
# requeued is cancelled instead.
PREEMPTION = "PreemptType=preempt/partition_prio\nPreemptMode=REQUEUE\n"
LOW = "PartitionName=low PriorityTier=1 PreemptMode=REQUEUE\n"
SWAP = Path("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")


def slurm_conf(cluster: Cluster) -> str:
    """Return slurm.conf."""
    options, ports, runtime = cluster.options, cluster.ports, cluster.runtime
    host, munge = socket.gethostname().partition(".")[0], runtime / "munge.socket"
    proctrack, task = (
        ("pgid", "none") if cluster.limits == "none" else ("cgroup", "cgroup")
    )
    nodes = "\n".join(
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[node]}"
        for node in NODES
    )
    # The short life of credentials is what a requeued job waits for, two minutes by
    # default. `config_overrides`: the nodes are what is said here, whatever the machine
    # has.
    return f"""\
ClusterName={NAME}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports["slurmctld"]}
{LOOPBACK if _name_is_loopback() else ""}\
SlurmUser=root
SlurmdUser=root
AuthInfo=socket={munge},cred_expire=5
StateSaveLocation={cluster.directory}/state
SlurmdSpoolDir={runtime}/spool/%n
SlurmctldPidFile={cluster.pid_file("slurmctld")}
SlurmdPidFile={cluster.pid_file("slurmd %n")}
SlurmctldLogFile={cluster.log("slurmctld")}
SlurmdLogFile={cluster.log("slurmd %n")}
ProctrackType=proctrack/{proctrack}
TaskPlugin=task/{task}
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=5
MailProg=/bin/true
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=10
KillWait=5
MinJobAge={options.min_job_age}
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
{ACCOUNTING.format(port=ports["slurmdbd"], munge=munge) if options.accounting else ""}\
{PREEMPTION if options.preemption else ""}\
NodeName=DEFAULT CPUs=4 RealMemory={options.memory}
{nodes}
PartitionName=DEFAULT Nodes=ALL DefMemPerCPU=300 MaxTime=1-00:00:00 PriorityTier=10 PreemptMode=OFF
PartitionName=main Default=YES
PartitionName=short MaxTime=00:02:00
{LOW if options.preemption else ""}"""


def _name_is_loopback() -> bool:
    """Tell whether the host's name stands for 127.0.0.1: that is where slurmd and srun would listen, else anywhere."""
    with contextlib.suppress(OSError):
        return socket.gethostbyname(socket.gethostname()) == "127.0.0.1"
    return False


def cgroup_conf(cluster: Cluster) -> str:
    """Return cgroup.conf."""
    if cluster.limits == "none":
        return ""
    v2 = cluster.limits == "cgroup/v2"
    # Swap is limited where the kernel counts it, or a job over its limit would swap
    # instead of being killed.
    return f"""\
CgroupPlugin={cluster.limits}
{"IgnoreSystemdOnFailure=yes" if v2 else f"CgroupMountpoint={cluster.directory}/cgroup"}
ConstrainRAMSpace=yes
ConstrainSwapSpace={"yes" if v2 or SWAP.exists() else "no"}
AllowedSwapSpace=0
"""


def slurmdbd_conf(cluster: Cluster) -> str:
    """Return slurmdbd.conf."""
    return f"""\
AuthInfo=socket={cluster.runtime}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={cluster.ports["slurmdbd"]}
SlurmUser=root
PidFile={cluster.pid_file("slurmdbd")}
LogFile={cluster.log("slurmdbd")}
StorageType=accounting_storage/mysql
StorageUser=root
"""
