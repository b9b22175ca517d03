"""What is done about a patch on a version that it was not tried with."""

from __future__ import annotations

import pytest

from mllam_exps.base.errors import MllamError
from mllam_exps.stages import patch
from mllam_exps.stages.neural_lam.patches import __main__ as listing
from mllam_exps.stages.patch import Issue, Patch

ISSUE = Issue("someone/json", "A title", "A body\n")


def a_patch(spots: dict[str, str], *, needed: bool = False) -> Patch:
    tried = {"json-program": ("1.0", "1.1")}
    return Patch(
        "mend", "it is mended", tried, spots, "it is mended there", ISSUE, needed
    )


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch):
    def install(version: str) -> None:
        monkeypatch.setattr(patch, "_version", lambda _name: version)

    return install


def test_on_a_version_that_it_was_tried_with_nothing_is_looked_for(installed):
    installed("1.1")
    assert a_patch({"no.such.module:thing": ""}, needed=True).fits()


@pytest.mark.parametrize(
    ("spots", "told"),
    [
        ({"json:JSONDecoder.decode": "raw_decode"}, ""),
        ({"json": "loads"}, ""),
        ({"functools:cached_property.__get__": ""}, ""),
        (
            {"json:loads": "", "json:JSONDecoder.gone": ""},
            "there is no json:JSONDecoder.gone",
        ),
        ({"json.gone:loads": ""}, "there is no json.gone:loads"),
        ({"json:loads": "no such words"}, "json:loads has no `no such words`"),
    ],
)
def test_on_another_version_the_spot_is_looked_for(
    installed, capsys, spots: dict[str, str], told: str
):
    installed("2.0")
    assert a_patch(spots).fits() == (not told)
    said = capsys.readouterr().out
    if not told:
        assert not said
        return
    what = f"the patch mend does not fit json-program 2.0: {told}"
    assert said == f"warning: {what}; left out (it is there so that it is mended)\n"
    with pytest.raises(MllamError) as caught:
        a_patch(spots, needed=True).fits()
    assert caught.value.what == what
    assert caught.value.next == "install json-program 1.1"


@pytest.mark.parametrize(
    ("found", "version"),
    [
        ("2.13.0+cpu", "2.13.0"),
        ("2.13.0+cu130", "2.13.0"),
        ("2.13.0", "2.13.0"),
        ("0.7.0+gabc", "0.7.0+gabc"),
    ],
)
def test_a_build_is_no_other_version_but_a_checkout_is(monkeypatch, found, version):
    monkeypatch.setattr(patch.metadata, "version", lambda _name: found)
    assert patch._version("torch") == version


def test_each_patch_says_all_of_itself(capsys):
    pytest.importorskip("numpy", reason="some patches import it")
    for name, one in listing.every().items():
        for said in (one.purpose, one.until, one.issue.title, one.issue.body):
            assert said.strip(), name
        assert one.tried, name
        assert one.spots, name
        assert "/" in one.issue.repository, name
    assert listing.main([]) == 0
    assert "save_in_one_step (pytorch-lightning 2.6.6" in capsys.readouterr().out
    assert listing.main(["fail_aloud"]) == 0
    assert capsys.readouterr().out.startswith("mllam/neural-lam: `python -m")
    assert listing.main(["none"]) == 2
