"""A checkout laid out elsewhere: whatever git or its user did to it, the files are what they are there."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mllam_exps.base import ownership
from mllam_exps.base.errors import CheckFailed, UsageError
from mllam_exps.base.git import ask_git
from mllam_exps.identity import content
from mllam_exps.repository import checkouts, clones


def git(folder: Path, *words: str) -> str:
    """Run git, which has to succeed; file names of any bytes."""
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, (words, done.stderr)
    return os.fsdecode(done.stdout).rstrip("\n")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's home, with a git identity, and nothing else of git's from outside."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        "[user]\nname = Ada\nemail = ada@site.example\n[protocol.file]\nallow = always\n"
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    return home


def repository(folder: Path, **files: str) -> Path:
    """Make a repository with these files committed."""
    git(folder.parent, "init", "--quiet", "-b", "main", str(folder))
    for name, text in files.items():
        (folder / name).write_text(text)
    commit(folder)
    return folder


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "-m", "One")


def tracked(folder: Path) -> dict[str, bytes | str]:
    """Return the content of the files that git tracks, or of the links, with who may execute them."""
    found: dict[str, bytes | str] = {}
    for name in filter(None, git(folder, "ls-files", "-z").split("\0")):
        path = folder / name
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file():
            found[name] = path.read_bytes() + (
                b"*"
                if os.access(path, os.X_OK) and path.stat().st_mode & 0o100
                else b""
            )
        elif path.is_dir():
            found[name] = "a submodule"
    return found


def laid_out(top: Path) -> Path:
    """Lay the checkout out beside itself, and look whether it is the same; return where."""
    before = git(top, "status", "--porcelain")
    index = (top / git(top, "rev-parse", "--git-path", "index")).read_bytes()
    target = top.with_name(f"{top.name}-there")
    found = checkouts.look(top)
    checkouts.lay_out(found, target)
    assert (top / git(top, "rev-parse", "--git-path", "index")).read_bytes() == index
    assert git(top, "status", "--porcelain") == before
    assert git(target, "rev-parse", "HEAD") == git(top, "rev-parse", "HEAD")
    assert git(target, "diff", "--name-only") == ""
    assert git(target, "write-tree") == git(
        top, "rev-parse", f"{found.content}^{{tree}}"
    )
    git(target, "fsck", "--no-dangling")
    assert tracked(target).items() >= tracked(top).items()
    return target


def test_filters_and_line_ends_of_the_repository_s_own_settings(tmp_path: Path):
    top = repository(tmp_path / "top")
    (top / ".gitattributes").write_text("*.up filter=up\n*.id ident\n*.l text eol=lf\n")
    git(top, "config", "filter.up.smudge", "tr a-z A-Z")
    git(top, "config", "filter.up.clean", "tr A-Z a-z")
    git(top, "config", "core.autocrlf", "true")
    for name, text in {
        "a.up": b"HELLO",
        "b.id": b"$Id$\r\n",
        "c.txt": b"one\r\ntwo\r\n",
        "d.l": b"one\n",
    }.items():
        (top / name).write_bytes(text)
    commit(top)
    for name in (".gitattributes", "a.up", "b.id", "c.txt"):
        (top / name).unlink()
    git(top, "checkout", "--quiet", ".")
    (top / "c.txt").write_bytes(b"one\r\nthree\r\n")
    target = laid_out(top)
    assert ((target / "a.up").read_bytes(), (target / "c.txt").read_bytes()) == (
        b"HELLO",
        b"one\r\nthree\r\n",
    )
    assert (target / "b.id").read_bytes().startswith(b"$Id: ")
    assert git(top, "show", f"{checkouts.look(top).content}:c.txt") == "one\nthree"


def changed(folder: Path) -> str:
    """Return what git calls changed when it looks into every file.

    It trusts the times of files, but for those as young as its index: whether it looks
    into one that was just written is chance, and it may call what it wrote itself
    changed (line ends that are mixed).
    """
    os.utime(folder / git(folder, "rev-parse", "--git-path", "index"), (1, 1))
    return git(folder, "diff", "--name-only")


def there(top: Path) -> Path:
    """Lay a checkout out beside itself, and look whether git gives the same files; return where."""
    found, target = checkouts.look(top), top.with_name(f"{top.name}-there")
    checkouts.lay_out(found, target)
    # What `dvc exp apply`, or a clone of it, has of that commit.
    given = top.with_name(f"{top.name}-given")
    git(top, "worktree", "add", "--quiet", "--detach", str(given), found.content)
    assert changed(target) == changed(given)
    assert tracked(target) == tracked(given)
    return target


def test_line_ends_are_those_that_git_gives(tmp_path: Path):
    """An experiment's own files have the hashes that its `dvc.lock` names, as with `dvc exp run --temp`."""
    top = repository(tmp_path / "top")
    (top / ".gitattributes").write_text(
        "* text=auto\n*.crlf text eol=crlf\n*.raw -text\n"
    )
    for name in ("edited", "kept", "a.crlf", "b.crlf", "c.raw", "mixed"):
        (top / name).write_bytes(b"one\r\n")
    (top / "mixed").write_bytes(b"one\r\ntwo\n")
    (top / "b.crlf").write_bytes(b"one\n")
    (top / "binary").write_bytes(b"\0\r\n")
    commit(top)
    (top / "edited").write_bytes(b"two\r\n")
    target = there(top)
    assert (target / "edited").read_bytes() == b"two\n"
    assert (target / "kept").read_bytes() == b"one\n"
    assert (target / "b.crlf").read_bytes() == b"one\r\n"
    assert (target / "c.raw").read_bytes() == b"one\r\n"
    assert (top / "kept").read_bytes() == b"one\r\n"


