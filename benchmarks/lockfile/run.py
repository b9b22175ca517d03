"""What ``dvc.lock`` costs the job that saves: ours, or DVC's own serializer: ``python benchmarks/lockfile/run.py``.

A repository with a pipeline of two stages and one experiment's results is made. Then,
in pairs that alternate, a fresh process writes the lock file of N such experiments:

- ours: from the draft that was made when the experiment was submitted;
- dvc: DVC opens the clone, is told the hashes, and writes the file.

Printed are the medians of the processes' CPU seconds (user and system), and of the
seconds that they took. With ``--cold``, as root, the file cache of the host is dropped
before each.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PIPELINE = """
stages:
  make:
    cmd: python make.py a.txt made
    deps: [make.py, a.txt]
    params: [params.yaml: [lr, steps]]
    outs: [made]
  score:
    cmd: python score.py made score.json
    deps: [score.py, made]
    params: [params.yaml: [metric]]
    metrics: [score.json: {cache: false}]
"""
FILES = {
    "dvc.yaml": PIPELINE,
    "make.py": "x\n",
    "score.py": "y\n",
    "a.txt": "a\n",
    "params.yaml": "lr: 0.1\nsteps: 3\nmetric: rmse\n",
    "made/one.txt": "1\n",
    "made/two.txt": "2\n",
    "score.json": "{}\n",
}


def ours(root: Path, times: int) -> None:
    """Complete the draft."""
    from mllam_exps.dvc import lockfile
    from mllam_exps.identity.content import describe

    for _ in range(times):
        draft = lockfile.read(root)
        entries = {
            name: stage.complete(lambda path: describe(root / path))
            for name, stage in draft.stages.items()
        }
        lockfile.write(root, entries)


def dvc(root: Path, times: int) -> None:
    """Have DVC write it: with its own stages, told the hashes."""
    from dvc.repo import Repo
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.meta import Meta

    from mllam_exps.identity.content import describe

    for _ in range(times):
        repo = Repo(str(root))
        for stage in repo.index.stages:
            for item in (*stage.deps, *stage.outs):
                if item.hash_name == "params":
                    item.save()
                    continue
                found = describe(Path(item.fs_path))
                files = found["files"]
                item.hash_name = "md5"
                item.hash_info = HashInfo("md5", found["digest"])
                item.meta = Meta(
                    size=found["size"],
                    nfiles=len(files) if isinstance(files, list) else None,
                    isexec=bool(found.get("isexec")),
                )
            stage.dump(update_pipeline=False)


def draft(root: Path) -> None:
    """Draft the lock file, as a submission does."""
    from mllam_exps.dvc import lockfile
    from mllam_exps.dvc.stages.pipeline import Pipeline

    pipeline = Pipeline.open(root, dict, as_it_lies=False, ask_dvc=False)
    lockfile.draft(pipeline, pipeline.in_order(), {}).write(root)


WAYS = {"ours": ours, "dvc": dvc}


def measure(way: str, root: Path, times: int, *, cold: bool) -> tuple[float, float]:
    """Return the CPU seconds and the seconds of one process."""
    (root / "dvc.lock").unlink(missing_ok=True)
    if cold:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    subprocess.run(
        [sys.executable, __file__, "--one", way, str(root), str(times)],
        check=True,
        stdout=subprocess.DEVNULL,  # DVC says each time that it updates the file
    )
    took = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, took


def main() -> None:
    """Measure both ways, in pairs that alternate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--experiments", type=int, default=1)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        way, root, times = given.one
        WAYS[way](Path(root), int(times))
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for file, text in FILES.items():
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_text(text)
        subprocess.run(["git", "init", "-q", folder], check=True)
        subprocess.run(
            [sys.executable, "-m", "dvc", "init", "-q"], cwd=root, check=True
        )
        draft(root)
        found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
        written = {}
        for _ in range(given.pairs):
            for way in WAYS:
                found[way].append(
                    measure(way, root, given.experiments, cold=given.cold)
                )
                written[way] = (root / "dvc.lock").read_bytes()
        if len(set(written.values())) > 1:
            sys.exit(f"the files differ: {written}")
    for way, each in found.items():
        cpu, took = (statistics.median(column) for column in zip(*each, strict=True))
        print(f"{way:5} {cpu:6.2f} s of CPU, {took:6.2f} s")


if __name__ == "__main__":
    main()
