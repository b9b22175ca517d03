"""Where the one copy of an output is, from the program's last write to DVC's commit.

1. The program writes to its attempt's ``work/``. The stage's check reads it there.
2. `freezing.freeze` renames it to the attempt's ``outputs/``, makes its files read-only and hashes them, once. From
   here on the run store holds the files.
3. `publish` gives each file a second name, in DVC's cache (a hard link: no bytes are copied; where the cache is on
   another file system it is a copy), and has DVC link the output into the workspace
   from there.
4. DVC commits: it finds every hash in its state and every object in its cache, and copies nothing.

`dvc gc` may remove the second name: the first remains, and publishing again restores
it. A driver or a DVC killed at any point loses nothing: each step can be done again, by
anybody.

Before an output is given to anybody it is compared with what was made
(`hold_to_what_was_made`). A result that is damaged is set aside: it is made again when
it is asked for.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from mllam_exps.base import ownership, records, symlinks
from mllam_exps.base.errors import MllamError
from mllam_exps.dvc.cache import Cache, lay_out
from mllam_exps.dvc.graph import StageEntry
from mllam_exps.dvc.repository import Repository
from mllam_exps.identity.content import (
    Described,
    Difference,
    differences,
    files_of,
    is_quick,
    make_executable,
)
from mllam_exps.identity.definition import PHASE_BEFORE
from mllam_exps.runs import giving, layout
from mllam_exps.runs.attempts import Attempt
from mllam_exps.runs.results import Contents, Read, Result, SetAside
from mllam_exps.runs.store import Run, RunStore

AGAIN = "mllam-exps submit, or dvc exp run, again"
"""What takes an input as it is now, where it was changed; `retry` means what was submitted."""


class Damaged(MllamError):
    """A result that is not any more what was made; it was set aside, where that could be done."""


def spread(run: Run, path: str, target: Path, links: Sequence[str]) -> None:
    """Lay an output out as DVC would: folders of one's own, with files of one's own in them.

    A command may be root, or change a file's mode: what it writes into a hard link is
    written into what everybody shares. So files are copies, unless DVC's own
    ``cache.type`` asks for links.

    Parameters
    ----------
    links : sequence of str
        DVC's ``cache.type``: the ways in which to do that, in the order in which they
        are tried.
    """
    made = result_attempt(run).outputs / path
    described = description(run, path)
    if described is None:
        raise Damaged(f"the result of {run.stage} lacks {path}", str(made), next=AGAIN)
    if described["files"] is not None:
        target.mkdir(parents=True, exist_ok=True)
    for folder in described.get("folders") or ():
        (target / folder).mkdir(parents=True, exist_ok=True)
    plain: dict[Path, Path] = {}
    executable: dict[Path, Path] = {}
    for file, known in files_of(made, described).items():
        place = giving.place_for(file, made, target)
        (executable if known.get("isexec") else plain)[file] = place
    # A hard link cannot be where the file is a colleague's (the kernel protects it) or
    # on another file system. What is executable here is not so in the store.
    ways = list(dict.fromkeys([*links, "copy"]))
    lay_out(list(plain), list(plain.values()), ways)
    lay_out(list(executable), list(executable.values()), ["copy"])
    for place in executable.values():
        make_executable(place)


def description(run: Run, path: str) -> Described | None:
    """Describe an output of a finished run, or a file or folder in one; None where there is none of that path."""
    if run.result is None:
        return None
    return result_attempt(run).manifest.of(as_made(path))


def known_digests(store: RunStore) -> Callable[[str, str], str | None]:
    """Return the function by which a pipeline asks the store for the digest of a finished run's output."""
    return lambda key, path: known_digest(store.run(key), path)


def known_digest(run: Run, path: str) -> str | None:
    """Return the digest of an output of a finished run, or of a file or folder in one; None where there is none."""
    result, path = run.result, as_made(path)
    if result is None:
        return None
    if path in result.outputs:
        return result.outputs[path].digest
    found = description(run, path)
    return str(found["digest"]) if found else None


def as_made(path: str) -> str:
    """Return where an input lay where it was made: what the phase before made lies in a folder of its own."""
    return path.removeprefix(f"{PHASE_BEFORE}/")


def result_attempt(run: Run) -> Attempt:
    """Return the attempt whose outputs are the run's result.

    Raises
    ------
    Damaged
        If there is none any more.
    """
    return Attempt(run, _result(run).attempt)


def _result(run: Run) -> Result:
    result = run.result
    if result is None:
        # Whoever calls has seen one: another process set it aside since.
        what = f"the result of {run.stage} was set aside a moment ago"
        raise Damaged(what, str(run.directory), next=AGAIN)
    return result


def reject(run: Run, attempt: Attempt) -> None:
    """Set a result aside that the scheduler contradicts; its files stay with the attempt."""
    name = layout.result_contradicted(attempt.number)
    run.put_aside_result_of(attempt.number, name)


