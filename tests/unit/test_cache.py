"""DVC's cache: what is brought into it while another process does the same."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest

from mllam_exps.dvc.cache import Cache

TEXT = "what a run has made\n"
DIGEST = hashlib.md5(TEXT.encode(), usedforsecurity=False).hexdigest()


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A file of the run store."""
    path = tmp_path / "store/state.json"
    path.parent.mkdir()
    path.write_text(TEXT)
    path.chmod(0o444)
    return path


def test_a_file_gets_a_second_name_that_is_read_only(made: Path, tmp_path: Path):
    cache = Cache(str(tmp_path / "cache"))
    cache.add({DIGEST: made})
    place = cache.path(DIGEST)
    assert place.read_text() == TEXT
    assert stat.S_IMODE(place.stat().st_mode) == 0o444
    assert [path.name for path in place.parent.iterdir()] == [place.name]
    cache.add({DIGEST: made})
    assert place.read_text() == made.read_text() == TEXT


def test_two_that_bring_the_same_at_once_leave_it_whole(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """DVC's own way emptied the run store's file, where it belonged to root: seen in a result of two workspaces."""
    cache, other = Cache(str(tmp_path / "cache")), Cache(str(tmp_path / "cache"))
    looked = Cache.holds

    def meanwhile(self: Cache, digest: str) -> bool:
        there = looked(self, digest)
        monkeypatch.setattr(Cache, "holds", looked)
        other.add({DIGEST: made})
        return there

    monkeypatch.setattr(Cache, "holds", meanwhile)
    cache.add({DIGEST: made})
    assert made.read_text() == TEXT
    assert cache.path(DIGEST).read_text() == TEXT
    assert [path.name for path in cache.path(DIGEST).parent.iterdir()] == [DIGEST[2:]]
