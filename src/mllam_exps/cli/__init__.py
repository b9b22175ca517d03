"""The commands as they are typed. Thin: each one finds out where it is, calls one function and prints.

`options` has the app and what several commands have in common; the other modules add
their commands to it, in the order in which `--help` lists them.
"""

from __future__ import annotations

import sys

from mllam_exps.base import special_files
from mllam_exps.base.errors import Exit, MllamError
from mllam_exps.base.records import keep_others_out
from mllam_exps.base.terminal import print_anything, warn
from mllam_exps.cli.options import app

# isort: off
from mllam_exps.cli import running  # noqa: F401 - adds its commands
from mllam_exps.cli import reading  # noqa: F401
from mllam_exps.cli import team  # noqa: F401
from mllam_exps.cli import housekeeping  # noqa: F401
# isort: on

__all__ = ["app", "main"]


def _no_text(error: UnicodeEncodeError) -> MllamError:
    """Say which name or value this locale cannot say: a file's, or a word that was typed."""
    signs = ascii(error.object[error.start : error.end])
    what = f"{signs} in a name or value cannot be written in this locale ({error.encoding})"
    return MllamError(what, next="export LC_ALL=C.UTF-8, or use another one")


def _is_dvc_at_work() -> bool:
    """Tell whether DVC reproduces stages in this workspace: what is missing may be on its way."""
    from mllam_exps.machines.workspace import Workspace, is_reproduced

    try:
        return is_reproduced(Workspace.here().root)
    except MllamError:
        return False


def main() -> None:
    """Run the command line; errors that a user can act on are printed without a traceback."""
    keep_others_out()
    special_files.guard()
    print_anything()
    try:
        app()
    except MllamError as error:
        warn(f"error: {error}" if error.exit is not Exit.OK else str(error))
        if "dvc exp run" in error.next and _is_dvc_at_work():
            warn(
                "note: dvc exp run is at work here, and a second one would lose its experiment: "
                "mllam-exps status --watch ends when it has"
            )
        raise SystemExit(int(error.exit)) from None
    except KeyboardInterrupt:
        warn("interrupted")
        raise SystemExit(int(Exit.INTERRUPTED)) from None
    except UnicodeEncodeError as error:
        warn(f"error: {_no_text(error)}")
        raise SystemExit(int(Exit.FAILED)) from None
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            # `mllam-exps logs | head`: nobody listens any more, which is no error.
            sys.stderr.close()
            raise SystemExit(0) from None
        from mllam_exps.base.endings import reasons

        warn(f"error: {reasons.of_os_error(error)}")
        if way_out := reasons.way_out_of_os_error(error):
            warn(f"  → {way_out}")
        raise SystemExit(int(Exit.FAILED)) from None
