"""What experiments need goes to a DVC remote, and comes from there: all of it.

``dvc exp push`` (3.67) says "Pushed" where an experiment knows no remote, and its data
stay behind; what its remotes have it believes a list of its own. Here each object is
looked for in the remote itself, the data go first, and then the experiment.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mllam_exps.base.disks import full_disks
from mllam_exps.base.errors import MllamError, UsageError, first_line, some_of
from mllam_exps.dvc.cache import Cache
from mllam_exps.dvc.repository import Repository
from mllam_exps.dvc.saved.remotes import Remote

Needed = dict[str, str]
"""By object: the output or input that it is a part of."""


class NotCopied(MllamError):
    """What DVC said while data were copied; some of them may be there."""


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
        with self.repository.at(commit) as there:
            # What was imported, too: a colleague may not reach where it came from.
            outs = [
                out
                for out in there.opened.index.outs
                if out.use_cache and out.hash_info and out.can_push
            ]
            found = {one.hash_info.value: str(one.fs_path).lstrip("/") for one in outs}
            old = [one.hash_info.value for one in outs if one.hash_name != "md5"]
        if old:
            # DVC 2 gave other hashes to text, and kept objects elsewhere.
            what = f"{found[old[0]]} has a hash as DVC 2 gave it"
            way_out = "dvc cache migrate --dvc-files, commit, and run it again"
            raise UsageError(what, str(self.repository.root), next=way_out)
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
