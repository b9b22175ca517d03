"""Lists the patches, or prints the issue of one: ``python -m mllam_exps.stages.neural_lam.patches [NAME]``."""

from __future__ import annotations

import importlib
import pkgutil
import sys

from mllam_exps.stages import mlflow_patch
from mllam_exps.stages.neural_lam import patches
from mllam_exps.stages.patch import Patch
from mllam_exps.stages.points import keep_points, offline_wandb


def every() -> dict[str, Patch]:
    """Return all patches by name."""
    found = [mlflow_patch.PATCH, keep_points.PATCH, offline_wandb.PATCH]
    for module in pkgutil.iter_modules(patches.__path__, f"{patches.__name__}."):
        if not module.name.endswith("__main__"):
            found.append(importlib.import_module(module.name).PATCH)
    return {patch.name: patch for patch in found}


def main(words: list[str]) -> int:
    """Print the list, or the issue of the one that is named."""
    known = every()
    if not words:
        for patch in known.values():
            tried = [f"{name} {', '.join(of)}" for name, of in patch.tried.items()]
            print(f"{patch.name} ({'; '.join(tried)})")
            print(f"    so that {patch.purpose}")
            print(f"    until {patch.until}")
        return 0
    if words[0] not in known:
        print(f"no patch {words[0]}: there are {', '.join(known)}", file=sys.stderr)
        return 2
    issue = known[words[0]].issue
    print(f"{issue.repository}: {issue.title}\n\n{issue.body}", end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
