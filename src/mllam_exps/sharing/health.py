"""What would stop a member of a team, found before the first job: git, places, locks, tracking, secrets, jobs."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path

from mllam_exps import stages
from mllam_exps.base import disks
from mllam_exps.base.errors import MllamError, Problems
from mllam_exps.base.git import ask_git
from mllam_exps.base.ownership import user_name
from mllam_exps.dvc import rwlock
from mllam_exps.dvc.repository import Repository
from mllam_exps.machines import environment
from mllam_exps.machines.machine_files import Machine
from mllam_exps.machines.workspace import Workspace
from mllam_exps.preflight import checks
from mllam_exps.runs.locks import lock
from mllam_exps.runs.store import RunStore
from mllam_exps.sharing import inspection
from mllam_exps.sharing.share import of_cache
from mllam_exps.stages import tracking

LITTLE_ROOM = 0.02
"""The part of a disk below which it will soon be full."""
LOOKED_AT = 1000
"""Files of a share that are looked at: `mllam-exps share check` looks at all."""
SECRETS = (".netrc", ".mlflow/credentials", ".pgpass", ".git-credentials")
"""Files in one's home that hold passwords of tracking servers and of git."""


class State(StrEnum):
    """How something stands."""

    FINE = "fine"
    NOTE = "note"
    WRONG = "wrong"


@dataclass(frozen=True)
class Sign:
    """One thing that was looked at.

    Parameters
    ----------
    topic : str
        What it concerns, in a word or two.
    state : State
        How it stands.
    what : str
        In a sentence.
    next : str
        What to type; empty where nothing has to be.
    """

    topic: str
    state: State
    what: str
    next: str = ""


def signs(
    workspace: Workspace, machine: Machine, repository: Repository
) -> Iterator[Sign]:
    """Look at everything, one after the other; what is wrong with one does not keep the others from being looked at."""
    store = workspace.store_directory(machine, repository.cache_directory)
    yield _identity(workspace.root)
    yield _asked("environment", lambda: _environment(workspace, machine))
    for name, place in (("cache", repository.cache_directory), ("run store", store)):
        yield _place(name, place)
        yield _room(name, place)
    yield _locks(RunStore(store))
    if stuck := rwlock.stuck(repository.temporary_directory):
        yield Sign("locks", State.WRONG, stuck.sentence, stuck.next)
    yield from _share(repository.cache_directory)
    yield from _remotes(repository)
    yield _asked("tracking", lambda: _tracking(workspace, machine))
    yield from _secrets(Path.home(), workspace.origin)
    yield _asked("jobs", lambda: _jobs(workspace, machine))


def _asked(topic: str, ask: Callable[[], Sign]) -> Sign:
    """Return what a look says; what it raises is what is wrong."""
    try:
        return ask()
    except Problems as several:
        first = several.problems[0].problem
        return Sign(topic, State.WRONG, first.sentence, first.next)
    except MllamError as error:
        return Sign(topic, State.WRONG, error.problem.sentence, error.problem.next)
    except OSError as error:
        return Sign(topic, State.WRONG, str(error))


def _identity(root: Path) -> Sign:
    name, mail = (ask_git(root, "config", one) for one in ("user.name", "user.email"))
    if name and mail:
        return Sign("git", State.FINE, f"commits are by {name} <{mail}>")
    key = "user.email" if name else "user.name"
    what = f"{key} is not set: no experiment can be saved"
    return Sign("git", State.WRONG, what, f"git config --global {key} …")


def _environment(workspace: Workspace, machine: Machine) -> Sign:
    checks.check_environment(machine, workspace.origin)
    _, problems = checks.versions_text(workspace, machine)
    where = f"machine {machine.name}, programs in {machine.programs}"
    if problems:
        return Sign("environment", State.WRONG, f"{where}: {problems[0]}")
    return Sign("environment", State.FINE, where)


