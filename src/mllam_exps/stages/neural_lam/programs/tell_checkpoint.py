"""``python -m mllam_exps.stages.neural_lam.programs.tell_checkpoint FILE``: what a checkpoint says of itself, as JSON.

Nothing in it is executed (`checkpoints.load`). The arguments are those that neural-lam
keeps in it; none of a checkpoint that lacks them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from mllam_exps.base.errors import CheckFailed
from mllam_exps.stages.neural_lam import checkpoints


def tell(path: Path) -> dict[str, Any]:
    """Return the ``epochs`` that were trained and the ``arguments``; or the ``problem``."""
    try:
        content = checkpoints.load(path)
        found = checkpoints.describe(path, content)
    except CheckFailed as error:
        return {"problem": f"{error.what}: {error.why}" if error.why else error.what}
    kept = content.get("hyper_parameters")
    given = kept.get("args") if isinstance(kept, dict) else None
    arguments = (
        {
            name: value
            for name, value in vars(given).items()
            if isinstance(value, str | int | float | bool | list)
        }
        if given is not None
        else {}
    )
    return {"epochs": found.epochs, "arguments": arguments}


if __name__ == "__main__":
    print(json.dumps(tell(Path(sys.argv[1]))))
