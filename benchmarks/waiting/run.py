"""What waiting for a Slurm job costs: ``python benchmarks/waiting/run.py [--jobs N] [--minutes M]``, as root.

All in one run, on a private cluster, with a toy experiment whose program only sleeps:

- from the end of a job's command to its notice, by a driver of ours and by ``sbatch -W``, with jobs of the same lengths
  that run at the same time;
- how often ``squeue`` is called in a minute while 1 driver waits, and while 20 do;
- the memory of a waiting driver, and of the `dvc` above it.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support.experiment import TOY, Experiment, environment, make_toy  # noqa: E402
from support.slurm_cluster import load_tool, on, wrap, write_machine  # noqa: E402

from mllam_exps.base import records  # noqa: E402

MEDIAN_TARGET, WORST_TARGET, CALLS_TARGET = 2.0, 12.0, 6.0
MANY = 20


@contextmanager
def cluster_of(directory: Path) -> Iterator[object]:
    """Have a cluster while it is needed."""
    tool = load_tool()
    yield tool.up(directory, memory=4000)
    tool.down(directory)


def prepared(directory: Path, cluster: object) -> Callable[[str], Experiment]:
    """Return a function that gives clones of a toy experiment; they share a cache, and so the run store."""
    environ = environment(directory / "home") | {"PYTHONPATH": str(TOY)}
    first = make_toy(directory / "toy", environ)
    first.ok("dvc", "repro", "make")
    for command in (("add", "-A"), ("commit", "-qm", "Made")):
        first.ok("git", *command)
    wrap(first, "squeue", 'date +%s.%N >> "${0%/*}/calls"; exec "$REAL" "$@"')
    numbers = itertools.count()

    def clone(seconds: float) -> Experiment:
        number = next(numbers)
        experiment = on(cluster, first.clone(directory / f"clone-{number}"))
        experiment.ok(
            "dvc", "config", "--local", "cache.dir", str(first.root / ".dvc/cache")
        )
        shutil.copytree(first.root / "made", experiment.root / "made")
        write_machine(experiment, default={"memory": "50M"})
        experiment.set(
            "toy.yaml", grow__epochs=1, grow__seconds=seconds + number / 1000
        )
        return experiment

    return clone


def noticed_by_us(experiment: Experiment) -> float:
    """Return the seconds from the end record of a job to the driver's word that the run is done."""
    driver = experiment.start("mllam-exps", "run", "grow")
    assert driver.stdout is not None
    for line in driver.stdout:
        if "done in attempt 1" in line:
            now = time.time()
            driver.wait()
            log = next(
                word
                for word in reversed(list((experiment.root / "logs").glob("*-grow-*")))
            )
            end = records.read(log.resolve().parent / "end.json")
            assert end is not None
            return now - float(end["time"])
    raise SystemExit("a driver failed")


def noticed_by_sbatch(experiment: Experiment, seconds: float) -> float:
    """Return the seconds from the end of a batch script to the end of ``sbatch -W``."""
    script = experiment.root / "job.sh"
    script.write_text(
        f"#!/bin/bash\nsleep {seconds}\ndate +%s.%N > {experiment.root}/ended\n"
    )
    experiment.ok(
        "sbatch", "-W", "--mem=50M", f"--output={experiment.root}/out", str(script)
    )
    return time.time() - float((experiment.root / "ended").read_text())


def latencies(
    clone: Callable[[float], Experiment], jobs: int
) -> dict[str, list[float]]:
    """Measure both ways at once: jobs of 4 to about 30 s."""
    lengths = [4 + 26 * i / max(1, jobs - 1) for i in range(jobs)]
    found: dict[str, list[float]] = {"mllam-exps run": [], "sbatch -W": []}
    places = [(seconds, clone(seconds)) for seconds in lengths]

    def measure(seconds: float, place: Experiment) -> None:
        found["sbatch -W"].append(noticed_by_sbatch(place, seconds))

    threads = [threading.Thread(target=measure, args=pair) for pair in places]
    threads += [
        threading.Thread(
            target=lambda p=place: found["mllam-exps run"].append(noticed_by_us(p))
        )  # type: ignore[misc]
        for _, place in places
    ]
    for thread in threads:
        thread.start()
        # Not all in the same moment: two cores start them.
        time.sleep(0.5)
    for thread in threads:
        thread.join()
    return found


