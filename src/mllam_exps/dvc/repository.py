"""A DVC repository, opened: the one door through which the other rooms look at what DVC has.

DVC's own object stays inside this package (`Repository.opened`). What goes out are our
own types: `StageGraph`, `Cache`, and plain values.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllam_exps.base import unreadable
from mllam_exps.base.errors import Exit, MllamError, UsageError, first_line
from mllam_exps.base.git import ask_git
from mllam_exps.dvc import rwlock
from mllam_exps.dvc.cache import Cache
from mllam_exps.dvc.graph import Dep, Out, ParameterFile, StageEntry, StageGraph

if TYPE_CHECKING:
    from dvc.output import Output as DvcOutput
    from dvc.repo import Repo
    from dvc.stage import Stage as DvcStage


class Repository:
    """A DVC repository.

    Opening it takes no lock, so that this works inside a stage's command, too. What was
    read of it is remembered until `reset`: a sweep asks the same for a hundred
    experiments.

    Parameters
    ----------
    opened : dvc.repo.Repo
        DVC's own object, for the modules of this package.
    """

    def __init__(self, opened: Repo) -> None:
        self.opened = opened
        self.root = Path(opened.root_dir)
        self._values: dict[tuple[bytes, str, tuple[str, ...]], dict[str, Any]] = {}
        self._held: dict[str, bool] = {}

    @classmethod
    def open_here(cls, root: Path) -> Repository:
        """Open the repository of the workspace; in a stage's command DVC (3.67) has looked at its stages a moment ago.

        To look again is a quarter of the time that such a command takes.
        """
        environ = os.environ
        in_stage = "DVC_STAGE" in environ and environ.get("DVC_ROOT") == str(root)
        return cls.open(root, check=not in_stage)

    @classmethod
    def open(cls, root: Path, *, check: bool = True) -> Repository:
        """Open the DVC repository at `root`, with DVC's errors told as a user's.

        Parameters
        ----------
        check : bool
            Whether its stages are looked at; a copy of a repository that was needs no
            more of that.

        Raises
        ------
        UsageError
            If there is no DVC repository, or ``dvc.yaml`` is not valid.
        """
        from dvc.repo import Repo

        with _told_as_a_user_s(root):
            # Through a link on the way there (a run store behind one), DVC (3.67) takes
            # each of its files for one that git ignores.
            opened = Repo(os.path.realpath(root))
            if check:
                opened.index.check_graph()
        return cls(opened)

    @contextlib.contextmanager
    def at(self, revision: str) -> Iterator[Repository]:
        """Look at a commit of it, without a checkout: paths begin at git's root, which is called ``/``.

        Raises
        ------
        UsageError
            If there is no such commit, or DVC cannot read what it holds.
        """
        self.refuse_unreadable_index()
        with _told_as_a_user_s(self.root), self.opened.switch(revision):
            there = Repository(self.opened)
            there._values = self._values  # known by what the files hold
            yield there

    def refuse_unreadable_index(self) -> None:
        """Refuse an index that libgit2 (pygit2 1.21) cannot read, a split one say: DVC (3.67) waits for ever then.

        A thread of its that reads a commit dies of it, and whoever waits for that is not told.

        Raises
        ------
        UsageError
            With the command after which it can be read.
        """
        if (git := getattr(self.opened.scm, "pygit2", None)) is None:
            return
        try:
            git.repo.index.read()
        except Exception as error:  # libgit2's own, which DVC's packages bring
            place = str(self.root)
            what = "DVC cannot read a commit, as it cannot read git's index"
            why, way_out = first_line(error), self._readable_index()
            raise UsageError(what, place, why, way_out) from error

    def _readable_index(self) -> str:
        """Return the command that makes git's index one that libgit2 reads."""
        if ask_git(self.root, "rev-parse", "--shared-index-path"):
            return "git config core.splitIndex false; git update-index --no-split-index"
        if ask_git(self.root, "config", "--bool", "index.sparse") == "true":
            return "git sparse-checkout reapply --no-sparse-index"
        return "git reset: nothing is staged then, and all files stay as they are"

    def reset(self) -> None:
        """Forget what was read of its files: they have changed."""
        self.opened._reset()
        self.__dict__.pop("graph", None)
        self.__dict__.pop("cache", None)

    @cached_property
    def graph(self) -> StageGraph:
        """Its stages.

        Raises
        ------
        UsageError
            If DVC cannot read them.
        """
        with _told_as_a_user_s(self.root):
            stages = self.opened.index.stages
        return StageGraph(tuple(map(_entry, stages)))

    @cached_property
    def cache(self) -> Cache:
        """Its cache."""
        shared = self.settings("cache").get("shared")
        return Cache(
            str(self.cache_directory), str(shared or ""), self.opened.cache.local
        )

    def holds(self, digest: str) -> bool:
        """Tell whether its cache has a file, or all of a folder, undamaged; looked up once for an opened repository."""
        if digest not in self._held:
            self._held[digest] = self.cache.is_sound(digest)
        return self._held[digest]

    @property
    def cache_directory(self) -> Path:
        """Where its cache is."""
        return Path(self.opened.cache.local_cache_dir)

    @property
    def cache_types(self) -> list[str]:
        """DVC's ``cache.type``: how it lays out what its cache holds. Where nobody has set it, by copies (3.67)."""
        return [str(way) for way in self.opened.cache.local.cache_types]

    @property
    def run_cache_directory(self) -> Path:
        """Where DVC keeps what its stages made of which inputs."""
        return Path(self.opened.stage_cache.cache_dir)

    @property
    def temporary_directory(self) -> Path:
        """Where DVC keeps its locks: ``.dvc/tmp``."""
        return Path(str(self.opened.tmp_dir))

    def settings(self, section: str) -> Mapping[str, Any]:
        """Return a section of DVC's configuration, whatever files it comes from."""
        found: Mapping[str, Any] = self.opened.config.get(section, {})
        return found

    def relative(self, path: str | Path) -> str:
        """Return a path as seen from its root; one that lies elsewhere as it is."""
        path = Path(path)
        if not path.is_relative_to(self.root):
            return str(path)
        return path.relative_to(self.root).as_posix()

    def is_ignored_by_git(self, path: str) -> bool:
        """Tell whether git ignores a file, seen from its root."""
        return bool(self.opened.scm.is_ignored(str(self.root / path)))

    def have_staged(self, files: Iterable[str]) -> None:
        """Have git track files, seen from its root, where DVC is to do so with its own (``core.autostage``)."""
        with self.opened.scm_context(quiet=True) as scm:
            scm.track_file([str(self.root / file) for file in files])

    def values_of(self, file: ParameterFile) -> dict[str, Any]:
        """Return what DVC reads from a parameter file for a stage; each content of it is parsed once for all stages.

        Raises
        ------
        UsageError
            If DVC cannot read it.
        """
        from dvc.dependency.param import read_param_file

        try:
            with self.opened.fs.open(file.path, "rb") as opened:
                text = opened.read()
        except OSError:
            text = b""
        keys = self.graph.tracked_keys(file.path) if file.keys else []
        known = (text, file.path, tuple(keys))
        if known not in self._values:
            try:
                self._values[known] = read_param_file(
                    self.opened.fs, file.path, keys or None, flatten=True
                )
            except Exception as error:
                # Of a name that stands there twice, "a.b" beside "a: {b: …}", dpath
                # (2.2) says ValueError.
                raise unreadable.refusal(
                    self.relative(file.path), text.decode(errors="replace"), error
                ) from error
        values = self._values[known]
        if not file.keys:
            return dict(values)
        return {key: value for key, value in values.items() if key in file.keys}

    def changed_since_added(self, paths: Collection[str]) -> Iterator[str]:
        """Yield those of the paths, seen from its root, that hold something else than when `dvc add` added them."""
        for stage in self.opened.index.stages:
            for out in stage.outs if stage.is_data_source else ():
                path = self.relative(out.fs_path)
                if path in paths and out.exists and out.changed_checksum():
                    yield path

    def status(self, names: Sequence[str]) -> dict[str, list[Any]]:
        """Return what DVC (3.67) says of stages: of each a list of words and one-key mappings; empty where it is fine.

        Raises
        ------
        MllamError
            While another DVC command works there.
        """
        from dvc.lock import LockError
        from dvc.rwlock import RWLockFileCorruptedError, RWLockFileFormatError

        found: dict[str, list[Any]] = {}
        try:
            with self.opened.lock:
                for name in names:
                    stage = self._dvc_stage(name)
                    told = stage.status(check_updates=True)
                    found[name] = list(told.get(stage.addressing, []))
        except (
            LockError,
            RWLockFileCorruptedError,
            RWLockFileFormatError,
        ) as error:
            if stuck := rwlock.stuck(self.temporary_directory):
                raise UsageError(
                    stuck.what, stuck.where, stuck.why, stuck.next
                ) from error
            what = "DVC is at work here: what is stale can be told when it has finished"
            raise MllamError(
                what, next="mllam-exps status", exit=Exit.UNKNOWN
            ) from error
        return found

    def link_output(self, stage: str, path: str, digest: str) -> None:
        """Have DVC link an output into the workspace, and remember its hash, so that its commit reads nothing.

        Parameters
        ----------
        path : str
            The output, as an absolute path.
        digest : str
            What it holds: an object of the cache.
        """
        from dvc_data.hashfile.hash_info import HashInfo

        for out in self._dvc_stage(stage).outs:
            if out.fs_path == path:
                # DVC (3.67) takes an output that the stage's entry in dvc.lock lacks for
                # one of DVC 2, and looks for it in another cache.
                out.hash_name = "md5"
                out.hash_info, out.obj, out.files = HashInfo("md5", digest), None, None
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                out.checkout(force=True)

    def commit(self, stage: str) -> None:
        """Have DVC take what lies in the workspace for what a stage made, as `dvc commit --force` does.

        Raises
        ------
        MllamError
            If DVC cannot.
        """
        from dvc.exceptions import DvcException

        try:
            self.opened.commit(stage, force=True)
        except DvcException as error:
            raise MllamError(
                "DVC could not take it", stage, first_line(error)
            ) from error

    def _dvc_stage(self, name: str) -> DvcStage:
        for stage in self.opened.index.stages:
            if not stage.is_data_source and _name_of(stage) == name:
                return stage
        raise KeyError(name)


