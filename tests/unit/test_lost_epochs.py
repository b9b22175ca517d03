"""The long tests' own count of lost epochs sees a training that begins anew, also once its scratch is gone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.trainings import Training


def test_an_attempt_that_begins_anew_has_lost_what_was_reached(tmp_path: Path) -> None:
    logs = {
        1: "$ srun train --epochs=9\n0: Seed set to 3\n",
        2: "going on from last.ckpt of attempt 1\n$ srun train --load=x\n",
        3: "going on from last.ckpt of attempt 2\n$ srun train --load=x\n0: going on with epoch 3 of 9\n",
        4: "$ srun train --epochs=9\n0: Seed set to 3\n",
    }
    for number, text in logs.items():
        attempt = tmp_path / f"attempts/{number}"
        attempt.mkdir(parents=True)
        (attempt / "started.json").write_text("{}")
        (attempt / "log.txt").write_text(text)
    experiment: Any = SimpleNamespace(runs=lambda _stage: [tmp_path])
    training = Training(experiment, cluster=None)
    assert [training.began(number) for number in logs] == [0, None, 2, 0]
    with pytest.raises(AssertionError, match=r"\(4, 2\.5, 0\)"):
        training.check_that_at_most_an_epoch_was_lost({1: 2.5})
