"""The run store: one directory a run, named by its key, readable with ``cat``.

Layout of ``<store>/runs/<key>/``::

    run.json                what defines the run: stage, parameters, inputs, versions
    attempts/1.json         attempt 1 is claimed: by whom, on which scheduler, under
    which job name attempts/1/job.json     what the scheduler answered attempts/1/job.sh
    the batch script, where the scheduler takes one attempts/1/uncertain.json what was
    said where nobody knew whether it had accepted the job attempts/1/verdict.json what
    it said when the job had ended attempts/1/started.json written by the attempt
    itself: host, process, job attempts/1/heartbeat    touched every few seconds
    attempts/1/end.json     the attempt's own completion record: outcome and reason
    attempts/1/alone        there where no job waits for its end attempts/1/log.txt
    everything that it printed attempts/1/work/        the work directory, laid out as
    the repository attempts/1/tree/        the git repository that it is a folder of,
    for commands that are not ours attempts/1/scratch/     checkpoints, progress.json
    attempts/1/outputs/     what it made, frozen, if it succeeded result.json
    which attempt's outputs are the run's result, with their hashes waiters/
    drivers that wait for this run asked/                  experiments that were not
    submitted, and workspaces, that asked for it (`askers`) wanted/
    submitted experiments that need it

Claims (``attempts/<n>.json``) and results are created by one writer only
(`records.create`). An attempt is *current* while there is no claim with a higher
number. That is the fencing token: who is not current any more stops, and nothing that
it writes counts, because every attempt writes to a directory of its own and only a
current one may create ``result.json``.

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
        return Run(self.directory / "runs" / key)

    def runs(self) -> Iterator[Run]:
        """Yield every run that has been begun."""
        for name in records.entries(self.directory / "runs"):
            if is_key(name):
                run = Run(self.directory / "runs" / name)
                try:
                    os.lstat(run.directory / "run.json")
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