def waiting(
    clone: Callable[[float], Experiment], drivers: int, minutes: float
) -> tuple[float, list[int]]:
    """Let drivers wait; return the calls of squeue a minute, and the memory of each driver (PSS)."""
    places = [clone(3600) for _ in range(drivers)]
    calls = places[0].root.parent / "bin/calls"
    running = [place.start("mllam-exps", "run", "grow") for place in places]
    for driver in running:
        assert driver.stdout is not None
        while "attempt 1 started" not in (line := driver.stdout.readline()) and line:
            pass
    begun = time.time()
    time.sleep(60 * minutes)
    asked = [
        float(line) for line in calls.read_text().splitlines() if float(line) >= begun
    ]
    memory = [psutil.Process(driver.pid).memory_full_info().pss for driver in running]
    for driver in running:
        os.killpg(driver.pid, signal.SIGINT)
    for driver in running:
        driver.communicate()
    return len(asked) / minutes, memory


def memory_of_dvc(clone: Callable[[float], Experiment]) -> tuple[int, int]:
    """Return the memory (PSS) of a waiting driver, and of the `dvc repro` above it."""
    place = clone(3600)
    dvc = subprocess.Popen(
        ["dvc", "repro", "-s", "grow"], cwd=place.root, env=place.environ, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    time.sleep(20)
    children = psutil.Process(dvc.pid).children(recursive=True)
    driver = next(
        p
        for p in children
        if "mllam-exps" in " ".join(p.cmdline()) and "python" in p.cmdline()[0]
    )
    found = (
        driver.memory_full_info().pss,
        psutil.Process(dvc.pid).memory_full_info().pss,
    )
    os.killpg(dvc.pid, signal.SIGINT)
    dvc.wait()
    return found


def main() -> None:
    """Measure, and print ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=12)
    parser.add_argument("--minutes", type=float, default=1.0)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as name,
        cluster_of(Path(name) / "cluster") as cluster,
    ):
        clone = prepared(Path(name), cluster)
        found = latencies(clone, options.jobs)
        calls = {
            drivers: waiting(clone, drivers, options.minutes) for drivers in (1, MANY)
        }
        driver, dvc = memory_of_dvc(clone)
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} CPUs, {options.jobs} jobs each way"
    )
    print("from the end of a job's command to its notice:")
    for way, seconds in found.items():
        print(
            f"  {way:16} median {statistics.median(seconds):6.2f} s, worst {max(seconds):6.2f} s"
        )
    ours, theirs = found["mllam-exps run"], found["sbatch -W"]
    print(
        f"  median {statistics.median(ours) / statistics.median(theirs):.2f} of sbatch -W's,"
        f" {statistics.median(ours) / MEDIAN_TARGET:.2f} of the target ({MEDIAN_TARGET:.0f} s);"
        f" worst {max(ours) / WORST_TARGET:.2f} of the target ({WORST_TARGET:.0f} s)"
    )
    for drivers, (rate, memory) in calls.items():
        print(
            f"{drivers:2} waiting: {rate:4.1f} calls of squeue a minute ({rate / CALLS_TARGET:.2f} of the target,"
            f" {CALLS_TARGET:.0f}), {statistics.median(memory) / 2**20:.0f} MiB for each driver"
        )
    print(
        f"under `dvc repro`: {driver / 2**20:.0f} MiB of the driver's, {dvc / 2**20:.0f} MiB of DVC's"
    )


if __name__ == "__main__":
    main()