def damage(
    run: Run,
    *,
    thorough: bool = False,
    tell: Callable[[int], None] = lambda _bytes: None,
) -> Iterator[Difference]:
    """Yield what is wrong with the files of a finished run.

    Parameters
    ----------
    thorough : bool
        Read all files. Otherwise those of large outputs are read only where they were
        touched.
    tell : callable
        Is told the size of each file that was looked at.
    """
    result = _result(run)
    attempt = Attempt(run, result.attempt)
    manifest = attempt.manifest
    for path, output in result.outputs.items():
        described = manifest.by_path.get(path)
        if described is None or described["digest"] != output.digest:
            place = attempt.directory / layout.MANIFEST
            yield Difference(place, f"does not tell what {path} held")
            return
    yield from _links_of_others(attempt, manifest)
    for path, described in manifest.by_path.items():
        files = files_of(attempt.outputs / path, described)
        yield from differences(files, thorough=thorough, frozen=True, tell=tell)


def _links_of_others(attempt: Attempt, manifest: Contents) -> Iterator[Difference]:
    """Yield the first link of a colleague's on the way to an output: it may lead to a file of this user's."""
    places = {attempt.run.directory, attempt.directory.parent, attempt.directory}
    theirs = {} if ownership.is_ours_alone(attempt.directory) else manifest.by_path
    for path, described in theirs.items():
        for file in files_of(attempt.outputs / path, described):
            inside = file.relative_to(attempt.directory)
            places |= {attempt.directory / part for part in (inside, *inside.parents)}
    for place in sorted(places):
        if ownership.is_others_link(place):
            yield Difference(place, "is a link, and nothing behind it counts")
            return


def holds_more(run: Run, path: str) -> bool:
    """Tell whether there are files in an output of a finished run that it did not make."""
    described, place = description(run, path), result_attempt(run).outputs / path
    known = files_of(place, described) if described else {}
    for folder, _, names in os.walk(place):
        # On NFS `.nfs…` is the name of a removed file that somebody still reads.
        for name in names:
            if Path(folder, name) not in known and not name.startswith(".nfs"):
                return True
    return False


def hold_to_what_was_made(
    run: Run, wanted: Callable[[str], str | None] = lambda _path: None
) -> None:
    """Refuse a result that is damaged, or was made from other inputs than are wanted, having set it aside.

    Parameters
    ----------
    wanted : callable
        See `another`.

    Raises
    ------
    Damaged
        Naming the file.
    """
    hold_to_its_inputs(run, wanted)
    result = run.result
    if result is None:
        return
    if giving.lately(known := (str(run.directory), str(result.attempt))):
        return
    if found := list(damage(run)):
        raise set_aside(run, found)
    attempt = result_attempt(run)
    for path, described in attempt.manifest.by_path.items():
        if not is_quick(files_of(attempt.outputs / path, described)):
            giving.note_looked_at(known)


def hold_to_its_inputs(
    run: Run, wanted: Callable[[str], str | None] = lambda _path: None
) -> None:
    """Refuse a result that was made from another input than there is now, having set it aside; no file is read.

    Parameters
    ----------
    wanted : callable
        See `another`.

    Raises
    ------
    Damaged
        Naming the input.
    """
    if stale := made_from_another(run, wanted):
        raise set_aside(run, [stale])


def another(
    read: Mapping[str, Read],
    wanted: Callable[[str], str | None],
    store: Path | None = None,
) -> str | None:
    """Return the first input that is another now than when a result was made from it; None where all are the same.

    A run is known by the keys of its inputs, and not every program makes the same
    twice.

    Parameters
    ----------
    read : mapping
        The inputs of a result, by path.
    wanted : callable
        Returns the digest that whoever asks has for a path; None where they know of
        none.
    store : Path or None
        The run store: what is there counts for an input of which whoever asks knows
        nothing.
    """
    for path, source in read.items():
        # What the phase before made lies in no repository.
        now = wanted(path) if as_made(path) == path else None
        if now is None and store is not None and source.run:
            now = known_digest(RunStore(store).run(source.run), path)
        if now not in {None, source.md5}:
            return path
    return None


def made_from_another(
    run: Run, wanted: Callable[[str], str | None] = lambda _path: None
) -> Difference | None:
    """Tell whether a result was made from another input than is `wanted`, or than the run store has now."""
    result = run.result
    path = another(result.inputs, wanted, run.store) if result else None
    if path is None:
        return None
    return Difference(run.directory, f"was made from another {path} than there is now")


