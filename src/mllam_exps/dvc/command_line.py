"""What a user asked of `dvc repro` or `dvc exp run`, by the command line of that process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DvcCommand:
    """What DVC was asked to do.

    Parameters
    ----------
    targets : tuple of str
        What was named; nothing is the whole ``dvc.yaml``.
    alone : bool
        Whether the stages that the targets need are left alone.
    lacking : bool
        Whether DVC gets what is missing by itself, or does without it.
    """

    targets: tuple[str, ...] = ()
    alone: bool = False
    lacking: bool = False


def asked(argv: Sequence[str]) -> DvcCommand | None:
    """Read a command line, with DVC's own parser; None where it does not tell which stages are meant.

    That is so for what a queue or ``--temp`` runs.
    """
    words = _after_dvc(argv)
    if words in (["repro"], ["exp", "run"]):
        return DvcCommand()  # as most often: the parser takes half a second to import
    if not (words[:1] == ["repro"] or words[:2] == ["exp", "run"]):
        return None
    from dvc.cli.parser import DvcParserError, get_main_parser

    try:
        found = get_main_parser().parse_args(words)
    except (DvcParserError, SystemExit):
        return None
    # Each of these has another meaning for the targets.
    others = ("pipeline", "all_pipelines", "downstream", "recursive", "glob")
    if any(getattr(found, name, False) for name in others):
        return None
    lacking = bool(found.pull or found.allow_missing)
    return DvcCommand(tuple(found.targets), bool(found.single_item), lacking)


def _after_dvc(argv: Sequence[str]) -> list[str]:
    """Return the words behind the program: `dvc …`, `python …/bin/dvc …`, `python -m dvc …`."""
    for number, word in enumerate(argv[:4]):
        if Path(word).name in {"dvc", "__main__.py"}:
            return list(argv[number + 1 :])
    return []
