"""What a stage costs beside its program: ``python benchmarks/overhead/run.py [--repeat N]``.

All in one run, on a toy experiment whose program takes a second or two: the bare
program; DVC running the bare program as a stage; DVC running `mllam-exps run`, which
starts an attempt, checks, hashes, publishes; and DVC collecting a known result. The
difference between the second and the third is ours; DVC's own is that between the first
two.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support.experiment import TOY, Experiment, environment, make_toy  # noqa: E402

TARGET_SECONDS = 3.0


def timed(experiment: Experiment, *argv: str) -> float:
    """Return the wall time of a command that has to succeed, in seconds."""
    begun = time.perf_counter()
    experiment.ok(*argv)
    return time.perf_counter() - begun


def forget(experiment: Experiment, *, store: bool) -> None:
    """Take a result away: from the workspace and DVC, and from the run store too if asked."""
    for path in ("grown", "dvc.lock", ".dvc/cache/runs"):
        target = experiment.root / path
        shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
    if store:
        for run in experiment.runs("grow"):
            shutil.rmtree(run)


def once(experiment: Experiment) -> dict[str, float]:
    """Measure each way once."""
    found = {}
    scratch = experiment.root / "bare"
    scratch.mkdir(exist_ok=True)
    shutil.rmtree(experiment.root / "grown", ignore_errors=True)
    program = (sys.executable, str(TOY / "toy_stages.py"), "grow", str(scratch))
    found["the bare program"] = timed(experiment, *program)
    forget(experiment, store=True)
    text = (experiment.root / "dvc.yaml").read_text()
    (experiment.root / "dvc.yaml").write_text(
        text.replace("mllam-exps run grow", " ".join(program))
    )
    found["dvc, the bare program as its stage"] = timed(
        experiment, "dvc", "repro", "-s", "grow"
    )
    (experiment.root / "dvc.yaml").write_text(text)
    forget(experiment, store=True)
    found["dvc, mllam-exps run"] = timed(experiment, "dvc", "repro", "-s", "grow")
    forget(experiment, store=False)
    found["dvc, mllam-exps run, result known"] = timed(
        experiment, "dvc", "repro", "-s", "grow"
    )
    found["dvc --version"] = timed(experiment, "dvc", "--version")
    found["mllam-exps --help"] = timed(experiment, "mllam-exps", "--help")
    return found


def main() -> None:
    """Measure, and print a table and the ratio to the target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    with tempfile.TemporaryDirectory() as directory:
        environ = environment(Path(directory) / "home") | {"PYTHONPATH": str(TOY)}
        experiment = make_toy(Path(directory) / "toy", environ)
        experiment.set("toy.yaml", grow__epochs=2, grow__seconds=0.5)
        experiment.ok("dvc", "repro", "make")
        rounds = [once(experiment) for _ in range(repeat)]
    print(f"median of {repeat}, Python {platform.python_version()}")
    medians = {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}
    for name, seconds in medians.items():
        spread = [r[name] for r in rounds]
        print(
            f"  {name:38} {seconds:6.2f} s   ({min(spread):.2f} to {max(spread):.2f})"
        )
    ours = (
        medians["dvc, mllam-exps run"] - medians["dvc, the bare program as its stage"]
    )
    dvc = medians["dvc, the bare program as its stage"] - medians["the bare program"]
    print(
        f"a stage costs {ours:.2f} s of ours ({ours / TARGET_SECONDS:.2f} of the target, {TARGET_SECONDS:.0f} s)"
    )
    print(f"and {dvc:.2f} s of DVC's")


if __name__ == "__main__":
    main()
