"""What keeping a large output costs: ``python benchmarks/large/run.py [--files N] [--gigabytes G]``.

A toy stage makes a dataset of many files, with ``cache.type symlink`` as a team has it:

- from its program's end to `dvc repro`'s, beside the MD5 of all of it alone;
- the same of a submitted experiment, to its saving's end;
- pushing that experiment to a remote, beside ``cp -r`` of the same objects.

All is read from memory, where it fits; what disks add is the same for both.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support.experiment import TOY, Experiment, environment, make_toy  # noqa: E402

KEPT_TARGET, PUSHED_TARGET = 2.0, 1.5


def made_by(top: Path, files: int, size: int) -> Experiment:
    """Return a toy experiment whose first stage makes so much."""
    environ = environment(top / "home") | {"PYTHONPATH": str(TOY)}
    experiment = make_toy(top / "toy", environ)
    experiment.ok("dvc", "config", "cache.type", "symlink")
    experiment.set("toy.yaml", make__size=files, make__lines=size // 5)
    experiment.ok("git", "commit", "-qam", "Large")
    return experiment


def md5_alone(folder: Path) -> float:
    """Return the seconds that the MD5 of all files takes, one after the other."""
    begun = time.perf_counter()
    for file in sorted(folder.rglob("*.txt")):
        with file.open("rb") as opened:
            hashlib.file_digest(opened, "md5")
    return time.perf_counter() - begun


def program_ended(experiment: Experiment) -> float:
    """Return when the program ended: its last file was written then."""
    [attempt] = experiment.store.glob("make-*/attempts/*/outputs")
    return max(file.stat().st_mtime for file in attempt.rglob("*.txt"))


def by_dvc(experiment: Experiment) -> float:
    """Return the seconds from the program's end to the end of `dvc repro`."""
    experiment.ok("dvc", "repro", "make", timeout=3600)
    return time.time() - program_ended(experiment)


def submitted(experiment: Experiment) -> float:
    """Return the seconds from the program's end to the saved experiment."""
    experiment.ok("mllam-exps", "submit", "make", "-n", "large", timeout=3600)
    experiment.command("mllam-exps", "status", "--watch", timeout=3600)
    shown = json.loads(experiment.ok("mllam-exps", "show", "large", "--json"))
    assert shown["commit"], shown
    [saving] = experiment.store.parent.glob("experiments/save-*/attempts/*/end.json")
    return saving.stat().st_mtime - program_ended(experiment)


def pushed(experiment: Experiment, top: Path) -> tuple[float, float]:
    """Return the seconds that `mllam-exps push` takes, and those of `cp`."""
    experiment.ok("git", "init", "-q", "--bare", str(top / "bare"))
    experiment.ok("dvc", "remote", "add", "-d", "there", str(top / "remote"))
    begun = time.perf_counter()
    experiment.ok("mllam-exps", "push", "large", str(top / "bare"), timeout=3600)
    ours = time.perf_counter() - begun
    objects = experiment.root / ".dvc/cache/files"
    begun = time.perf_counter()
    subprocess.run(["cp", "-r", str(objects), str(top / "copied")], check=True)
    return ours, time.perf_counter() - begun


def main() -> None:
    """Print each, with its target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=12_000)
    parser.add_argument("--gigabytes", type=float, default=2.4)
    parser.add_argument(
        "--folder", type=Path, help="where to work; else a temporary one"
    )
    given = parser.parse_args()
    size = int(given.gigabytes * 1e9 / given.files)
    print(f"{given.files} files, {given.gigabytes} GB; {platform.python_version()}")
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        top = Path(folder)
        (top / "one").mkdir()
        experiment = made_by(top / "one", given.files, size)
        kept = by_dvc(experiment)
        alone = md5_alone(experiment.root / "made")
        told = f"{kept:.1f} s, MD5 alone {alone:.1f} s: {kept / alone:.2f} (target {KEPT_TARGET})"
        print(f"from the program's end to the end of dvc repro: {told}")
        (top / "other").mkdir()
        experiment = made_by(top / "other", given.files, size)
        kept = submitted(experiment)
        told = f"{kept:.1f} s: {kept / alone:.2f} (target {KEPT_TARGET})"
        print(f"from the program's end to the saved experiment: {told}")
        ours, copied = pushed(experiment, top)
        told = f"{ours:.1f} s, cp {copied:.1f} s: {ours / copied:.2f} (target {PUSHED_TARGET})"
        print(f"pushing it: {told}")


if __name__ == "__main__":
    main()
