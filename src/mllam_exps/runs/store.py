"""The run store: one directory a run, named by its key, readable with ``cat`` (`layout`).

Claims and results are created by one writer only (`records.create`). An attempt is
*current* while there is no claim with a higher number. That is the fencing token: who
is not current any more stops, and nothing that it writes counts, because every attempt
writes to a directory of its own and only a current one settles the run.

The folders of a run are the team's; an attempt's own belongs to who claimed it, and
nobody else writes there. So what is executed comes from there (`spec`), and never from
``run.json``, which anybody may have written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mllam_exps.base import records
from mllam_exps.base.records import Trouble
from mllam_exps.identity.run_keys import is_key
from mllam_exps.runs import layout
from mllam_exps.runs.runs import Run


@dataclass(frozen=True)
class RunStore:
    """A folder on the shared file system, one directory a run."""

    directory: Path

    def run(self, key: str) -> Run:
        """Return the run of that key, which need not exist yet.

        Raises
        ------
        ValueError
            If `key` is no run key: it becomes part of a path.
        """
        if not is_key(key):
            raise ValueError(f"not a run key: {key!r}")
        return Run(self.directory / layout.RUNS / key)

    def runs(self) -> Iterator[Run]:
        """Yield every run that has been begun."""
        for name in records.entries(self.directory / layout.RUNS):
            if is_key(name):
                run = Run(self.directory / layout.RUNS / name)
                try:
                    os.lstat(run.directory / layout.DEFINITION)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                except OSError as error:
                    records.tell(
                        Trouble(
                            run.directory,
                            f"cannot be looked into ({error.strerror})",
                            hidden=True,
                        )
                    )
                    continue
                yield run
