"""The command line: `python tools/slurm up`, `down` and `status`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

# `python tools/slurm` puts the package itself on the path, not the folder that it lies
# in.
sys.path.insert(0, str(Path(__file__).parents[1]))

from slurm import DIRECTORY, ClusterError, UnavailableError, down, load, up

UNAVAILABLE = 69


def parse() -> dict[str, Any]:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(
        prog="slurm",
        description="A private Slurm cluster of four nodes on this machine.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    helps = {
        "up": "start it",
        "down": "stop it, and remove its folder",
        "status": "tell whether it runs",
    }
    for name, text in helps.items():
        command = commands.add_parser(name, help=text)
        command.add_argument(
            "--directory",
            type=Path,
            default=DIRECTORY,
            help="its folder (default: %(default)s)",
        )
        if name != "down":
            command.add_argument(
                "--json",
                dest="as_json",
                action="store_true",
                help="print a JSON record",
            )
    command = commands.choices["up"]
    command.add_argument(
        "--accounting", action="store_true", help="with slurmdbd and MariaDB, for sacct"
    )
    command.add_argument(
        "--preemption", action="store_true", help="with the partition `low`"
    )
    command.add_argument(
        "--min-job-age",
        type=int,
        default=300,
        help="seconds after which jobs are forgotten",
    )
    command.add_argument(
        "--memory", type=int, default=2000, help="memory of each node, in MB"
    )
    command.add_argument(
        "--timeout", type=float, default=60, help="seconds to wait for the nodes"
    )
    return vars(parser.parse_args())


def run(command: str, directory: Path, as_json: bool = False, **asked: Any) -> int:
    """Do what the command line says, and return the exit code."""
    if command == "down":
        print("stopped" if down(directory) else f"there is no cluster in {directory}")
        return 0
    cluster = up(directory, **asked) if command == "up" else load(directory)
    if not cluster:
        print(f"there is no cluster in {directory}", file=sys.stderr)
        return 1
    pids, nodes = cluster.pids, cluster.nodes()
    partitions = ["main", "short", *(["low"] if cluster.options.preemption else [])]
    if as_json:
        record = {
            "conf": cluster.conf,
            "pids": pids,
            "partitions": partitions,
            "nodes": nodes,
        }
        print(
            json.dumps(
                asdict(cluster) | asdict(cluster.options) | record,
                indent=2,
                default=str,
            )
        )
    elif command == "up":
        limits = (
            cluster.limits if cluster.limits != "none" else "without limits of memory"
        )
        print(
            f"the cluster is up: {len(nodes)} nodes, partitions {', '.join(partitions)}, {limits}"
        )
        print(f"export SLURM_CONF={cluster.conf}")
    else:
        for daemon in cluster.daemons:
            print(f"{daemon:<10}  {pids.get(daemon, 'does not run')}")
        print(
            "nodes      ",
            ", ".join(f"{k} {v}" for k, v in nodes.items())
            or "slurmctld does not answer",
        )
    return (
        0
        if command == "up" or (len(pids) == len(cluster.daemons) and cluster.ready())
        else 1
    )


if __name__ == "__main__":
    try:
        sys.exit(run(**parse()))
    except UnavailableError as error:
        print(f"no Slurm cluster here: {error}", file=sys.stderr)
        sys.exit(UNAVAILABLE)
    except ClusterError as error:
        sys.exit(str(error))
