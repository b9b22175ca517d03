"""A stage whose command is not ours: run by a shell, in a copy of the repository, as `dvc repro` would run it there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mllam_exps.stages.contract import StageContext
from mllam_exps.stages.neural_lam.common import WithoutCheckpoints


class Shell(WithoutCheckpoints):
    """Whatever ``dvc.yaml`` says.

    Parameters
    ----------
    name : str
        The stage.
    commands : sequence of str
        Its commands, each for a shell of its own.
    folder : str
        Where they are run, seen from the repository's root.
    """

    recipe = 0

    def __init__(self, name: str, commands: Sequence[str], folder: str) -> None:
        self.name = name
        self.commands = commands
        self.folder = folder

    def counting(self, file: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Take each value as it is: nobody knows what a command does with it."""
        return values

    def inputs(self, context: StageContext) -> None:
        """Make the folder that it works in, which git does not keep where it is empty."""
        (context.work / self.folder).mkdir(parents=True, exist_ok=True)

    def command(self, context: StageContext) -> list[str]:
        """Return the program that hands the commands to a shell."""
        return [
            "python",
            "-m",
            "mllam_exps.stages.programs.shell",
            self.name,
            self.folder,
            *self.commands,
        ]

    def check(self, context: StageContext) -> None:
        """Prove nothing more than that its outputs are there: nobody knows what they should be."""
