"""A stage whose command is not ours: run by a shell, in a copy of the repository, as `dvc repro` would run it there."""

from __future__ import annotations

from collections.abc import Sequence

from mllam_exps.stages.contract import Stage, StageContext


class Shell(Stage):
    """Whatever ``dvc.yaml`` says.

    Nobody knows what a command does with a parameter, or what its outputs should be:
    each value counts as it is, and its outputs are proved to be there, and no more.

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