def _place(name: str, place: Path) -> Sign:
    """Try whether a folder, or the one above that it will be made in, can be written to."""
    there = next(one for one in (place, *place.parents) if one.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            return Sign(name, State.FINE, f"{place} can be written to")
    except OSError as error:
        owner = user_name(there.stat().st_uid)
        what = f"{there}, {owner}'s, cannot be written to ({error.strerror})"
        return Sign(name, State.WRONG, what, "mllam-exps share check")


def _room(name: str, place: Path) -> Sign:
    mounted = disks.mount(place)
    free, told = os.statvfs(mounted), disks.disk(place)
    parts = {
        "room": (free.f_bavail, free.f_blocks),
        "files": (free.f_favail, free.f_files),
    }
    for what, (left, of) in parts.items():
        # Some file systems count no files.
        if of and left < LITTLE_ROOM * of:
            few = f"hardly any {what} left: {told}"
            return Sign(f"{name}: disk", State.NOTE, few, "mllam-exps clean; dvc gc")
    return Sign(f"{name}: disk", State.FINE, told)


def _locks(store: RunStore) -> Sign:
    """Try whether a lock that this process holds keeps another one out."""
    topic = "locks"
    try:
        with lock(store, "doctor") as mine:
            if mine is None:
                return Sign(
                    topic, State.FINE, "another doctor is at work, and is heard of"
                )
            theirs = subprocess.run(
                [sys.executable, "-P", "-m", __name__, str(store.directory)],
                capture_output=True,
                text=True,
                check=False,
            )
    except OSError as error:
        return Sign(topic, State.WRONG, str(error), "mllam-exps share check")
    if theirs.stdout.strip() == "kept out":
        return Sign(topic, State.FINE, "a lock of one process keeps others out")
    what = f"the file system of {store.directory} has no locks that work: two processes may submit the same"
    way_out = (
        "mount it with them (Lustre: flock), or paths.run_store in the machine file"
    )
    return Sign(topic, State.WRONG, what, way_out)


def _share(cache: Path) -> Iterator[Sign]:
    if (share := of_cache(cache)) is None:
        return
    found = list(islice(inspection.findings(share), LOOKED_AT))
    if found:
        what = f"{found[0].path} {found[0].what}" + (
            f", and {len(found) - 1} more" if found[1:] else ""
        )
        way_out = "mllam-exps share check --fix"
        if not any(one.is_mine for one in found):
            place = shlex.quote(str(share.directory))
            way_out = f"ask {found[0].owner_name} to type: {way_out} {place}"
        yield Sign("share", State.WRONG, what, way_out)
    else:
        what = f"{share.directory} is the group's ({share.group_name})"
        yield Sign("share", State.FINE, what)


def _remotes(repository: Repository) -> Iterator[Sign]:
    """Look at DVC's default remote; one that is far away is not asked."""
    name = repository.settings("core").get("remote")
    if not name:
        what = "DVC has no default remote: experiments cannot be pushed"
        yield Sign("remote", State.NOTE, what, "mllam-exps share join PATH")
        return
    url = str(repository.settings("remote").get(name, {}).get("url", ""))
    if "://" in url or not url:
        yield Sign(
            "remote",
            State.NOTE,
            f"{name} is far away, and was not asked",
            "dvc status -c",
        )
    elif not Path(url).is_dir():
        what = f"{name}: there is no folder {url}"
        yield Sign(
            "remote", State.WRONG, what, f"dvc remote modify --local {name} url PATH"
        )
    else:
        yield _place(f"remote {name}", Path(url))


def _tracking(workspace: Workspace, machine: Machine) -> Sign:
    variables: Mapping[str, str] = {**os.environ, **environment.variables(machine)}
    uri = tracking.environment(workspace.origin, variables)[tracking.URI]
    if why := tracking.reachable(uri):
        what = f"{why}; what runs log is kept, and sent by mllam-exps track sync"
        return Sign("tracking", State.NOTE, what, f"export {tracking.URI}=…")
    who = variables.get("MLFLOW_TRACKING_USERNAME", "")
    as_whom = f", as {who}" if who else ""
    return Sign("tracking", State.FINE, f"{tracking.public(uri)} answers{as_whom}")


def _secrets(home: Path, origin: Path) -> Iterator[Sign]:
    """Look who may read what holds passwords; what stands there is not read."""
    places = [home / name for name in SECRETS]
    places.append(origin / ".dvc" / "config.local")
    open_to_others = []
    for place in places:
        try:
            mode = place.stat().st_mode
        except OSError:
            continue
        may_read = stat.S_IROTH if place.name == "config.local" else 0o077
        if mode & may_read and _holds_a_secret(place):
            open_to_others.append(place)
    for place in open_to_others:
        yield Sign(
            "secrets",
            State.WRONG,
            f"others may read {place}",
            f"chmod 600 {shlex.quote(str(place))}",
        )
    if not open_to_others:
        yield Sign("secrets", State.FINE, "nobody else may read a file with passwords")


def _holds_a_secret(place: Path) -> bool:
    """Tell whether a file of DVC's settings has a password; the others are there for nothing else."""
    if place.name != "config.local":
        return True
    words = ("password", "secret", "token", "connection_string", "account_key")
    return any(word in place.read_text(errors="replace") for word in words)


def _jobs(workspace: Workspace, machine: Machine) -> Sign:
    notes = checks.check_jobs(workspace, machine)
    if notes:
        more = f" (and {len(notes) - 1} more)" if notes[1:] else ""
        return Sign("jobs", State.NOTE, f"{notes[0]}{more}", "mllam-exps check")
    names = ", ".join(stages.used(workspace.root))
    return Sign(
        "jobs",
        State.FINE,
        f"{machine.scheduler} takes the jobs of {names or 'all stages'}",
    )


def main(arguments: list[str]) -> int:
    """Say whether a lock that another process holds keeps this one out."""
    with lock(RunStore(Path(arguments[0])), "doctor") as mine:
        print("kept out" if mine is None else "let in")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
