"""What a repository needs of a cache is found wherever git or DVC keeps it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mllam_exps.base.errors import MllamError
from mllam_exps.sharing import needs


def digest(sign: str) -> str:
    """Return a hash of DVC's of one sign."""
    return sign * 32


def lock(*signs: str) -> str:
    """Return a lock file that names objects."""
    return "".join(f"md5: {digest(sign)}\n" for sign in signs)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A git repository with a lock file in its first commit."""
    git(tmp_path, "init", "-q", "-b", "main")
    commit(tmp_path, {"dvc.lock": lock("a")})
    return tmp_path


def git(root: Path, *words: str) -> str:
    """Call git as somebody."""
    who = ("-c", "user.name=A", "-c", "user.email=a@site.example")
    done = subprocess.run(
        ["git", "-C", root, *who, *words], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def commit(root: Path, files: dict[str, str]) -> str:
    """Write and commit files."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    git(root, "add", "-A", "-f")
    git(root, "commit", "-q", "-m", "Change")
    return git(root, "rev-parse", "HEAD")


def test_what_any_commit_of_any_ref_names_is_needed(root: Path):
    commit(root, {"dvc.lock": lock("b"), "deep/er/dvc.lock": lock("c")})
    git(root, "checkout", "-q", "-b", "side", "HEAD~")
    commit(root, {"data/größe x.zarr.dvc": f"outs:\n- {lock('d')}"})
    # A merge that takes nothing of the side's: git's log of the path leaves it out.
    git(root, "checkout", "-q", "main")
    git(root, "merge", "-q", "-s", "ours", "--no-edit", "side")
    git(root, "branch", "-q", "-D", "side")
    experiment = commit(root, {"dvc.lock": lock("e") + f"{digest('f')}.dir"})
    git(root, "reset", "-q", "--hard", "HEAD~")
    git(root, "update-ref", "refs/exps/00/1234/one", experiment)
    git(root, "commit", "-q", "--allow-empty", "-m", "Nothing of DVC's")
    assert needs.of_git(root) == {*map(digest, "abcde"), f"{digest('f')}.dir"}


def test_a_lock_file_that_git_has_under_another_name_as_well_is_found(root: Path):
    commit(root, {"a-copy.txt": lock("b")})
    commit(root, {"dvc.lock": lock("b")})
    assert digest("b") in needs.of_git(root)


def test_what_is_stashed_is_needed_all_of_it(root: Path):
    for sign in "bc":
        (root / "dvc.lock").write_text(lock(sign))
        git(root, "stash", "-q")
    assert needs.of_git(root) == {digest("a"), digest("b"), digest("c")}


def test_an_empty_repository_needs_nothing(tmp_path: Path):
    git(tmp_path, "init", "-q", "--bare")
    assert needs.of_git(tmp_path) == set()


def test_what_git_cannot_read_may_be_needed(root: Path):
    blob = git(root, "rev-parse", "HEAD:dvc.lock")
    place = root / ".git" / "objects" / blob[:2] / blob[2:]
    place.chmod(0o644)
    place.write_bytes(b"")
    with pytest.raises(MllamError, match="git cannot read 1 of 1 files"):
        needs.of_git(root)


def test_files_on_disk_count_committed_or_not(tmp_path: Path):
    files = {
        "dvc.lock": "a",
        "cache/dvc.lock": "b",
        ".dvc/tmp/exps/x1/dvc.lock": "c",
        "data/big.zarr.dvc": "d",
        ".git/dvc.lock": "e",
        ".dvc/cache/dvc.lock": "f",
    }
    for name, sign in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(lock(sign))
    links = {"data/one": "1", "data/lists": "2", "data/loop": "dvc.lock"}
    for name, sign in links.items():
        object = f"/cache/files/md5/{digest(sign)[:2]}/{digest(sign)[2:]}"
        (tmp_path / name).symlink_to(object if len(sign) == 1 else sign)
    assert needs.of_files(tmp_path) == set(map(digest, "abcd12"))


def test_only_whole_hashes_are_hashes():
    text = f"{digest('a')} x{digest('b')} {'c' * 40} {digest('d')}.dir, {digest('e')}.directory"
    assert needs.hashes(text.encode()) >= {digest("a"), f"{digest('d')}.dir"}
    assert "c" * 32 not in needs.hashes(text.encode())