def test_what_was_edited_is_what_git_gives_back(tmp_path: Path):
    """A filter that keeps less than there is: a notebook without its outputs, say."""
    top = repository(tmp_path / "top")
    (top / ".gitattributes").write_text("*.ipynb filter=strip\n*.id ident\n")
    git(top, "config", "filter.strip.clean", "grep -v output")
    (top / "a.ipynb").write_text("one\n")
    (top / "b.id").write_text("$Id$\n")
    commit(top)
    (top / "a.ipynb").write_text("two\noutput\n")
    (top / "b.id").write_text("$Id$\nmore\n")
    target = there(top)
    assert (target / "a.ipynb").read_text() == "two\n"
    assert (top / "a.ipynb").read_text() == "two\noutput\n"


def test_what_lies_here_and_is_committed_is_what_git_gives_back(tmp_path: Path):
    top = repository(tmp_path / "top")
    (top / ".gitattributes").write_text("*.ipynb filter=strip\n*.id ident\n")
    git(top, "config", "filter.strip.clean", "grep -v output")
    (top / "a.ipynb").write_text("one\noutput\n")
    (top / "b.id").write_text("$Id$\n")
    commit(top)
    assert git(top, "status", "--porcelain") == ""
    target = there(top)
    assert (target / "a.ipynb").read_text() == "one\n"
    assert (target / "b.id").read_text().startswith("$Id: ")
    assert (top / "a.ipynb").read_text() == "one\noutput\n"


@pytest.mark.parametrize("setting", ["core.autocrlf true", "core.eol crlf"])
def test_settings_say_how_lines_end(tmp_path: Path, setting: str):
    top = repository(tmp_path / "top")
    git(top, "config", *setting.split())
    (top / ".gitattributes").write_text("* text=auto\n*.lf eol=lf\n")
    (top / "a.txt").write_bytes(b"one\n")
    (top / "b.lf").write_bytes(b"one\n")
    commit(top)
    target = there(top)
    assert (target / "a.txt").read_bytes() == b"one\r\n"
    assert (target / "b.lf").read_bytes() == b"one\n"