def set_aside(run: Run, found: Sequence[Difference], next: str = "") -> Damaged:
    """Make a damaged result unknown, so that it is made again, and return what to tell; its files stay.

    Parameters
    ----------
    next : str
        What to do, where whoever asks knows it better.
    """
    first, result = found[0], run.result
    where, what = str(first.path), f"the result of {run.stage} {first.what}"
    if len(found) > 1:
        what += f" (and {len(found) - 1} more of its files)"
    if not first.certain or result is None:
        return Damaged(what, where, next="make it readable, or ask its owner to")
    is_stale = first.path == run.directory
    made_here = Attempt(run, result.attempt).directory
    if not (is_stale or first.path.is_relative_to(made_here)):
        # Reading takes minutes: somebody else has set it aside since, and it was made
        # again.
        return Damaged(what, where, next="start it again: it was made again meanwhile")
    number = result.attempt
    aside = SetAside(what if is_stale else f"{where}: {what}", is_stale, result)
    try:
        # First the reason: who is killed behind this has changed nothing that counts.
        place = run.directory / layout.why_set_aside(number)
        records.replace(place, aside.to_record())
        run.put_aside_result_of(number, layout.result_set_aside(number))
    except OSError as error:
        why = f"it cannot be set aside ({error.strerror})"
        way_out = f"have its owner, {_owner(run)}, type mllam-exps verify"
        return Damaged(what, where, why, way_out)
    way_out = next or "start it again: it was set aside, and is made again"
    return Damaged(what, where, next=way_out)


def _owner(run: Run) -> str:
    try:
        return run.directory.owner()
    except (KeyError, OSError):
        return "whoever that is"


def publish(repository: Repository, run: Run, stage: StageEntry) -> None:
    """Put a finished run's outputs into DVC's cache and into the workspace.

    Raises
    ------
    Damaged
        If the store's own files are not what its record says.
    """
    outs = {repository.relative(out.path): out for out in stage.outs}
    cached = {path: out.cached for path, out in outs.items()}
    manifest = hand_over(repository.cache, run, repository.root, cached)
    for path, out in outs.items():
        if out.cached:
            digest = manifest[path]["digest"]
            repository.link_output(stage.name, out.path, digest)


def hand_over(
    cache: Cache, run: Run, root: Path, outs: Mapping[str, bool]
) -> dict[str, Described]:
    """Put a finished run's outputs into DVC's cache, and what git keeps into the workspace.

    Parameters
    ----------
    outs : mapping
        By path, seen from the workspace's root: whether DVC's cache holds it, else git
        does.

    Returns
    -------
    dict
        What is known of each output, by path: its digest, size and files.

    Raises
    ------
    Damaged
        If the store's own files are not what its record says.
    """
    hold_to_what_was_made(run)
    manifest = dict(result_attempt(run).manifest.by_path)
    into_cache(cache, run, {path: manifest[path] for path in outs if outs[path]})
    for path in [path for path, cached in outs.items() if not cached]:
        top = symlinks.top_of(root)
        place = symlinks.clear(top, root / path, as_far_as_possible=True)
        with _setting_aside(run) as directory:
            giving.copy(directory, path, manifest[path], place)
    return manifest


def bring_back(cache: Cache, run: Run) -> bool:
    """Give DVC's cache again what it has lost of a finished run; tell whether that was anything.

    ``dvc gc --workspace`` takes what experiments have, unless it is told to leave it.

    Raises
    ------
    Damaged
        If the store's own files are not what its record says.
    """
    definition = run.definition
    lost: dict[str, Described] = {}
    for output in definition.outputs if definition else ():
        described = description(run, output.path) if output.cached else None
        if described and not cache.holds_all(str(described["digest"])):
            lost[output.path] = described
    if lost:
        hold_to_what_was_made(run)
        into_cache(cache, run, lost)
    return bool(lost)


def into_cache(cache: Cache, run: Run, described: Mapping[str, Described]) -> None:
    """Give every file of some outputs its second name, in DVC's cache; what is damaged there is replaced.

    Parameters
    ----------
    described : mapping
        The outputs, or files and folders in them, by path.

    Raises
    ------
    Damaged
        If a colleague's file is not what their record says: who may write to a folder
        of the team can change a file, or put a link to another one in its place, after
        it was looked at. So what is theirs is copied, and compared while it is.
    """
    with _setting_aside(run) as directory:
        giving.add_to_cache(cache, directory, described)


@contextlib.contextmanager
def _setting_aside(run: Run) -> Iterator[Path]:
    """Give the directory of the attempt that made a result, which is set aside where a file of it is another."""
    directory = result_attempt(run).directory
    try:
        yield directory
    except giving.Another as another:
        found = Difference(directory / another.inside, giving.CHANGED)
        raise set_aside(run, [found]) from None


def to_make_again(run: Run) -> str:
    """Return the command that makes a known result again."""
    # Stages with commands of their own are run by DVC, and by submitted jobs.
    definition = run.definition
    command = "submit" if definition and definition.commands else "run"
    return f"mllam-exps {command} {shlex.quote(run.stage)} --force makes it again"
