"""Write requirements.lock and requirements-dev.lock: what pip resolves today, in a fresh environment."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAD = "# Written by `make lock` from pyproject.toml, with Python {version}. {note}\n"
# 2.13.0 is the newest for which a CPU build is to be had on every machine that we test
# on.
TORCH = "torch==2.13.0"


def frozen(python: Path) -> list[str]:
    """Return what is installed, ourselves left out, and a build of torch by its version only."""
    lines = subprocess.run(
        [python, "-m", "pip", "freeze", "--exclude-editable"],
        capture_output=True,
        text=True,
        check=True,
    )
    kept = (
        line
        for line in lines.stdout.splitlines()
        if not line.startswith(("mllam-exps", "-e "))
    )
    return [re.sub(r"^torch==([\d.]+).*", r"torch==\1", line) for line in kept]


def main() -> None:
    """Resolve in a temporary environment, and write both files."""
    with tempfile.TemporaryDirectory() as directory:
        venv.create(directory, with_pip=True)
        python = Path(directory) / "bin/python"
        pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, TORCH], check=True)
        subprocess.run([*pip, f"{ROOT}[models]"], check=True)
        run = frozen(python)
        subprocess.run([*pip, f"{ROOT}[models,example,dev]"], check=True)
        dev = [line for line in frozen(python) if line not in run]
    version = ".".join(map(str, sys.version_info[:2]))
    write(
        "requirements.lock",
        HEAD.format(version=version, note="Exact versions of all that runs."),
        run,
    )
    write(
        "requirements-dev.lock",
        HEAD.format(version=version, note="What the tests need beside them."),
        dev,
    )


def write(name: str, head: str, lines: list[str]) -> None:
    """Write one lock file."""
    (ROOT / name).write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{name}: {len(lines)} packages")


if __name__ == "__main__":
    main()
