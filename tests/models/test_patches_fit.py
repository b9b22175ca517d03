"""The patches fit the programs that are installed: each spot is there, whether its version was tried or not."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from mllam_exps.stages.neural_lam.patches.__main__ import every


# Not imported here: each of pytest's workers would, which takes seconds of a processor.
@pytest.mark.skipif(find_spec("neural_lam") is None, reason="it is not installed")
def test_each_was_tried_with_what_is_installed_and_finds_its_spot():
    untried = {name: found for name, one in every().items() if (found := one.untried())}
    missing = {name: found for name, one in every().items() if (found := one.missing())}
    assert (untried, missing) == ({}, {})
