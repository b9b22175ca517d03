"""Who computes which forecast: processes of one job, and of several, share the work without a leader.

A process claims a forecast by making a file that nobody has made before. A claim only
says that somebody is at it: when nothing unclaimed is left, a process waits a while for
what others have claimed, and then computes that, too, as they may be dead. What is
computed twice is written twice, and is as whole (`store`). So each process ends when all
forecasts are there, whatever became of the others.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

from mllam_exps.stages.neural_lam.forecasts.store import Store, Unit

CLAIMS = ".claimed"
"""Behind the store's name: the folder with the claims."""
PATIENCE = 10.0
"""Seconds for which a claimed forecast is left to its claimant at least."""
_POLL = 0.5


class Claims:
    """Yields what this process is to compute next, a few forecasts at a time, until all of the store's are there.

    Parameters
    ----------
    store : Store
        Laid out.
    batch_size : int
        Most forecasts at once.
    stop : Path, optional
        Where a file appears when no more is to be begun.
    limit : int, optional
        No more than the first so many forecasts: for a rehearsal.
    patience : float
        As `PATIENCE`.
    """

    def __init__(
        self,
        store: Store,
        batch_size: int,
        stop: Path | None = None,
        limit: int | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self.store = store
        self.batch_size = batch_size
        self.stop = stop
        self.limit = limit
        self.patience = patience
        self.stopped = False
        self.folder = store.path.with_name(store.path.name + CLAIMS)
        self._mine: set[Unit] = set()
        self._seen: dict[Unit, float] = {}
        self._longest = 0.0

    def __iter__(self) -> Iterator[list[Unit]]:
        """Claim, and yield what is claimed."""
        self.folder.mkdir(exist_ok=True)
        while left := self._left():
            if self.stop is not None and self.stop.exists():
                self.stopped = True
                return
            began = time.monotonic()
            batch = self._claim(left) or self._take_over(left)
            if not batch:
                time.sleep(_POLL)
                continue
            yield batch
            # The next is asked for when this one is written, or a batch or two before.
            self._longest = max(self._longest, time.monotonic() - began)

    def _left(self) -> list[Unit]:
        """Return what is not there yet, without what this process is at."""
        wanted = self.store.units[: self.limit]
        done = self.store.done()
        return [unit for unit in wanted if unit not in done and unit not in self._mine]

    def _claim(self, left: list[Unit]) -> list[Unit]:
        own = filter(self._is_claimed_now, left)
        batch = list(itertools.islice(own, self.batch_size))
        self._mine.update(batch)
        return batch

    def _is_claimed_now(self, unit: Unit) -> bool:
        try:
            (self.folder / self.store.mark(unit)).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def _take_over(self, left: list[Unit]) -> list[Unit]:
        """Return what others have claimed long ago, seen from here: hosts' clocks differ."""
        now = time.monotonic()
        patience = max(self.patience, 3 * self._longest)
        batch = [
            unit for unit in left if now - self._seen.setdefault(unit, now) > patience
        ][: self.batch_size]
        self._mine.update(batch)
        return batch
