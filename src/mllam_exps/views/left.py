"""Stages of which a commit holds no result of its own."""

from __future__ import annotations

from dataclasses import dataclass

from mllam_exps.runs.store import Run

NOT_RUN = "not run"
OTHER_INPUTS = "other inputs"


@dataclass(frozen=True)
class Left:
    """A stage that a commit holds no result of its own of, though its ``dvc.lock`` has an entry of it.

    Parameters
    ----------
    why : str
        The sentence that says so.
    ran : Run, optional
        What was asked for under the experiment's name, and made that result, from what
        lay there: with `--single-item`, say.
    """

    why: str
    ran: Run | None = None

    @property
    def word(self) -> str:
        """The same in a word or two."""
        return OTHER_INPUTS if self.ran else NOT_RUN
