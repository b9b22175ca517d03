"""Print the lower bounds of pyproject.toml as exact versions: of the light packages, and of the tests' tools."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Print one requirement a line."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirement in (
        *project["dependencies"],
        *project["optional-dependencies"]["test"],
    ):
        print(requirement.replace(">=", "=="))


if __name__ == "__main__":
    main()