@contextlib.contextmanager
def _told_as_a_user_s(root: Path) -> Iterator[None]:
    """Tell what DVC raises where it reads a repository as what is wrong with the user's files."""
    from dvc.exceptions import NotDvcRepoError
    from dvc.utils.serialize import ParseError

    try:
        yield
    except NotDvcRepoError as error:
        raise UsageError(
            "this is no DVC repository", where=str(root), next="git init; dvc init"
        ) from error
    except ParseError as error:
        raise _unreadable(root, error) from error
    except MllamError:
        raise
    except Exception as error:
        # DVC (3.67) raises TypeError where params.yaml holds a date, say.
        raise UsageError(
            f"DVC cannot read this repository: {error}",
            where=str(root),
            next="dvc status",
        ) from error


def _unreadable(root: Path, error: Any) -> UsageError:
    # DVC (3.67) names the file as it is seen from here.
    path = Path(error.path).resolve()
    name = str(path)
    if path.is_relative_to(root):
        name = path.relative_to(root).as_posix()
    text = ""
    if path.is_file():
        text = path.read_text(encoding="utf-8", errors="replace")
    return unreadable.refusal(name, text, error)


def _is_elsewhere(stage: DvcStage) -> bool:
    return bool(stage.path_in_repo != "dvc.yaml")


