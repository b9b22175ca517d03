"""How far a stage's program is: a file in its scratch folder, which the attempt names and `status` reads."""

from __future__ import annotations

import os
from pathlib import Path

SCRATCH = "MLLAM_EXPS_SCRATCH"
"""Names the folder."""
PROGRESS = "progress.json"


def replace(path: Path, text: str) -> None:
    """Put a whole file in place at once: nobody reads half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)
