"""Counts the modules on the longest chain of imports, lazy ones and those for types included; `make lint` runs it.

A reader who follows a call goes down such a chain. Who needs a longer one moves a name to
where it belongs, or says here why the house has another floor.
"""

from __future__ import annotations

import sys

import grimp

MOST = 15
"""The command line is a room of five: its door is a floor above the commands as they are typed."""


def main() -> int:
    """Print the longest chain where it is too long."""
    graph = grimp.build_graph("mllam_exps", cache_dir=None)
    chains: dict[str, list[str]] = {}

    def chain(module: str) -> list[str]:
        """Return the longest chain that begins at a module; import-linter has refused circles."""
        if module not in chains:
            below = map(chain, graph.find_modules_directly_imported_by(module))
            chains[module] = [module, *max(below, key=len, default=[])]
        return chains[module]

    longest = max(map(chain, graph.modules), key=len)
    if len(longest) <= MOST:
        return 0
    print(f"{len(longest)} floors, at most {MOST}: {' -> '.join(longest)}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
