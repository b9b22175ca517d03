"""DVC's cache, for jobs that do not start DVC: its library that keeps files by their hashes is enough for them."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mllam_exps.base import ownership, records
from mllam_exps.base.disks import full_disks
from mllam_exps.base.errors import MllamError
from mllam_exps.base.shapes import list_of, of_shape
from mllam_exps.identity.content import (
    Difference,
    differences,
    digest_of_folder,
    is_quick,
    make_executable,
    part_of,
)
from mllam_exps.identity.listings import LISTED


@dataclass(frozen=True)
class Cache:
    """A cache on this host's file systems.

    Parameters
    ----------
    directory : str
        What `dvc cache dir` says.
    shared : str
        ``group`` where `dvc config cache.shared` says so: others of the group may write
        there.
    opened : dvc_data.hashfile.db.HashFileDB, optional
        DVC's own object for it, where there is one.
    """

    directory: str
    shared: str = ""
    opened: Any = field(default=None, compare=False, repr=False)

    def path(self, digest: str) -> Path:
        """Return where DVC (3.67) keeps an object."""
        return Path(self.directory, "files", "md5", digest[:2], digest[2:])

    def holds(self, digest: str) -> bool:
        """Tell whether it has an object."""
        # False, and no error, where a colleague has closed the folder: it is of no use.
        return os.path.exists(self.path(digest))  # noqa: PTH110 - as the comment says

    def holds_all(self, digest: str) -> bool:
        """Tell whether it has a file, or all of a folder."""
        if not self.holds(digest):
            return False
        if not digest.endswith(".dir"):
            return True
        listed = self.folder(digest)
        return listed is not None and all(self.holds(file["md5"]) for file in listed)

    def is_sound(self, digest: str) -> bool:
        """Tell whether it has a file, or all of a folder, undamaged as far as that is quickly read."""
        if digest.endswith(".dir") and self.folder(digest) is None:
            return False
        sizes: dict[str, int | None] = {}
        for one in self.objects(digest):
            try:
                sizes[one] = self.path(one).stat().st_size
            except OSError:
                return False
        if not is_quick(
            {self.path(one): {"size": size} for one, size in sizes.items()}
        ):
            return True
        return not any(one.certain for one in self.damage(sizes))

    def folder(self, digest: str) -> list[dict[str, Any]] | None:
        """Return the files of a folder, as the cache lists them: ``md5`` and ``relpath``; None where it does not."""
        try:
            # Others may write there: a pipe would be waited for.
            listed = json.loads(records.read_own_bytes(self.path(digest)))
        except (OSError, ValueError, RecursionError):
            return None
        # Who may write to the cache may name files anywhere in a list.
        return listed if list_of(of_shape(LISTED))(listed) else None

    def describe(self, digest: str) -> dict[str, Any]:
        """Describe a file or folder that it holds all of."""
        if not digest.endswith(".dir"):
            return {
                "digest": digest,
                "size": self.path(digest).stat().st_size,
                "files": None,
            }
        files = [
            file | {"size": self.path(file["md5"]).stat().st_size}
            for file in self.folder(digest) or []
        ]
        return {
            "digest": digest,
            "size": sum(file["size"] for file in files),
            "files": files,
        }

    def part(self, whole: str, inside: str) -> dict[str, Any] | None:
        """Describe a file or folder inside a folder that it holds all of, with the number of its files; else None.

        Parameters
        ----------
        whole : str
            The folder's digest.
        inside : str
            The part, seen from the folder.
        """
        if not whole.endswith(".dir") or not self.holds(whole):
            return None
        try:
            found = part_of(self.describe(whole), inside)
        except OSError:
            return None
        if found is None or found["files"] is None:
            return found
        digest, listing = digest_of_folder(found["files"])
        # DVC lists whole outputs only. With a list of its own the part can be checked
        # out as any other folder.
        if not self.holds(digest):
            self.add_content(digest, listing)
        return found | {"files": len(found["files"])}

    def objects(self, digest: str) -> dict[str, int | None]:
        """Return the objects of a file, or of a folder and all files in it, with their sizes where these are known."""
        files = (self.folder(digest) or []) if digest.endswith(".dir") else []
        return dict.fromkeys([digest, *(file["md5"] for file in files)])

    def damage(
        self,
        sizes: Mapping[str, int | None],
        *,
        thorough: bool = False,
        tell: Callable[[int], None] = lambda _bytes: None,
    ) -> Iterator[Difference]:
        """Yield the objects that are not what their names say; DVC (3.67) never reads one again that is read-only.

        Parameters
        ----------
        sizes : mapping
            By digest: the size, where it is known.
        thorough, tell
            As for `content.differences`.
        """
        # The name of a folder's object is the hash of its content, too.
        held = {
            self.path(digest): {"md5": digest.removesuffix(".dir"), "size": size}
            for digest, size in sizes.items()
            if self.holds(digest)
        }
        for place in held:
            if ownership.is_others_link(place):
                yield Difference(place, "is a link, and nothing behind it counts")
        yield from differences(held, thorough=thorough, frozen=True, tell=tell)

    def drop_damaged(self, sizes: Mapping[str, int | None]) -> list[Difference]:
        """Remove objects that are not what their names say, as DVC does where it notices; return what was removed.

        Raises
        ------
        MllamError
            If one cannot be removed.
        """
        found = [one for one in self.damage(sizes) if one.certain]
        for one in found:
            try:
                one.path.unlink(missing_ok=True)
            except OSError as error:
                what, why = (
                    f"this object of DVC's cache {one.what}",
                    f"and cannot be removed ({error.strerror})",
                )
                way_out = f"have its owner, {ownership.owner_of(one.path)}, remove it"
                raise MllamError(what, str(one.path), why, way_out) from error
        return found

    def hold_to_its_name(self, digest: str, path: str) -> None:
        """Refuse a file or folder of which an object is damaged, having removed that.

        Parameters
        ----------
        path : str
            What it is an input or output of, for people.

        Raises
        ------
        MllamError
            Naming the object.
        """
        # First the list of a folder's files: it names the others.
        found = self.drop_damaged({digest: None}) or self.drop_damaged(
            self.objects(digest)
        )
        if found:
            what = f"{path} is damaged in DVC's cache: an object {found[0].what}, and was removed"
            way_out = "dvc pull, or start it again: what a stage makes is made again"
            raise MllamError(what, str(found[0].path), next=way_out)

    def copy(self, digest: str, target: Path, *, isexec: bool = False) -> None:
        """Copy a file, which may be executed if `isexec` says so, or a folder, to where it is not yet."""
        target.parent.mkdir(parents=True, exist_ok=True)
        if not digest.endswith(".dir"):
            shutil.copyfile(self.path(digest), target)
            if isexec:
                make_executable(target)
            return
        target.mkdir()
        for file in self.folder(digest) or []:
            place = target / file["relpath"]
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.path(file["md5"]), place)

    def check_out(self, digest: str, target: Path, *, isexec: bool = False) -> bool:
        """Link a file or folder to `target`, as DVC's ``cache.type`` asks; False where the cache lacks any of it.

        Parameters
        ----------
        isexec : bool
            Whether it is a file that may be executed: it is a copy then, as a link has
            the mode of what everybody shares.

        Raises
        ------
        MllamError
            If something in it is damaged.
        OSError
            If there is no room for a copy, where links are impossible.
        """
        from dvc_data.hashfile import load
        from dvc_data.hashfile.checkout import CheckoutError, LinkError, checkout
        from dvc_data.hashfile.hash_info import HashInfo
        from dvc_objects.errors import ObjectFormatError
        from dvc_objects.fs.local import localfs

        self.hold_to_its_name(digest, target.name)
        if isexec and self.holds(digest):
            self.copy(digest, target, isexec=True)
            return True
        try:
            obj = load(self._objects, HashInfo("md5", digest))
            target.parent.mkdir(parents=True, exist_ok=True)
            checkout(str(target), localfs, obj, self._objects, force=True)
        except (FileNotFoundError, ObjectFormatError, CheckoutError):
            return False
        except LinkError as error:
            # It says "No possible cache link types for '{path}'." (3.67), whatever the
            # reason.
            if isinstance(error.__cause__, OSError):
                raise error.__cause__ from None
            if full_disks([target.parent]):
                # Not even the link with which it looks what is possible could be made.
                code = errno.ENOSPC
                raise OSError(code, os.strerror(code), str(target)) from None
            raise OSError(str(error)) from None
        return True

    @contextlib.contextmanager
    def building_site(self) -> Iterator[Path]:
        """Make a folder on its file system for this user alone; what is left there at the end is removed."""
        Path(self.directory).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=self.directory) as made:
            yield Path(made)

    def add(self, files: Mapping[str, Path]) -> None:
        """Give files, by their hashes, a second name in it; they are copied where that is another file system."""
        # They were compared with what was made a moment ago: no need to read them all
        # again.
        self._bring(files, ["reflink", "hardlink", "copy"])

    def copy_in(self, digest: str, file: Path) -> None:
        """Add a copy of a file that stays its owner's."""
        self._bring({digest: file}, ["reflink", "copy"])

    def _bring(self, files: Mapping[str, Path], ways: Sequence[str]) -> None:
        """Lay files out under names of their own, and rename them to their objects.

        DVC's own `add` (dvc-objects 5.1) looks whether an object is there, and then tries
        a reflink, for which it opens the object's name with O_TRUNC. Where another
        process has just made that a second name of the same file, a user who may write
        to it (root) empties the file, and with it the result that it came from.
        """
        missing = {one: file for one, file in files.items() if not self.holds(one)}
        for digest in missing:
            self._objects._init(digest[:2])
        beside = {one: self.path(one).with_name(temporary()) for one in missing}
        try:
            lay_out(list(missing.values()), list(beside.values()), ways)
            for digest, place in beside.items():
                self._objects.protect(str(place))
                place.replace(self.path(digest))
            self._remember(files)
        finally:
            # Two names of one file are left as they are by a rename, too.
            for place in beside.values():
                place.unlink(missing_ok=True)

    def _remember(self, digests: Iterable[str]) -> None:
        """Tell DVC the hashes of objects, so that it reads none of them again."""
        from dvc_data.hashfile.hash_info import HashInfo
        from dvc_objects.fs.local import localfs

        known = [(str(self.path(one)), HashInfo("md5", one), None) for one in digests]
        self._objects.state.save_many(known, localfs)

    def add_content(self, digest: str, content: bytes) -> None:
        """Add a small object: the one that stands for a folder, say."""
        self._objects.add_bytes(digest, content)
        self._objects.protect(str(self.path(digest)))

    @cached_property
    def _objects(self) -> Any:
        if self.opened is not None:
            return self.opened
        from dvc_data.hashfile.db import get_odb
        from dvc_objects.fs.local import localfs

        place = str(Path(self.directory, "files", "md5"))
        return get_odb(localfs, place, shared=self.shared or None)


def temporary() -> str:
    """Return a name that no object has, and no other process gives."""
    return f".{uuid.uuid4().hex}.tmp"


def lay_out(
    sources: Sequence[Path], places: Sequence[Path], ways: Sequence[str]
) -> None:
    """Lay files out as DVC does: each at its place, in the first of the ways that is possible there.

    Parameters
    ----------
    ways : sequence of str
        Some of ``reflink``, ``hardlink``, ``symlink``, ``copy``.
    """
    from dvc_objects.fs.generic import transfer
    from dvc_objects.fs.local import localfs

    starts, ends = [str(path) for path in sources], [str(path) for path in places]
    transfer(localfs, starts, localfs, ends, links=list(ways))
