"""Calls of Slurm's programs, and who is to blame where they get no answer.

A program of Slurm 22.05 tries for 9 s while slurmctld is down, for 10 s where it hangs,
and ``scontrol show job`` and ``sbatch --test-only`` for twice as long; where munged
hangs, for 50 s. A command of ours calls many of them. So the controller is asked first
whether it answers, with ``scontrol ping``, which waits for nothing that it works at;
what comes of that holds for all calls of the next seconds.
"""

from __future__ import annotations

import logging
import os
import re
import subprocess
import threading
import time
from dataclasses import dataclass, field

from mllam_exps.base.endings.last_words import last_line
from mllam_exps.base.errors import Exit, MllamError, UsageError
from mllam_exps.schedulers.slurm import batch_script

log = logging.getLogger(__name__)

PATIENCE = 60.0
"""Seconds that a program may take while the controller answers: a busy one lets sbatch wait."""
PING = 3.0
"""Seconds that ``scontrol ping`` may take."""
ACCOUNTING = 4.0
"""Seconds that sacct may take: it asks slurmdbd, and waits for 45 s for one that hangs (22.05)."""
UP_FOR, DOWN_FOR, ACCOUNTING_DOWN_FOR = 5.0, 10.0, 30.0
"""Seconds for which it holds that the controller answers, that it does not, and that slurmdbd does not."""

# 22.05: sbatch says "Batch job submission failed: Unable to contact slurm controller
# (connect failure)" after MessageTimeout, "Socket timed out on send/recv operation"
# where the job may run all the same, and others alike.
_NO_ANSWER = re.compile(
    r"timed out|unable to contact|connect(ion)? (failure|refused|reset)|zero bytes|communication|try again|temporarily",
    re.IGNORECASE,
)
# 22.05: "AssocMaxSubmitJobLimit" and the like, with "Job violates accounting/QOS policy
# (job submit limit, user's size and/or time limits)", which is also said of what is too
# large for ever; MaxJobCount: "Slurm temporarily unable to accept job", and at last
# "Resource temporarily unavailable".
NO_ROOM = re.compile(
    r"\w*Max(?:Submit)?Jobs?\w*|temporarily unable to accept|Resource temporarily unavail"
)
# 22.05, without a configuration: "s_p_parse_file: cannot stat file …" for a minute, or
# "resolve_ctls_from_dns_srv: res_nsearch error: Unknown host".
_NO_CLUSTER = re.compile(
    r"s_p_parse_file|resolve_ctls_from_dns_srv|Could not establish a configuration source"
)
# 22.05: "squeue: error: Munge encode failed: Failed to access
# "/run/munge/munge.socket.2": No such file or directory (Did you start munged?)"; at
# the end stands "slurm_load_jobs error: Protocol authentication error".
_MUNGE = re.compile(r"Munge encode failed: (.*)")


class NotAnswered(Exception):
    """A program of Slurm's got no answer; the text says who is to blame."""


class NotAsked(NotAnswered):
    """Slurm does not answer at the moment: the program was not even started."""


@dataclass
class _Daemon:
    """What is known of one of Slurm's daemons, for a few seconds."""

    trouble: str = ""
    known_until: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, trouble: str, seconds: float) -> str:
        self.trouble, self.known_until = trouble, time.monotonic() + seconds
        return trouble


_controller, _accounting = _Daemon(), _Daemon()


def outage() -> str:
    """Say why the controller does not answer; nothing where it does. Takes `PING` seconds at most."""
    with _controller.lock:
        if time.monotonic() < _controller.known_until:
            return _controller.trouble
        trouble = _ping()
        log.info("the controller %s", trouble or "answers")
        return _controller.note(trouble, DOWN_FOR if trouble else UP_FOR)


