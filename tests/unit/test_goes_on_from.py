"""From where the next attempt goes on, as the driver tells it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mllam_exps.attempts.driver import _goes_on_from
from mllam_exps.stages.contract import Stage


class Steps(Stage):
    """A stage with checkpoints."""

    def checkpoints(self, scratch: Path) -> list[Path]:
        """Return them, newest first."""
        return sorted(scratch.glob("*.ckpt"), reverse=True)


def test_the_newest_checkpoint_of_an_earlier_attempt_is_named(tmp_path: Path):
    attempts = []
    for number, files in enumerate((["1.ckpt", "2.ckpt"], []), start=1):
        scratch = tmp_path / str(number)
        scratch.mkdir()
        for name in files:
            (scratch / name).touch()
        attempts.append(SimpleNamespace(number=number, scratch=scratch))
    run: Any = SimpleNamespace(attempts=lambda: attempts)
    told = ", which goes on from 2.ckpt of attempt 1"
    assert _goes_on_from(run, Steps()) == told
    assert not _goes_on_from(run, Stage())
