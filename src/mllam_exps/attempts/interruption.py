"""What ends a driver's waiting from outside: Ctrl-C, a terminal that is lost, a polite kill."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


class Detached(Exception):
    """The driver leaves; the run goes on without it."""


class Interrupted(Exception):
    """Ctrl-C."""


@contextlib.contextmanager
def as_exceptions() -> Iterator[None]:
    """Turn Ctrl-C into `Interrupted`, and a lost terminal or a polite kill into `Detached`."""

    def interrupt(_number: int, _frame: object) -> None:
        # Neither a second Ctrl-C nor the terminal's end must cut the stopping of
        # the run short.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        raise Interrupted

    def detach(number: int, _frame: object) -> None:
        raise Detached(
            f"{signal.Signals(number).name}: leaving; the run goes on, and the next `dvc exp run` finds it"
        )

    handlers = {
        signal.SIGINT: interrupt,
        signal.SIGTERM: detach,
        signal.SIGHUP: detach,
    }
    before = {
        number: signal.signal(number, handler) for number, handler in handlers.items()
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
