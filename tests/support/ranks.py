"""Two ranks of a training: forks of one process, as what they import takes longer than what they do."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

RANKS = range(2)
CODES = "codes.json"
OUTPUTS = ("out", "err")


@dataclass
class Rank:
    """How a rank ended, and what it said."""

    code: int
    out: str
    err: str


def run(script: str, folder: Path, *arguments: str, **environ: str) -> list[Rank]:
    """Run a script, which calls `fork` where its ranks begin, and return what became of them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    common |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    common["PYTHONPATH"] = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, script, str(folder), *arguments],
        cwd=folder,
        env={**os.environ, **common, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr
    return [
        Rank(code, *((folder / f"rank{n}.{name}").read_text() for name in OUTPUTS))
        for n, code in enumerate(json.loads((folder / CODES).read_text()))
    ]


def fork(folder: Path) -> None:
    """Return in each rank; the process that calls it waits for them, and ends."""
    from lightning_utilities.core import rank_zero

    children = []
    for rank in RANKS:
        child = os.fork()
        if not child:
            os.environ |= {"NODE_RANK": str(rank), "RANK": str(rank)}
            # Lightning looks at these variables when it is imported.
            rank_zero.rank_zero_only.rank = rank
            for descriptor, name in enumerate(OUTPUTS, 1):
                file = os.open(folder / f"rank{rank}.{name}", os.O_WRONLY | os.O_CREAT)
                os.dup2(file, descriptor)
            return
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(one, 0)[1]) for one in children]
    (folder / CODES).write_text(json.dumps(codes))
    os._exit(0)
