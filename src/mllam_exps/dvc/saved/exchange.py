"""Experiments go to another git repository and a DVC remote, and come from there, with all that they need.

``dvc exp push`` (3.67) says "Pushed" where an experiment knows no remote, and its data
stay behind; what its remotes have it believes a list of its own. Here each object is
looked for in the remote itself, the data go first, and then the experiment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mllam_exps.base.disks import full_disks
from mllam_exps.base.errors import MllamError, UsageError, first_line, nearest, some_of
from mllam_exps.base.git import git, run_git
from mllam_exps.dvc.cache import Cache
from mllam_exps.dvc.repository import Repository
from mllam_exps.dvc.saved.experiment_refs import Saved, is_experiment, saved

AT_ONCE = 16
"""Objects that are looked for at a time: a remote far away answers slowly, and many questions at once."""

Needed = dict[str, str]
"""By object: the output or input that it is a part of."""


class NotCopied(MllamError):
    """What DVC said while data were copied; some of them may be there."""


@dataclass(frozen=True)
class Remote:
    """A DVC remote.

    Parameters
    ----------
    name : str
        In DVC's settings.
    opened : dvc_data.hashfile.db.HashFileDB
        DVC's own object for it.
    """

    name: str
    opened: Any = field(compare=False, repr=False)

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return str(self.opened.fs.unstrip_protocol(self.opened.path))

    def lacks(self, sizes: Mapping[str, int | None]) -> set[str]:
        """Return the objects that it has not, or not whole: each one is looked for.

        Parameters
        ----------
        sizes : mapping
            By object: its size in bytes, where that is known.
        """
        found = self._found(sizes)
        return {
            digest
            for digest, size in sizes.items()
            if found[digest] is None or size not in {None, found[digest]}
        }

    def remove_cut_off(self, sizes: Mapping[str, int | None]) -> None:
        """Remove the objects that have another size: DVC takes what is there for good."""
        found = self._found(sizes)
        for digest, size in sizes.items():
            if None not in {size, found[digest]} and size != found[digest]:
                self.opened.delete(digest)

    def _found(self, digests: Iterable[str]) -> dict[str, int | None]:
        """Return the sizes of what it has; None of what it lacks."""
        wanted = list(digests)
        try:
            with ThreadPoolExecutor(AT_ONCE, "look") as pool:
                return dict(zip(wanted, pool.map(self._size, wanted), strict=True))
        except Exception as error:
            # Each kind of remote has errors of its own.
            what, way_out = "the remote cannot be looked into", "mllam-exps doctor"
            raise MllamError(what, self.place, first_line(error), way_out) from error

    def _size(self, digest: str) -> int | None:
        path = self.opened.oid_to_path(digest)
        try:
            return int(self.opened.fs.info(path)["size"])
        except FileNotFoundError:
            return None


@dataclass(frozen=True)
class Exchange:
    """A repository, and the DVC remote with which it exchanges experiments.

    Parameters
    ----------
    repository, remote
        Where the experiments are, and where their data go to and come from.
    """

    repository: Repository
    remote: Remote

    @property
    def cache(self) -> Cache:
        """DVC's cache."""
        return self.repository.cache

    def needed(self, commit: str) -> Needed:
        """Return the files and folders that an experiment needs of a cache, as DVC itself reads its commit.

        Raises
        ------
        UsageError
            If one of them lies where DVC 2 kept it.
        """
        from dvc.repo.brancher import switch

        repo = self.repository.opened
        with switch(repo, commit):
            # What was imported, too: a colleague may not reach where it came from.
            outs = [
                out
                for out in repo.index.outs
                if out.use_cache and out.hash_info and out.can_push
            ]
            found = {one.hash_info.value: str(one.fs_path).lstrip("/") for one in outs}
            old = [one.hash_info.value for one in outs if one.hash_name != "md5"]
        if old:
            # DVC 2 gave other hashes to text, and kept objects elsewhere.
            what = f"{found[old[0]]} has a hash as DVC 2 gave it"
            way_out = "dvc cache migrate --dvc-files, commit, and run it again"
            raise UsageError(what, str(repo.root_dir), next=way_out)
        return found

    def parts(self, needed: Needed) -> Needed:
        """Return all objects of files and folders, as far as the cache knows what is in a folder."""
        found: Needed = {}
        for digest, output in needed.items():
            found |= dict.fromkeys(self.cache.objects(digest), output)
        return found

    def sizes(self, objects: Iterable[str]) -> dict[str, int | None]:
        """Return the sizes of objects, in bytes, as the cache has them."""
        found: dict[str, int | None] = {}
        for digest in objects:
            path = self.cache.path(digest)
            found[digest] = path.stat().st_size if path.exists() else None
        return found

    def send(self, name: str, needed: Needed) -> int:
        """Bring to the remote what it lacks; return how many objects that were.

        Raises
        ------
        MllamError
            If neither here nor there is all of it, or something here is damaged: then
            nothing was sent; or if the remote lacks any of it afterwards.
        """
        self._bring_lists(needed)
        objects = self.parts(needed)
        lacks = self.remote.lacks(sizes := self.sizes(objects))
        self._refuse_what_is_nowhere(name, {one: objects[one] for one in lacks})
        try:
            self.remote.remove_cut_off({one: sizes[one] for one in lacks})
        except OSError as error:
            what, why = "an object there is cut off", first_line(error)
            way_out = "have its owner remove it"
            raise MllamError(what, self.remote.place, why, way_out) from error
        if lacks:
            self._move(self.repository.opened.cache.local, self.remote.opened, lacks)
            self.hold_to(name, needed)
        return len(lacks)

    def fetch(self, name: str, needed: Needed) -> int:
        """Bring to the cache what it lacks; return how many objects that were.

        Raises
        ------
        MllamError
            If the remote has not all of it; what it has is here then.
        """
        fetched, why = 0, ""
        try:
            fetched = self._bring_lists(needed)
            lacks = {one for one in self.parts(needed) if not self.cache.holds(one)}
            there = lacks - self.remote.lacks(dict.fromkeys(lacks))
            cache = self.repository.opened.cache.local
            self._move(self.remote.opened, cache, there, verify=True)
            fetched += len(there)
        except NotCopied as error:
            # A list that is cut off there cannot be read, say.
            why = error.why
        gone = {o for d, o in needed.items() if not self.cache.holds_all(d)}
        if gone:
            what = f"{name}: the remote has not all of {some_of(sorted(gone))}"
            way_out = f"have whoever made it type: mllam-exps push {name}"
            raise MllamError(what, self.remote.place, why, way_out)
        return fetched

    def hold_to(self, name: str, needed: Needed) -> None:
        """Refuse a remote that lacks any of it.

        Raises
        ------
        MllamError
            Naming the outputs.
        """
        self._bring_lists(needed)
        objects = self.parts(needed)
        lacks = self.remote.lacks(self.sizes(objects))
        if lacks:
            outputs = {objects[one] for one in lacks}
            what = f"{name}: the remote lacks {len(lacks)} of {len(objects)} objects, of {some_of(sorted(outputs))}"
            raise MllamError(what, self.remote.place, next=f"mllam-exps push {name}")

    def _bring_lists(self, needed: Needed) -> int:
        """Bring the lists of folders that the cache lacks: these say what is in them; return how many."""
        lists = dict.fromkeys(one for one in needed if one.endswith(".dir"))
        self.cache.drop_damaged(lists)
        lacks = {one for one in lists if not self.cache.holds(one)}
        there = lacks - self.remote.lacks(dict.fromkeys(lacks))
        cache = self.repository.opened.cache.local
        self._move(self.remote.opened, cache, there, verify=True)
        return len(there)

    def _refuse_what_is_nowhere(self, name: str, lacks: Needed) -> None:
        again = f"dvc exp apply {name}, then dvc repro: it is made again"
        gone = {
            output for digest, output in lacks.items() if not self.cache.holds(digest)
        }
        if gone:
            what = f"{name}: neither DVC's cache nor the remote has all of {some_of(sorted(gone))}"
            raise UsageError(what, self.cache.directory, next=again)
        if damaged := self.cache.drop_damaged(self.sizes(lacks)):
            path = damaged[0].path
            output = lacks[path.parent.name + path.name]
            what = f"{name}: {output} is damaged in DVC's cache: an object {damaged[0].what}, and was removed"
            raise UsageError(what, str(path), next=again)

    @staticmethod
    def _move(
        source: Any, target: Any, objects: Iterable[str], *, verify: bool = False
    ) -> None:
        from dvc.fs import LocalFileSystem
        from dvc.fs.callbacks import TqdmCallback
        from dvc_data.hashfile.hash_info import HashInfo
        from dvc_data.hashfile.transfer import transfer

        wanted = [HashInfo("md5", digest) for digest in sorted(objects)]
        if not wanted:
            return
        where = target.fs.unstrip_protocol(target.path)
        try:
            with TqdmCallback(desc=f"To {where}", unit="file") as callback:
                # Without DVC's list of what a remote has: it may be out of date.
                done = transfer(
                    source,
                    target,
                    wanted,
                    verify=verify,
                    shallow=True,
                    callback=callback,
                )
        except Exception as error:
            # Each kind of remote has errors of its own.
            raise NotCopied(
                "not all data could be copied",
                where,
                first_line(error),
                "say it again: what is there is not copied twice",
            ) from error
        # DVC (3.67) prints for each object that failed why it did.
        is_local = isinstance(target.fs, LocalFileSystem)
        full = full_disks([target.path]) if done.failed and is_local else ""
        if full:
            what = f"{len(done.failed)} of {len(wanted)} objects could not be copied"
            why = f"the disk is full: {full}"
            raise MllamError(what, where, why, "make room there, and say it again")


