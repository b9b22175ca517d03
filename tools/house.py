"""Counts the floors of the house and the files of its rooms; `make lint` runs it.

Floors are the modules on the longest chain of imports, lazy ones and those for types included. A reader who follows
a call goes down such a chain. Who needs a longer one moves a name to where it belongs, or says here why the house
has another floor. A room with more files than a reader can look over becomes two.
"""

from __future__ import annotations

import sys
from pathlib import Path

import grimp

MOST_FLOORS = 15
"""The command line is a room of five: its door is a floor above the commands as they are typed."""

MOST_FILES = 17
"""In one folder, without its ``__init__.py`` and the folders in it."""


def longest_chain() -> list[str]:
    """Return the modules on the longest chain of imports, from the door down."""
    graph = grimp.build_graph("mllam_exps", cache_dir=None)
    chains: dict[str, list[str]] = {}

    def chain(module: str) -> list[str]:
        """Return the longest chain that begins at a module; import-linter has refused circles."""
        if module not in chains:
            below = map(chain, graph.find_modules_directly_imported_by(module))
            chains[module] = [module, *max(below, key=len, default=[])]
        return chains[module]

    return max(map(chain, graph.modules), key=len)


def full_rooms(package: Path) -> dict[Path, int]:
    """Return the folders of a package that hold too many modules, and how many each of them holds."""
    folders = {file.parent for file in package.rglob("*.py")}
    files = {folder: len(list(folder.glob("*.py"))) - 1 for folder in sorted(folders)}
    return {folder: count for folder, count in files.items() if count > MOST_FILES}


def main() -> int:
    """Print the longest chain where it is too long, and the folders that are too full."""
    faults = []
    longest = longest_chain()
    if len(longest) > MOST_FLOORS:
        faults.append(
            f"{len(longest)} floors, at most {MOST_FLOORS}: {' -> '.join(longest)}"
        )
    for folder, count in full_rooms(Path("src/mllam_exps")).items():
        faults.append(f"{count} files in {folder}, at most {MOST_FILES}")
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