def test_what_is_called_a_text_is_one_whatever_it_holds(tmp_path: Path):
    top = repository(tmp_path / "top")
    for name, held in (("binary", b"one\n\0"), ("mixed", b"one\ntwo\r\n")):
        (top / name).write_bytes(held)
    (top / "a.wide").write_bytes("\ufeffone\n".encode("utf-16-be"))
    commit(top)
    (top / ".gitattributes").write_text(
        "binary text eol=crlf\nmixed eol=crlf\n*.wide working-tree-encoding=UTF-16\n"
    )
    git(top, "rm", "--quiet", "--cached", "a.wide")
    commit(top)
    assert git(top, "status", "--porcelain") == ""
    target = there(top)
    assert (target / "binary").read_bytes() == b"one\r\n\0"
    assert (target / "mixed").read_bytes() == b"one\r\ntwo\r\n"
    assert (target / "a.wide").read_bytes() != (top / "a.wide").read_bytes()


def test_files_have_the_modes_that_git_gives_back(tmp_path: Path):
    """On some file systems, and where `core.fileMode` is false, git does not look at those that files have."""
    top = repository(tmp_path / "top", a="one", b="two")
    git(top, "config", "core.fileMode", "false")
    git(top, "update-index", "--chmod=+x", "b")
    (top / "a").chmod(0o755)
    target = there(top)
    assert not os.access(target / "a", os.X_OK)
    assert os.access(target / "b", os.X_OK)


