"""What follows by itself after an attempt without a result: as the machine file says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mllam_exps.attempts import follow_up
from mllam_exps.base.endings.causes import Cause
from mllam_exps.machines.model import Retry


@pytest.mark.parametrize(("rule", "is_tried"), [("again", True), ("stop", False)])
def test_an_input_that_was_damaged_follows_the_rule_of_an_error(
    rule: Any, is_tried: bool
):
    machine: Any = SimpleNamespace(retry=Retry(error=rule))
    stage: Any = SimpleNamespace(has_checkpoints=True)
    again = follow_up._again(machine, stage, None)
    assert ({Cause.ERROR, Cause.INPUT} <= again) is is_tried
    assert (Cause.INPUT in again) is is_tried