def remote_of(repository: Repository, name: str, place: str) -> Remote:
    """Return a DVC remote.

    Parameters
    ----------
    name : str
        As DVC's settings have it; else the one at the place, or DVC's default.
    place : str
        Where the experiments go to, if that is a folder.

    Raises
    ------
    UsageError
        If there is none.
    """
    remotes: Mapping[str, Any] = repository.settings("remote")
    at_place = [
        one
        for one, its in remotes.items()
        if place and _is_same(str(its.get("url")), place)
    ]
    name = name or next(iter(at_place), "")
    try:
        opened = repository.opened.cloud.get_remote(name or None)
    except Exception as error:
        # DVC's settings, and each kind of remote, have errors of their own.
        raise UsageError(
            "no DVC remote to exchange data with",
            str(repository.root),
            first_line(error),
            "mllam-exps share join PATH, or dvc remote add --local -d NAME URL",
        ) from error
    return Remote(opened.name, opened.odb)


def _is_same(url: str, place: str) -> bool:
    return url == place or Path(url).resolve() == Path(place).resolve()


def in_git(root: Path, git_remote: str) -> list[Saved]:
    """Return the experiments that a git remote has.

    Raises
    ------
    UsageError
        If it does not answer.
    """
    done = run_git(root, "ls-remote", git_remote, "refs/exps/*")
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or [""])[0]
        what = "this git repository does not answer"
        raise UsageError(what, git_remote, why, "git remote -v")
    found = []
    for line in done.stdout.splitlines():
        commit, _, ref = line.partition("\t")
        if is_experiment(ref):
            found.append(Saved(ref, commit, ref.rpartition("/")[2], 0.0))
    return found