def _ping() -> str:
    try:
        done = _run(["scontrol", "ping"], PING)
    except subprocess.TimeoutExpired:
        # 22.05: a stopped slurmctld takes connections and answers nothing; a stopped
        # munged lets its clients wait.
        return f"slurmctld gave no answer within {PING:.0f} s (it hangs, or munged on this host does)"
    # 22.05: "Slurmctld(primary) at host is DOWN", at once, also where munged is down:
    # that stands on stderr. With a backup each has a line.
    if " is UP" in done.stdout:
        return ""
    if _is_silence(done.stderr):
        return blame(done.stderr)
    return "slurmctld is down (scontrol ping)" if " is DOWN" in done.stdout else ""


def call(
    command: list[str],
    environ: dict[str, str] | None = None,
    input: str = "",
    patience: float = 0.0,
) -> subprocess.CompletedProcess[str]:
    """Run a program that asks the controller.

    Parameters
    ----------
    environ : dict, optional
        Its environment; without one, what a job would get of ours.
    patience : float
        Seconds that it may take; else `PATIENCE`.

    Raises
    ------
    NotAsked
        If the controller does not answer: the program was not started.
    NotAnswered
        If the program got no answer: what it was to do may have been done all the same.
    MllamError
        If there is no such program here, or no configuration.
    """
    if trouble := outage():
        raise NotAsked(trouble)
    patience = patience or PATIENCE
    try:
        done = _run(command, patience, environ, input)
    except subprocess.TimeoutExpired:
        log.info("%s gave no answer within %.0f s", command[0], patience)
        raise NotAnswered(
            f"{command[0]} gave no answer within {patience:.0f} s"
        ) from None
    if done.returncode != 0 and _is_silence(done.stderr):
        # One that is busy lets some questions time out, and answers others: it is asked
        # anew.
        _controller.known_until = 0.0
        raise NotAnswered(blame(done.stderr))
    return done


def account(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a program that asks the accounting.

    Raises
    ------
    NotAnswered
        If slurmdbd does not answer.
    """
    with _accounting.lock:
        if time.monotonic() < _accounting.known_until:
            raise NotAsked(_accounting.trouble)
        try:
            return _run(command, ACCOUNTING)
        except subprocess.TimeoutExpired:
            late = f"slurmdbd does not answer: {command[0]} took longer than {ACCOUNTING:.0f} s"
            raise NotAnswered(_accounting.note(late, ACCOUNTING_DOWN_FOR)) from None


def _run(
    command: list[str],
    patience: float,
    environ: dict[str, str] | None = None,
    input: str = "",
) -> subprocess.CompletedProcess[str]:
    start = time.monotonic()
    try:
        done = subprocess.run(
            command,
            env=environ
            if environ is not None
            else batch_script.environment(os.environ),
            input=input,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=patience,
            check=False,
        )
    except FileNotFoundError:
        why = "the machine file says `scheduler: slurm`"
        way_out = "log in to a host of the cluster"
        raise UsageError(
            f"no command {command[0]} on this host", why=why, next=way_out
        ) from None
    # Its output may list other people's jobs; the first complaint is what one looks for.
    log.debug(
        "%s: exit code %d after %.2f s%s",
        " ".join(command),
        done.returncode,
        time.monotonic() - start,
        f": {last_line(done.stderr)}" if done.stderr.strip() else "",
    )
    if done.returncode != 0 and _NO_CLUSTER.search(done.stderr):
        way_out = "export SLURM_CONF=…, or log in to a host of the cluster"
        why = last_line(done.stderr)
        raise MllamError(
            "Slurm finds no configuration on this host",
            command[0],
            why,
            way_out,
            Exit.USAGE,
        )
    return done


def _is_silence(said: str) -> bool:
    return bool(
        _MUNGE.search(said) or (_NO_ANSWER.search(said) and not NO_ROOM.search(said))
    )


def blame(said: str) -> str:
    """Return why a program got no answer, from what it printed."""
    if munge := _MUNGE.search(said):
        return f"munged does not answer on this host: {munge[1].strip()}"
    return last_line(said)