def test_who_somebody_is_may_stand_in_variables(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
):
    top = repository(tmp_path / "top", a="1")
    (home / ".gitconfig").unlink()
    git(top, "config", "user.useConfigOnly", "true")
    with pytest.raises(UsageError, match="git doesn't know who you are"):
        clones.whose(top)
    settings = tmp_path / "settings"
    settings.write_text("[user]\n\tname = Ann\n\temail = ann@site.example\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    assert ask_git(top, "config", "user.name") == "Ann"
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Bea")
    assert clones.whose(top)["user.name"] == "Bea"
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert ask_git(top, "rev-parse", "--git-dir") == ".git"


def test_the_clone_may_be_on_another_file_system(tmp_path: Path):
    top = repository(tmp_path / 'odd "name": here', **{"a.txt": "hello\n"})
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        if Path(elsewhere).stat().st_dev == top.stat().st_dev:
            pytest.skip("there is no other file system here")
        clone = Path(elsewhere) / "clone"
        checkouts.lay_out(checkouts.look(top), clone)
        assert tracked(clone) == tracked(top)
        assert not [
            path for path in (top / ".git/objects/pack").glob("*") if "tmp" in path.name
        ]


def test_no_filter_is_asked_for_what_is_checked_out(tmp_path: Path):
    """A file that git-lfs has not fetched yet stays the pointer that it is; nothing is downloaded."""
    top = repository(tmp_path / "top")
    (top / ".gitattributes").write_text("*.nc filter=lfs\n")
    (top / "a.nc").write_text("a pointer\n")
    commit(top)
    git(top, "config", "filter.lfs.smudge", "false")
    git(top, "config", "filter.lfs.clean", "false")
    git(top, "config", "filter.lfs.required", "true")
    time.sleep(
        1.1
    )  # git reads again what was written in the second in which its index was
    git(top, "-c", "filter.lfs.required=false", "update-index", "--force-write-index")
    assert (laid_out(top) / "a.nc").read_text() == "a pointer\n"


def test_names_links_modes_and_what_is_only_staged(tmp_path: Path):
    top = repository(tmp_path / "top", gone="x", kept="x", run="#!/bin/sh\n")
    (top / "folder").mkdir()
    (top / "folder" / " blank\nline é").write_text("x")
    Path(os.fsdecode(os.fsencode(top) + b"/\xff")).write_text("bytes")
    (top / "to-folder").symlink_to("folder")
    (top / "nowhere").symlink_to("../../not/there")
    commit(top)
    (top / "run").chmod(0o755)
    (top / "gone").unlink()
    (top / "kept").write_text("y")
    for name, option in (("staged", "--force"), ("meant", "--intent-to-add")):
        (top / name).write_text(name)
        git(top, "add", option, name)
    (top / "untracked").touch()
    target = laid_out(top)
    assert not {"gone", "untracked"} & {path.name for path in target.iterdir()}
    assert [(target / name).read_text() for name in ("kept", "staged", "meant")] == [
        "y",
        "staged",
        "meant",
    ]
    assert (target / "to-folder").readlink() == Path("folder")
    assert os.access(target / "run", os.X_OK)


def _worktree(top: Path) -> Path:
    git(top, "worktree", "add", "--quiet", str(top.parent / "tree"))
    return top.parent / "tree"


def _separate(top: Path) -> Path:
    git(top, "init", "--quiet", "--separate-git-dir", str(top.parent / "elsewhere.git"))
    git(top, "config", "core.worktree", str(top))
    return top


def _split(top: Path) -> Path:
    git(top, "config", "core.splitIndex", "true")
    git(top, "update-index", "--split-index")
    return top


def _shallow(top: Path) -> Path:
    commit(top)
    git(top.parent, "clone", "--quiet", "--depth=1", f"file://{top}", "shallow")
    return top.parent / "shallow"


def _partial(top: Path) -> Path:
    (top / "a").write_text("later")
    commit(top)
    git(top, "config", "uploadpack.allowFilter", "true")
    git(
        top.parent, "clone", "--quiet", "--filter=blob:none", f"file://{top}", "partial"
    )
    top.rename(top.with_name("offline"))
    return top.parent / "partial"


def _features(top: Path) -> Path:
    git(top, "config", "feature.manyFiles", "true")
    git(top, "config", "fetch.fsckObjects", "true")
    git(top, "update-index", "--untracked-cache")
    return top


@pytest.mark.parametrize(
    "kind", [_worktree, _separate, _split, _shallow, _partial, _features]
)
def test_kinds_of_repositories(tmp_path: Path, kind: Callable[[Path], Path]):
    top = kind(repository(tmp_path / "top", a="one", b="two"))
    (top / "b").write_text("new")
    assert (laid_out(top) / "b").read_text() == "new"


def test_nobody_s_hooks_run_and_nothing_is_signed(tmp_path: Path, home: Path):
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in (
        "post-index-change",
        "reference-transaction",
        "pre-commit",
        "post-checkout",
        "fsmonitor",
    ):
        (hooks / name).write_text(
            f"#!/bin/sh\necho {name} >> {tmp_path}/called\nexit 1\n"
        )
        (hooks / name).chmod(0o755)
    top = repository(tmp_path / "top", a="one")
    (top / "a").write_text("two")
    with (home / ".gitconfig").open("a") as file:
        file.write(f"[core]\nhooksPath = {hooks}\nfsmonitor = {hooks}/fsmonitor\n")
        file.write("[commit]\ngpgSign = true\n[gpg]\nprogram = /bin/false\n")
    found = checkouts.look(top)
    checkouts.lay_out(found, tmp_path / "there")
    clones.keep(top, "save-1", found.content)
    clones.release(top, "save-1")
    assert not (tmp_path / "called").exists()


def test_a_sparse_checkout_is_laid_out_whole(tmp_path: Path):
    top = repository(tmp_path / "top", a="one")
    for folder in ("in", "out"):
        (top / folder).mkdir()
        (top / folder / "file").write_text("one")
    commit(top)
    git(top, "sparse-checkout", "set", "--cone", "--sparse-index", "in")
    assert not (top / "out").exists()
    (top / "in" / "file").write_text("two")
    found = checkouts.look(top)
    checkouts.lay_out(found, tmp_path / "there")
    assert tracked(tmp_path / "there") == {
        "a": b"one",
        "in/file": b"two",
        "out/file": b"one",
    }
    assert git(top, "diff", "--name-only", found.baseline, found.content) == "in/file"
    assert checkouts.hidden_changes(found) == []


@pytest.mark.parametrize("mark", ["--skip-worktree", "--assume-unchanged"])
def test_changes_that_git_is_told_to_overlook_are_said(tmp_path: Path, mark: str):
    top = repository(tmp_path / "top", a="one", b="one", c="one")
    git(top, "update-index", mark, "a", "b")
    (top / "a").write_text("mine alone")
    found = checkouts.look(top)
    checkouts.lay_out(found, tmp_path / "there")
    assert (found.content, (tmp_path / "there" / "a").read_text()) == (
        found.baseline,
        "one",
    )
    assert checkouts.hidden_changes(found) == ["a"]


@pytest.fixture
def with_library(tmp_path: Path) -> Path:
    """A repository with a submodule that has one of its own."""
    repository(tmp_path / "inner", f="inner")
    library = repository(tmp_path / "library", f="one")
    git(library, "submodule", "--quiet", "add", "../inner", "inner")
    commit(library)
    top = repository(tmp_path / "top", a="one")
    git(top, "submodule", "--quiet", "add", "../library", "lib/rary")
    git(top, "submodule", "--quiet", "update", "--init", "--recursive")
    commit(top)
    return top


@pytest.mark.parametrize("ignore", ["none", "all"])
def test_submodules_are_there_with_the_commit_that_is_checked_out(
    with_library: Path, ignore: str
):
    git(with_library, "config", "submodule.lib/rary.ignore", ignore)
    library = with_library / "lib/rary"
    for name in ("inner", "library"):
        (with_library.parent / name).rename(with_library.parent / f"offline-{name}")
    (library / "f").write_text("two")
    commit(library)
    new = git(library, "rev-parse", "HEAD")
    found = checkouts.look(with_library)
    assert f"160000 commit {new}" in git(
        with_library, "ls-tree", found.content, "lib/rary"
    )
    checkouts.lay_out(found, there := with_library.with_name("there"))
    assert (
        (there / "lib/rary/f").read_text(),
        (there / "lib/rary/inner/f").read_text(),
    ) == ("two", "inner")
    assert git(there / "lib/rary", "rev-parse", "HEAD") == new
    assert git(there, "status", "--porcelain") == "M  lib/rary"
    clones.copy(there, copied := with_library.with_name("copied"))
    assert git(copied, "status", "--porcelain") == "M  lib/rary"


def test_a_repository_inside_that_is_no_submodule_is_named(with_library: Path):
    assert checkouts.embedded(checkouts.look(with_library)) == []
    git(with_library.parent, "clone", "--quiet", "inner", str(with_library / "own"))
    git(with_library / "lib/rary", "rm", "--quiet", "--cached", ".gitmodules")
    (with_library / "lib/rary/.gitmodules").unlink()
    commit(with_library / "lib/rary")
    commit(with_library)
    assert checkouts.embedded(checkouts.look(with_library)) == ["lib/rary/inner", "own"]


def test_a_clone_is_for_nobody_else_to_write_to_whatever_the_umask(tmp_path: Path):
    """Else a submission of somebody whose team writes to one folder refuses its own clone."""
    before = os.umask(0)
    try:
        top = tmp_path / "top"
        (top / "below/.dvc").mkdir(parents=True)
        (top / "below/dvc.yaml").touch()
        (top / "below/.dvc/config").touch()
        git(top, "init", "--quiet")
        commit(top)
        clones.make(
            clones.state(top / "below"),
            made := tmp_path / "made",
            {"cache": {"dir": "cache"}},
        )
        (made / "below/written").touch()
        assert ownership.objection(made / "below/written"), (
            "what is made in it afterwards follows the umask"
        )
        clones.copy(made, copied := tmp_path / "copied")
    finally:
        os.umask(before)
    for clone in (made, copied):
        for place in (
            clone,
            clone / ".git",
            clone / ".git/config",
            clone / "below",
            clone / "below/.dvc/config.local",
        ):
            assert not ownership.objection(place), place
    assert not ownership.objection(copied / "below/written")


@pytest.mark.parametrize("change", ["edited", "another commit of its own submodule"])
def test_a_submodule_with_changes_that_nothing_would_record_is_refused(
    with_library: Path, change: str
):
    library = with_library / "lib/rary"
    if change == "edited":
        (library / "f").write_text("dirty")
    else:
        commit(library / "inner")
    with pytest.raises(UsageError, match="not committed") as caught:
        checkouts.look(with_library)
    assert str(library) in str(caught.value)


def test_what_to_type_means_the_same_where_it_is_typed(
    with_library: Path, monkeypatch: pytest.MonkeyPatch
):
    library = with_library / "lib/rary"
    (library / "inner/f").write_text("dirty")
    for folder in (with_library, library):
        monkeypatch.chdir(folder)
        with pytest.raises(UsageError, match="not committed") as caught:
            checkouts.look(with_library)
        typed = os.path.relpath(library / "inner")
        assert caught.value.next.startswith(f"git -C {typed} commit --all")


def test_a_submodule_that_is_not_checked_out_is_an_empty_folder(with_library: Path):
    git(with_library, "submodule", "--quiet", "deinit", "--all")
    there = laid_out(with_library)
    assert list((there / "lib/rary").iterdir()) == []


def test_a_file_that_is_edited_between_looking_and_copying(tmp_path: Path):
    top = repository(tmp_path / "top", a="one", b="two")
    found = checkouts.look(top)
    (top / "b").write_text("TWO")  # of the same size, and in the same second
    with pytest.raises(UsageError, match="edited while it was being submitted"):
        checkouts.lay_out(found, tmp_path / "there")


def test_what_git_could_not_commit_is_refused(tmp_path: Path):
    top = repository(tmp_path / "top", a="one")
    git(top, "switch", "--quiet", "--create", "other")
    (top / "a").write_text("two")
    commit(top)
    git(top, "switch", "--quiet", "main")
    (top / "a").write_text("three")
    commit(top)
    subprocess.run(
        ["git", "merge", "--quiet", "other"], cwd=top, capture_output=True, check=False
    )
    with pytest.raises(UsageError, match="is not merged"):
        checkouts.look(top)
    git(tmp_path, "init", "--quiet", "empty")
    with pytest.raises(UsageError, match="has no commit yet"):
        checkouts.look(tmp_path / "empty")


def test_what_only_the_user_s_own_rules_ignore_is_untracked(tmp_path: Path, home: Path):
    top = repository(tmp_path / "top")
    (top / ".gitignore").write_text("*.log\n")
    commit(top)
    (home / "ignore").write_text("*.nc\n.editor\n")
    git(top, "config", "--global", "core.excludesFile", str(home / "ignore"))
    for name in ("a.nc", ".editor", "b.log"):
        (top / name).touch()
    assert clones.untracked(top) == ["a.nc", ".editor"]
    (top / "out/below").mkdir(parents=True)
    (top / "out/below/o.txt").touch()
    assert clones.untracked(top, ["a.nc", "out"]) == [".editor"]


@pytest.mark.parametrize(
    "kept", ["time of the index", "time of the file", "time of the file, for git, too"]
)
def test_an_edit_that_leaves_size_and_time_is_seen(tmp_path: Path, kept: str):
    top = repository(tmp_path / "top", a="one")
    time.sleep(1.1)
    git(top, "update-index", "--force-write-index")
    times = (
        (top / (".git/index" if kept == "time of the index" else "a"))
        .stat()
        .st_mtime_ns
    )
    if kept == "time of the index":
        # As when both are written in the same second, and looked at in a later one.
        os.utime(top / "a", ns=(times, times))
        git(top, "add", "a")
        os.utime(top / ".git/index", ns=(times, times))
    if kept != "time of the file":
        git(top, "config", "core.trustctime", "false")
    (top / "a").write_text("two")
    os.utime(top / "a", ns=(times, times))
    found = checkouts.look(top)
    checkouts.lay_out(found, tmp_path / "there")
    assert (
        git(top, "show", f"{found.content}:a")
        == (tmp_path / "there" / "a").read_text()
        == "two"
    )


def test_a_folder_with_a_name_that_dvc_cannot_list_is_no_output(tmp_path: Path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).touch()
    with pytest.raises(CheckFailed, match="not UTF-8"):
        content.describe(tmp_path)