def _name_of(stage: DvcStage) -> str:
    """Return a stage's name. DVC's own ``addressing`` (3.67) depends on the current directory."""
    if stage.is_data_source:
        return str(stage.path_in_repo)
    if _is_elsewhere(stage):
        return f"{stage.path_in_repo}:{stage.name}"
    return str(stage.name)


def _entry(stage: DvcStage) -> StageEntry:
    deps: list[Dep] = []
    params: list[ParameterFile] = []
    # What `dvc import` reads lies in another repository.
    for dep in () if stage.is_data_source else stage.deps:
        if dep.hash_name == "params":
            locked = dep.hash_info.value if dep.hash_info else None
            params.append(
                ParameterFile(
                    str(dep.def_path), dep.fs_path, tuple(dep.params), locked or {}
                )
            )
        else:
            # A dataset of dvc.yaml's (`ds://…`, DVC 3.67) lies in no file system.
            deps.append(Dep(str(dep.def_path), dep.fs_path or str(dep.def_path)))
    name = _name_of(stage)
    return StageEntry(
        name=name,
        cmd=_command(name, stage.cmd),
        wdir=os.fspath(stage.wdir),
        deps=tuple(deps),
        params=tuple(params),
        outs=tuple(map(_out, stage.outs)),
        frozen=bool(stage.frozen),
        always_changed=bool(stage.always_changed),
        is_added=bool(stage.is_data_source),
        is_elsewhere=_is_elsewhere(stage),
        # Seen from the current directory (3.67); data that were added have none.
        filled_from=tuple(map(os.path.abspath, getattr(stage, "tracked_vars", ()))),
    )


def _command(stage: str, cmd: Any) -> str | list[str]:
    """Return the command of a stage, or its list of commands.

    Raises
    ------
    UsageError
        If it is none: DVC (3.67) takes any YAML there, and fails when it runs it.
    """
    for one in cmd if isinstance(cmd, list) else [cmd or ""]:
        if not isinstance(one, str) or "\0" in one:
            what = f"its command {one!r} is no text that a shell could run"
            way_out = "put the command into quotes"
            raise UsageError(what, f"dvc.yaml: {stage}", next=way_out)
    return cmd or ""


def _out(out: DvcOutput) -> Out:
    return Out(
        name=str(out.def_path),
        path=out.fs_path,
        cached=bool(out.use_cache),
        persist=bool(out.persist),
        digest=str(out.hash_info.value) if out.hash_info else None,
        size=out.meta.size,
        files=out.meta.nfiles,
        isexec=bool(out.meta.isexec),
        is_of_dvc_2=out.hash_name == "md5-dos2unix",
    )
