"""What a sweep costs, four ways: ``python benchmarks/sweep/run.py [--calkit VENV] [--experiments 12,100]``, as root.

All in one run, on a private cluster, with the same payloads: two stages an experiment,
each a program that takes two seconds, none shared between experiments.

- ours: ``mllam-exps submit``;
- dvc: ``dvc queue start -j N`` with stages that call ``sbatch -W``;
- calkit: the same with ``calkit scheduler batch``, which waits by squeue each second;
- bare: ``sbatch`` twice an experiment, the second behind the first: the floor;

- alone: only the submission, while no job may start.

Printed are: seconds until the command comes back, and until the last experiment is
there; processes and memory that it leaves on, or needs from, the login node;
slurmctld's requests an experiment; how many second stages ran.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support.experiment import TOY, Experiment, environment, make_toy  # noqa: E402
from support.slurm_cluster import load_tool, on, write_machine  # noqa: E402

SECONDS = 2.0
PATIENCE = 1800.0
JOB = ["--mem=100M", "--cpus-per-task=1", "--output=/dev/null"]
MIB = 2**20


@dataclass
class Result:
    """What was measured of one way."""

    way: str
    experiments: int
    returned: float = 0.0
    done: float = 0.0
    processes: int = 0
    memory: float = 0.0
    command_memory: float = 0.0
    left: int = 0
    requests: int = 0
    by_kind: dict[str, int] = field(default_factory=dict)
    payloads: int = 0


class Watch(threading.Thread):
    """Looks each half second for the processes of one way that no job owns: their number, and memory (PSS)."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.over = str(folder), threading.Event()
        self.most, self.memory, self.now = 0, 0.0, 0

    def run(self) -> None:
        """Look, until it is over."""
        while not self.over.wait(0.5):
            self.look()

    def look(self) -> None:
        """Count once."""
        found, memory = 0, 0.0
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                environ = process.environ()
                if environ.get("BENCHMARK") != self.folder or "SLURM_JOB_ID" in environ:
                    continue
                memory += process.memory_full_info().pss
                found += 1
        self.most, self.memory, self.now = (
            max(self.most, found),
            max(self.memory, memory / MIB),
            found,
        )


def requests(cluster: Any) -> dict[str, int]:
    """Return how many requests slurmctld has had, by kind."""
    text = cluster.command("sdiag").stdout.partition(
        "Remote Procedure Call statistics by message type"
    )[2]
    lines = text.partition("Remote Procedure Call statistics by user")[0].splitlines()
    counts = [line.split() for line in lines if "count:" in line]
    return {
        words[0]: int(words[words.index("ave_time:") - 1].removeprefix("count:"))
        for words in _joined(counts)
    }


def _joined(counts: list[list[str]]) -> list[list[str]]:
    # "REQUEST_JOB_INFO   ( 2003) count:12   ave_time:312   total_time:3746"
    return [
        [w for word in words for w in word.replace("ave_time:", "ave_time: ").split()]
        for words in counts
    ]


def prepared(directory: Path, cluster: Any) -> Experiment:
    """Return a toy experiment, of which nothing is done, on the cluster."""
    environ = environment(directory / "home") | {
        "PYTHONPATH": str(TOY),
        "BENCHMARK": str(directory),
    }
    toy = on(cluster, make_toy(directory / "toy", environ))
    write_machine(toy, default={"memory": "100M", "cpus": 1})
    toy.set(
        "toy.yaml",
        make__seconds=SECONDS,
        make__mark=0,
        grow__seconds=SECONDS,
        grow__epochs=1,
    )
    return toy


def committed(toy: Experiment) -> None:
    """Commit it."""
    toy.ok("git", "add", "-A")
    toy.ok("git", "commit", "-qm", "Benchmark")