def send_ref(root: Path, git_remote: str, one: Saved, *, force: bool) -> bool:
    """Bring an experiment's commit to a git remote, and see that it is there; tell whether it was not there before.

    Raises
    ------
    UsageError
        If another one has its name there, or git says no.
    """
    there = {each.ref: each.commit for each in in_git(root, git_remote)}
    if there.get(one.ref) == one.commit:
        return False
    if one.ref in there and not force:
        raise _another(one, git_remote)
    git(
        root,
        "push",
        *(["--force"] if force else []),
        git_remote,
        f"{one.ref}:{one.ref}",
    )
    if one.commit not in {each.commit for each in in_git(root, git_remote)}:
        raise MllamError(f"{one.name} was pushed, and is not there", git_remote)
    return True


def fetch_ref(root: Path, git_remote: str, one: Saved, *, force: bool) -> bool:
    """Bring an experiment's commit from a git remote; tell whether it was not here before.

    Raises
    ------
    UsageError
        If another one has its name here, or git says no.
    """
    here = {each.ref: each.commit for each in saved(root)}
    if here.get(one.ref) == one.commit:
        return False
    if one.ref in here and not force:
        raise _another(one, "this repository")
    git(root, "fetch", "--no-tags", git_remote, f"+{one.ref}:{one.ref}")
    return True


def _another(one: Saved, where: str) -> UsageError:
    what = (
        f"{one.name}: another experiment of that name, of the same baseline, is there"
    )
    way_out = f"--force replaces it; or dvc exp rename {one.name} NEW"
    return UsageError(what, where, next=way_out)


def called(names: Iterable[str], found: list[Saved], where: str) -> list[Saved]:
    """Return those of the experiments that were found that have these names.

    Parameters
    ----------
    where : str
        Where they were found, for people.

    Raises
    ------
    UsageError
        If there is none of a name.
    """
    wanted = []
    for name in dict.fromkeys(names):
        fitting = [one for one in found if one.name == name]
        if not fitting:
            near = nearest(name, [one.name for one in found])
            way_out = f"did you mean {near}?" if near else "dvc exp list -A"
            raise UsageError(f"no experiment {name} is {where}", next=way_out)
        wanted += fitting
    return wanted
