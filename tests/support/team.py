"""Real Unix users, in a team's group or not: what each types is run as that user."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from support.experiment import environment
from support.python_for_all import programs

STAGES = {
    "make": {
        "cmd": "cat base.txt > made.txt",
        "deps": ["base.txt"],
        "outs": ["made.txt"],
    },
    "grow": {
        "cmd": "cat made.txt params.yaml > grown.txt",
        "deps": ["made.txt"],
        "params": ["x"],
        "outs": ["grown.txt"],
    },
}


@dataclass(frozen=True)
class User:
    """Somebody with a home, in the team's group or not."""

    number: int
    home: Path
    environ: Mapping[str, str]
    groups: Sequence[int] = ()
    umask: str = "022"

    def start(self, command: str, place: str = "work") -> subprocess.Popen[str]:
        """Start a command in a folder of one's own, in a process group of its own."""
        where = self.home / place
        return subprocess.Popen(
            ["sh", "-c", f"umask {self.umask}; {command}"],
            cwd=where if where.is_dir() else self.home,
            env=self.environ,
            user=self.number,
            group=self.number,
            extra_groups=list(self.groups),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def types(
        self, command: str, place: str = "work"
    ) -> subprocess.CompletedProcess[str]:
        """Type a command in a folder of one's own."""
        process = self.start(command, place)
        told, _ = process.communicate(timeout=240)
        return subprocess.CompletedProcess(command, process.returncode, told)

    def ok(self, command: str, place: str = "work") -> str:
        """Type a command that has to succeed."""
        done = self.types(command, place)
        assert done.returncode == 0, (
            f"{command}: exit code {done.returncode}\n{done.stdout}"
        )
        return str(done.stdout)


def make_users(
    folder: Path, groups: Mapping[int, Sequence[int]], umasks: Sequence[str] = ("022",)
) -> list[User]:
    """Return users, by the groups that each is in, with one of the umasks after the other."""
    for above in (folder, *folder.parents[:3]):
        above.chmod(above.stat().st_mode | 0o055)
    path = programs(folder / "python")
    found = []
    for at, number in enumerate(groups):
        home = folder / str(number)
        environ = environment(home) | {"PATH": f"{path}:/usr/bin:/bin"}
        environ["USER"] = environ["LOGNAME"] = f"user{number}"
        for place in (home, home / ".gitconfig"):
            os.chown(place, number, number)
        home.chmod(0o700)
        umask = umasks[at % len(umasks)]
        found.append(User(number, home, environ, groups[number], umask))
    return found