def measured(
    way: str,
    cluster: Any,
    toy: Experiment,
    count: int,
    start: Callable[[], object],
    done: Callable[[], bool],
) -> Result:
    """Start one way and wait until it is done."""
    result = Result(way, count)
    watch = Watch(Path(toy.environ["BENCHMARK"]))
    cluster.command("sdiag", "-r")
    begun = time.monotonic()
    watch.start()
    start()
    result.returned = time.monotonic() - begun
    result.command_memory = watch.memory
    watch.look()
    result.left = watch.now
    while not done():
        if time.monotonic() - begun > PATIENCE:
            raise SystemExit(f"{way}: not done within {PATIENCE:.0f} s")
        time.sleep(0.25)
    result.done = time.monotonic() - begun
    watch.over.set()
    watch.join()
    result.processes, result.memory = watch.most, watch.memory
    result.by_kind = requests(cluster)
    result.requests = sum(result.by_kind.values())
    result.payloads = toy.starts()
    print(f"  {way}: {result.done:.1f} s", file=sys.stderr)
    return result


def saved(toy: Experiment) -> int:
    """Return how many experiments git has, with their results: DVC's queue makes refs before."""
    refs = toy.ok("git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
    asked = "".join(f"{ref}:grown.json\n" for ref in refs)
    found = toy.ok("git", "cat-file", "--batch-check", input=asked).splitlines()
    names = {
        ref
        for ref, line in zip(refs, found, strict=True)
        if " blob " in line and "/exec/" not in ref
    }
    return len(names)


def sweep(count: int) -> list[str]:
    """Return `-S` for that many experiments, whose first stages make different things: no cache knows the second's."""
    return ["-S", f"toy.yaml:make.mark={','.join(map(str, range(1, count + 1)))}"]


def ours(directory: Path, cluster: Any, count: int) -> Result:
    """Submit."""
    toy = prepared(directory, cluster)
    committed(toy)
    return measured(
        "ours",
        cluster,
        toy,
        count,
        lambda: toy.ok("mllam-exps", "submit", *sweep(count)),
        lambda: saved(toy) == count,
    )


def alone(directory: Path, cluster: Any, count: int) -> None:
    """Submit while no job may start: a login node does not share its cores with the nodes."""
    toy = prepared(directory, cluster)
    committed(toy)
    cluster.command("scontrol", "update", "partition=main", "state=down")
    begun = time.monotonic()
    toy.ok("mllam-exps", "submit", *sweep(count))
    print(f"submitting {count} while no job runs: {time.monotonic() - begun:.1f} s")
    cluster.command("scancel", f"--user={os.getuid()}")
    cluster.command("scontrol", "update", "partition=main", "state=up")


def queue(
    directory: Path, cluster: Any, count: int, way: str, jobs: int, command: str
) -> Result:
    """Let DVC's queue do it, with stages that wait for jobs."""
    toy = prepared(directory, cluster)
    program = TOY / "toy_stages.py"
    script = f"#!/bin/bash\nexec {sys.executable} {program} $1 scratch\n"
    (toy.root / "job.sh").write_text(script)
    (toy.root / "job.sh").chmod(0o755)
    pipeline = yaml.safe_load((toy.root / "dvc.yaml").read_text())
    stages = {name: pipeline["stages"][name] for name in ("make", "grow")}
    for name, stage in stages.items():
        stage["params"] = [
            param for param in stage["params"] if "version.mllam.txt" not in param
        ]
        stage["cmd"] = "mkdir -p scratch && " + command.format(stage=name)
    (toy.root / "dvc.yaml").write_text(
        yaml.safe_dump({"stages": stages}, sort_keys=False)
    )
    (toy.root / "calkit.yaml").write_text(
        "environments: {cluster: {kind: slurm, host: localhost}}\n"
    )
    committed(toy)

    def start() -> None:
        toy.ok("dvc", "exp", "run", "--queue", *sweep(count), timeout=600)
        toy.ok("dvc", "queue", "start", "-j", str(jobs), timeout=PATIENCE)

    result = measured(
        f"{way} -j {jobs}", cluster, toy, count, start, lambda: saved(toy) == count
    )
    toy.command("dvc", "queue", "stop", "--kill")
    return result


def bare(directory: Path, cluster: Any, count: int) -> Result:
    """Submit the payloads themselves."""
    toy = prepared(directory, cluster)
    folders = [directory / "bare" / str(number) for number in range(count)]

    def start() -> None:
        for number, folder in enumerate(folders):
            (folder / "scratch").mkdir(parents=True)
            values = yaml.safe_load((toy.root / "toy.yaml").read_text())
            values["make"]["mark"] = number
            (folder / "toy.yaml").write_text(yaml.safe_dump(values))
            before = ""
            for stage in ("make", "grow"):
                command = f"cd {folder} && exec {sys.executable} {TOY / 'toy_stages.py'} {stage} scratch"
                after = [f"--dependency=afterok:{before}"] if before else []
                before = toy.ok(
                    "sbatch", "--parsable", *JOB, *after, f"--wrap={command}"
                ).strip()

    return measured(
        "bare",
        cluster,
        toy,
        count,
        start,
        lambda: all((folder / "grown.json").exists() for folder in folders),
    )


def report(results: list[Result], count: int) -> None:
    """Print a table, and ratios to ours."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{count} experiments of 2 stages, 2 s each")
    headings = (
        "way",
        "returned",
        "done",
        "to bare",
        "processes",
        "PSS",
        "left",
        "requests each",
        "second stages",
    )
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "way" else "right")
    floor = next((r.done for r in results if r.way == "bare"), 0.0)
    for r in results:
        table.add_row(
            r.way,
            f"{r.returned:.1f} s",
            f"{r.done:.1f} s",
            f"{r.done / floor:.2f}" if floor else "",
            str(r.processes),
            f"{r.memory:.0f} MiB",
            str(r.left),
            f"{r.requests / r.experiments:.1f}",
            str(r.payloads),
        )
    Console(width=120).print(table)
    mine = next((r for r in results if r.way == "ours"), None)
    for r in results:
        if mine is not None and r is not mine:
            print(f"{r.way}: {r.done / mine.done:.2f} times the time of ours")
    if mine is not None:
        print("ours, requests by kind:", json.dumps(mine.by_kind))


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--experiments", default="12,100", help="how many; several with commas"
    )
    parser.add_argument(
        "--ways",
        default="alone,ours,bare,dvc-12,dvc-4,calkit-4",
        help="which, in this order",
    )
    parser.add_argument(
        "--calkit", help="the virtual environment that has calkit-python"
    )
    options = parser.parse_args()
    wait = "sbatch -W --mem=100M --cpus-per-task=1 --output=/dev/null job.sh {stage}"
    tool = load_tool()
    base = Path(tempfile.mkdtemp(prefix="sweep-"))
    base.chmod(0o755)
    cluster = tool.up(base / "cluster", memory=4000)
    try:
        for count in map(int, options.experiments.split(",")):
            results = []
            for way in options.ways.split(","):
                place = base / f"{way}-{count}"
                place.mkdir()
                name, _, jobs = way.partition("-")
                if name == "alone":
                    alone(place, cluster, count)
                elif name == "ours":
                    results.append(ours(place, cluster, count))
                elif name == "bare":
                    results.append(bare(place, cluster, count))
                elif name == "dvc":
                    results.append(
                        queue(
                            place,
                            cluster,
                            count,
                            "dvc queue, sbatch -W",
                            int(jobs),
                            wait,
                        )
                    )
                elif options.calkit:
                    calkit = f"{options.calkit}/bin/calkit scheduler batch --name {{stage}}-$DVC_EXP_NAME -e cluster"
                    calkit += " --option=--mem=100M --log-path=job.log job.sh {stage}"
                    results.append(
                        queue(
                            place,
                            cluster,
                            count,
                            "dvc queue, calkit",
                            int(jobs or 4),
                            calkit,
                        )
                    )
            report(results, count)
    finally:
        tool.down(base / "cluster")
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    if os.getuid() != 0:
        raise SystemExit("the private cluster needs root")
    main()
