"""What it means that ``sbatch --test-only`` refuses a job: sbatch itself would, or it would queue it.

Tried on Slurm 22.05.8, each job with both (cons_tres, EnforcePartLimits=NO, limits
enforced by slurmdbd):

| what is asked for                        | ``--test-only``                                   | ``sbatch``          |
|------------------------------------------|---------------------------------------------------|---------------------|
| unknown partition, account, QOS, node,   | refuses, each in words of its own                 | refuses, same words |
| constraint, gres, licence or reservation |                                                   |                     |
| partition INACTIVE or DRAIN              | Required partition not available                  | refuses, same words |
| a deadline that is over; unknown options | refuses                                           | refuses, same words |
| beyond a QOS with DenyOnLimit            | QOSMaxWallDurationPerJobLimit; Job violates …     | refuses, same words |
| more memory than any node has            | Requested node configuration is not available     | refuses, same words |
| more CPUs than any node has              | Requested node configuration is not available     | PartitionConfig     |
| more nodes than the partition has        | Requested node configuration is not available     | PartitionNodeLimit  |
| nodes that are all drained or down       | Requested node configuration is not available     | waits for them      |
| two nodes, while one only is not drained | Requested node configuration is not available     | waits for them      |
| one more job than MaxSubmitJobs          | AssocMaxSubmitJobLimit; Job violates …            | refuses, for now    |
| partition DOWN; maintenance; begin later | "to start at …"                                   | waits               |
| more time than the partition's limit     | "to start at …"                                   | PartitionTimeLimit  |
| beyond MaxWall or MaxTRESPerJob          | "to start at …"                                   | …PerJobLimit        |
| dependency on a job that never was       | "to start at …"                                   | runs                |

So one answer is ambiguous, and the partition's nodes, as sinfo knows them, decide what
it means: where they are large enough, and not all of them can be used, the job waits
for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from mllam_exps.base.errors import MllamError
from mllam_exps.machines import values
from mllam_exps.schedulers.base import JobRequest, Objection
from mllam_exps.schedulers.slurm import calls
from mllam_exps.schedulers.slurm.calls import NotAnswered

_AMBIGUOUS = (
    "Requested node configuration is not available",
    "Requested nodes are busy",
    "Required node not available",
)
_USABLE = {"allocated", "completing", "idle", "mixed", "planned"}
# Behind a state (22.05): ~ powered off, # powering up, ! and % powering down, -
# planned, + some jobs completing. The others make a node unusable: * does not answer, $
# maintenance, @ and ^ reboot.
_HARMLESS = "~#!%-+"
_PATIENCE = 5.0


@dataclass(frozen=True)
class Node:
    """A node of a partition."""

    partition: str
    cpus: int
    megabytes: int
    state: str

    @property
    def usable(self) -> bool:
        """Whether it runs jobs, or would as soon as those that it runs have ended."""
        return self.state.rstrip(_HARMLESS) in _USABLE


def judge(why: str, said: str, request: JobRequest) -> Objection:
    """Say what a refusal of ``sbatch --test-only`` means.

    Parameters
    ----------
    why : str
        The refusal.
    said : str
        All that was said on standard error.
    """
    if full := calls.NO_ROOM.search(said):
        return Objection(
            f"Slurm takes no more jobs of yours for now ({full[0]})", final=False
        )
    if not why.startswith(_AMBIGUOUS):
        return Objection(why, final=True)
    nodes = list(_nodes(request.resources.partition or ""))
    if too_much := _too_much(request, nodes):
        return Objection(f"{why}: {too_much}", final=True)
    if nodes and all(node.usable for node in nodes):
        return Objection(why, final=True)
    return Objection(f"{why} (nodes: {_states_of(nodes)})", final=False)


def _states_of(nodes: list[Node]) -> str:
    """Say in which states nodes are that run no job now."""
    states = Counter(node.state for node in nodes if not node.usable)
    counted = [f"{number} {state}" for state, number in states.items()]
    return ", ".join(counted) or "sinfo does not tell their states"


def _nodes(partition: str) -> Iterator[Node]:
    """Yield the nodes of some partitions, or of the default one, whatever their states; none if sinfo does not tell."""
    # sinfo (22.05) takes one of the two; partitions that are named are shown although
    # they are hidden.
    which = f"--partition={partition}" if partition else "--all"
    command = ["sinfo", which, "--Node", "--noheader", "--format=mllam|%P|%c|%m|%T"]
    try:
        done = calls.call(command, patience=_PATIENCE)
    except (NotAnswered, MllamError):
        return
    for line in done.stdout.splitlines():
        node = _node(line)
        # A star marks the default partition.
        if node and (partition or node.partition.endswith("*")):
            yield replace(node, partition=node.partition.rstrip("*"))


def _node(line: str) -> Node | None:
    """Read a line of sinfo; None where a site's wrapper wrote it."""
    mark, *fields = line.split("|")
    if mark != "mllam" or len(fields) != 4:
        return None
    partition, cpus, megabytes, state = fields
    # A plus (22.05) stands behind the least of several sizes.
    return Node(partition, int(cpus.rstrip("+")), int(megabytes.rstrip("+")), state)


def _too_much(request: JobRequest, nodes: list[Node]) -> str:
    """Say what is asked for that no partition has; nothing where one has it."""
    partitions: dict[str, list[Node]] = {}
    for node in nodes:
        partitions.setdefault(node.partition, []).append(node)
    lacks = [_lack(name, own, request) for name, own in partitions.items()]
    return lacks[-1] if lacks and all(lacks) else ""


def _lack(partition: str, nodes: list[Node], request: JobRequest) -> str:
    """Say what is asked for that a partition does not have; nothing where it has all."""
    if request.nodes > len(nodes):
        return (
            f"it asks for {request.nodes} nodes; partition {partition} has {len(nodes)}"
        )
    asked_cpus = request.tasks * (request.resources.cpus or 1)
    asked_memory = values.megabytes(request.resources.memory or "0")
    for asked, largest, unit in (
        (asked_cpus, max(node.cpus for node in nodes), "CPUs"),
        (asked_memory, max(node.megabytes for node in nodes), "MB"),
    ):
        if asked > largest:
            those = f"those of partition {partition} have {largest} at most"
            return f"it asks for {asked} {unit} on a node; {those}"
    return ""
