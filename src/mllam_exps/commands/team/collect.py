"""``mllam-exps share gc``: says who needs what in a share, and takes away what nobody needs."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

from mllam_exps.base import ages, terminal
from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.base.terminal import say, warn
from mllam_exps.dvc.repository import Repository
from mllam_exps.machines.workspace import Workspace
from mllam_exps.runs.locks import lock
from mllam_exps.runs.store import RunStore
from mllam_exps.sharing import clones, collecting, unneeded
from mllam_exps.sharing import share as shares
from mllam_exps.sharing.collecting import Found
from mllam_exps.sharing.share import Share
from mllam_exps.sharing.unneeded import Object

DAYS = round(unneeded.PATIENCE / unneeded.DAY)
LOCK = "collect"


def collect(
    path: Path | None,
    *,
    older_than: str,
    without: Collection[str],
    at_once: bool,
    restore: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Look, ask, set aside what nobody needs, and delete what nobody has missed."""
    share, root = _place(path)
    age = ages.seconds(older_than)
    with lock(RunStore(share.run_store), LOCK, wait=True):
        here = clones.look_at(share, root) if root else None
        if here and not dry_run:
            clones.tell(share, here)
        if restore:
            _restore(list(unneeded.set_aside(share)), share, dry_run=dry_run)
            return
        named = {*without, *(str(Path(one).absolute()) for one in without)}
        found = collecting.look(share, here, age=age, without=named)
        if as_json:
            print(json.dumps(_record(found), indent=1))
        else:
            _print(share, found)
        going = found.going or found.ending(at_once=at_once)
        if not (going or found.coming):
            if not as_json:
                say("all of it is needed, or came lately")
        elif dry_run:
            if not as_json:
                say("nothing was changed (--dry-run)")
        elif yes or not going or _confirmed(found, at_once=at_once):
            _do(share, found, at_once=at_once, as_json=as_json)
        else:
            say("nothing was changed")


def _place(path: Path | None) -> tuple[Share, Path | None]:
    """Return the share that is meant, and the clone of the current directory, if it uses that."""
    try:
        root = Workspace.here().origin
    except UsageError:
        root = None
    own = None
    if root:
        own = shares.of_cache(Repository.open(root, check=False).cache_directory)
    if path:
        share = shares.at(path)
        return share, root if own == share else None
    if own is None:
        raise UsageError(
            "this clone uses no share" if root else "is in no clone that uses a share",
            str(root or Path.cwd()),
            next="mllam-exps share gc PATH; for a cache of one's own: dvc gc",
        )
    return own, root


def _do(share: Share, found: Found, *, at_once: bool, as_json: bool) -> None:
    today = datetime.datetime.now(datetime.UTC).date()
    deleted = found.ending(at_once=at_once)
    try:
        unneeded.bring_back(found.coming)
        if not at_once:
            unneeded.move_aside(share, found.going, today)
        unneeded.delete(deleted)
    except OSError as error:
        what, why = "not all of it could be taken away", error.strerror or str(error)
        way_out = "mllam-exps share check --fix"
        raise MllamError(what, str(error.filename or ""), why, way_out) from error
    finally:
        unneeded.tidy(share)
    for clone in found.gone:
        clones.forget(share, clone)
    stream = sys.stderr if as_json else sys.stdout
    if found.coming:
        say(f"brought back {_told(found.coming)}: needed after all", stream)
    if deleted:
        say(f"deleted {_told(deleted)}", stream)
    if found.going and not at_once:
        way_back = "mllam-exps share gc --restore brings it back"
        say(f"set aside {_told(found.going)} for {DAYS} days: {way_back}", stream)


def _restore(aside: list[Object], share: Share, *, dry_run: bool) -> None:
    if dry_run or not aside:
        say(f"would bring back {_told(aside)}" if aside else "nothing is set aside")
        return
    unneeded.bring_back(aside)
    unneeded.tidy(share)
    say(f"brought back {_told(aside)}")


def _confirmed(found: Found, *, at_once: bool) -> bool:
    asked = []
    if found.going and not at_once:
        asked.append(f"set aside {_told(found.going)}")
    if ending := found.ending(at_once=at_once):
        asked.append(f"delete {_told(ending)} for ever")
    question = " and ".join(asked)
    question = f"{question[0].upper()}{question[1:]}"
    return terminal.confirmed(question, "mllam-exps share gc --yes, or --dry-run")


def _told(these: Collection[Object]) -> str:
    objects = "1 object" if len(these) == 1 else f"{len(these)} objects"
    return f"{objects}, {terminal.amount(_size(these))}"


def _size(these: Iterable[Object]) -> int:
    return sum(one.size for one in these)


def _print(share: Share, found: Found) -> None:
    """Print whose the objects are, and who needs them."""
    from mllam_exps.views import shared_objects

    console = terminal.console()
    say(f"{share.directory}: {_told(found.there)}")
    console.print(shared_objects.by_owner(found, console.width))
    console.print(shared_objects.by_need(found, console.width))
    for clone in found.gone:
        warn(f"note: {clone.path} ({clone.owner_name}) is gone, and needs nothing")
    if found.coming:
        say(f"set aside, and needed after all: {_told(found.coming)}")
    if found.over:
        say(f"set aside more than {DAYS} days ago: {_told(found.over)}")
    if found.waiting:
        say(f"set aside, to be deleted later: {_told(found.waiting)}")
    if found.going:
        say(f"needed by nobody: {_told(found.going)}")


def _record(found: Found) -> dict[str, object]:
    """Return what was found, for programs."""
    from mllam_exps.views import shared_objects

    return {
        "owners": shared_objects.owners(found),
        "needs": shared_objects.needs(found),
        "unneeded": _amounts(found.going),
        "needed_after_all": _amounts(found.coming),
        "to_be_deleted": _amounts(found.over),
        "set_aside": _amounts(found.waiting),
        "gone": [str(clone.path) for clone in found.gone],
    }


def _amounts(these: Collection[Object]) -> dict[str, int]:
    return {"objects": len(these), "bytes": _size(these)}
