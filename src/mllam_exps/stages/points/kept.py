"""The file of points: JSON lines, appended by the program of one attempt, read by whoever sends them.

The first line is the head: which tracking run the points belong to, and which steps
earlier attempts have logged. Then one line each::

    {"time": 1764177100123, "key": "train_loss", "value": 0.31, "step": 40}
    {"param": "training/lr", "value": "0.001"}
    {"tag": "job", "value": "4711"}

Beside it lie files to be sent (``artifacts/``, each removed once it is), and how far
all was sent, and where to (``sent.json``).
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mllam_exps.base import records

VARIABLE = "MLLAM_EXPS_POINTS"
"""Names the folder to a program."""
POINTS = "points.jsonl"
ARTIFACTS = "artifacts"
SENT = "sent.json"


@dataclass(frozen=True)
class Family:
    """The training that a tracking run is a phase of.

    Parameters
    ----------
    first : str
        The run key of its first phase: all phases that go on from that one, in whatever
        experiments, have the same.
    name : str
        What people read.
    """

    first: str = ""
    name: str = ""


NO_FAMILY = Family()


@dataclass(frozen=True)
class Head:
    """What the first line says.

    Parameters
    ----------
    run : str
        The tracking run's name here, the same for all attempts that go on with it; the
        server has one of its own.
    attempt : int
        Which attempt wrote the file.
    after : mapping
        The last step that earlier attempts logged, by key.
    logger : str
        ``mlflow`` or ``wandb``: of a run that wandb keeps itself, the file has the
        steps alone.
    family : Family
        The training that it is a phase of; empty of one without phases.
    """

    run: str
    attempt: int
    after: Mapping[str, int] = field(default_factory=dict)
    logger: str = "mlflow"
    family: Family = NO_FAMILY


@dataclass(frozen=True)
class Sent:
    """How far the points of one attempt were sent.

    Parameters
    ----------
    server : str
        Where to; what was sent elsewhere counts as not sent.
    run : str
        The tracking run's identity there.
    size : int
        Bytes of the file whose points are there.
    end : str
        The end that was told: ``FINISHED``, ``FAILED`` or ``KILLED``; empty where none.
    """

    server: str = ""
    run: str = ""
    size: int = 0
    end: str = ""


class Points:
    """The points of one attempt, to be written.

    Parameters
    ----------
    folder : Path
        Where the file is, with its head.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        found = head(folder)
        if found is None:
            raise FileNotFoundError(folder / POINTS)
        self.head = found
        self._whole = True
        self._lock = threading.Lock()

    def write(self, lines: list[dict[str, Any]]) -> bool:
        """Append lines, at once: nobody reads a part of them, whatever ends this process; False on a full disk."""
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        # What a full disk cut off must not spoil the next line.
        before = "" if self._whole else "\n"
        content = f"{before}{text}".encode()
        try:
            with self._lock:
                file = os.open(self.folder / POINTS, os.O_WRONLY | os.O_APPEND)
                try:
                    written = os.write(file, content)
                finally:
                    os.close(file)
        except OSError:
            written = 0
        self._whole = written == len(content)
        return self._whole


def begin(folder: Path, begun: Head, tags: Mapping[str, str]) -> None:
    """Make the folder and the file, with its head and the first tags."""
    (folder / ARTIFACTS).mkdir(parents=True)
    lines = [asdict(begun), *({"tag": k, "value": v} for k, v in tags.items())]
    (folder / POINTS).write_text("".join(f"{json.dumps(one)}\n" for one in lines))


def head(folder: Path) -> Head | None:
    """Return what the first line says; None where there is no such file, or another one."""
    found = next(read(folder), None)
    if found is None:
        return None
    try:
        after = {str(key): int(step) for key, step in found[1]["after"].items()}
        logger = str(found[1].get("logger", "mlflow"))
        # An attempt of an earlier version names no family.
        told = found[1].get("family") or {}
        family = Family(str(told.get("first", "")), str(told.get("name", "")))
        run, attempt = str(found[1]["run"]), int(found[1]["attempt"])
        return Head(run, attempt, after, logger, family)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def read(folder: Path, start: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each whole line from a byte on, with the byte after it; what is no JSON is left out."""
    with contextlib.suppress(FileNotFoundError), (folder / POINTS).open("rb") as file:
        file.seek(start)
        for line in file:
            if not line.endswith(b"\n"):
                return
            start += len(line)
            with contextlib.suppress(ValueError):
                found = json.loads(line)
                if isinstance(found, dict):
                    yield start, found


def reached(folder: Path) -> dict[str, int]:
    """Return the last step that was logged, by key, by this attempt or those before."""
    begun = head(folder)
    steps = dict(begun.after) if begun else {}
    for _, line in read(folder):
        key, step = line.get("key"), line.get("step")
        if isinstance(key, str) and isinstance(step, int):
            steps[key] = max(step, steps.get(key, step))
    return steps


def sent(folder: Path, server: str) -> Sent:
    """Return how far the points were sent to a server."""
    found = records.read(folder / SENT) or {}
    try:
        state = Sent(**{name: found[name] for name in ("server", "run", "size", "end")})
    except KeyError:
        state = Sent()
    return state if state.server == server else Sent(server)


def was_sent(folder: Path) -> bool:
    """Tell whether some tracking server has got any of the points."""
    found = records.read(folder / SENT) or {}
    return bool(found.get("run"))


def note_sent(folder: Path, state: Sent) -> None:
    """Write down how far they were sent."""
    records.replace(folder / SENT, asdict(state), flush=False)


def artifacts(folder: Path) -> list[Path]:
    """Return the whole files that are still to be sent."""
    # MLflow (3.17) writes a file under a name with a leading dot first.
    return sorted(
        path
        for path in (folder / ARTIFACTS).rglob("*")
        if path.is_file() and not path.is_symlink() and not path.name.startswith(".")
    )


def is_any_left(folders: Sequence[Path], server: str, end: str) -> bool:
    """Tell whether anything of attempts at one run is still to be sent.

    Of attempts before the last one, how the run ended does not matter.
    """
    *earlier, last = folders
    if is_left(last, server, end):
        return True
    return any(is_left(one, server, sent(one, server).end) for one in earlier)


def is_left(folder: Path, server: str, end: str) -> bool:
    """Tell whether anything is still to be sent: points, files, or the end."""
    state = sent(folder, server)
    if state.end != end or artifacts(folder):
        return True
    return next(read(folder, state.size), None) is not None
