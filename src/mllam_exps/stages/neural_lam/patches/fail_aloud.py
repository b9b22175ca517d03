"""neural-lam's programs end with an exit code that is not 0 when they fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mllam_exps.stages.patch import Issue, Patch

PATCH = Patch(
    name="fail_aloud",
    purpose="a training that failed has an exit code that is not 0",
    tried={"neural-lam": ("0.7.0",)},
    spots={
        "neural_lam.train_model:main": "",
        "neural_lam.create_graph_with_wmg:cli": "",
    },
    until="`main` no longer swallows exceptions: then it is called as it is",
    issue=Issue(
        repository="mllam/neural-lam",
        title="`python -m neural_lam.train_model` exits with 0 when it fails",
        body="""\
`main` in `neural_lam/train_model.py` is decorated with loguru's `@logger.catch`, which logs every
exception and returns. So the process ends with exit code 0, whatever went wrong: `python -m
neural_lam.train_model --config_path nothing.yaml; echo $?` prints a traceback and 0 (0.7.0). Schedulers
and workflow programs take that for success: Slurm says COMPLETED, `afterok` jobs start.

Proposal: `@logger.catch(reraise=True)`. The traceback is logged as before, and the exit code is 1.
""",
    ),
    needed=True,
)


def unguarded(program: Callable[..., Any]) -> Callable[..., Any]:
    """Return a program's own function, without loguru's ``catch`` around it; one that has none as it is."""
    PATCH.fits()
    inner: Callable[..., Any] = getattr(program, "__wrapped__", program)
    return inner
