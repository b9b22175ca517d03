"""Tables that fit their window: where the wide one does not, another layout, and nothing is broken within a word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import OverflowMethod

PARAMETERS_WIDTH = 40
"""How wide parameters become where there is room; a longer word is not broken."""


SENTENCE_WIDTH = 20
"""Below which a sentence becomes a tower of words."""


@dataclass
class Column:
    """One column of a table.

    Parameters
    ----------
    heading : str
        Above it.
    cells : list of Text
        From the top.
    wraps : bool
        Whether a cell may take more lines than it has, broken between words.
    sentences : bool
        Whether they are sentences, which want some width.
    right : bool
        Whether it stands at the right.
    widest : int, optional
        How wide it becomes at most, if no word is wider.
    """

    heading: str
    cells: list[Text] = field(default_factory=list)
    wraps: bool = False
    sentences: bool = False
    right: bool = False
    widest: int | None = None

    @property
    def least(self) -> int:
        """How wide it is at least."""
        widths = [SENTENCE_WIDTH if self.wraps and self.sentences else 0]
        for text in (Text(self.heading), *self.cells):
            # Where a cell may take more lines, it is as wide as its longest word.
            parts = text.plain.split() if self.wraps else text.plain.split("\n")
            widths += [cell_len(part) for part in parts]
        return max(widths)


def least_width(columns: Sequence[Column]) -> int:
    """Return the width of a window that a table with these columns needs: a frame of one, and a space, around each."""
    return sum(column.least for column in columns) + 3 * len(columns) + 1


def table(columns: Sequence[Column], width: int, title: str | None = None) -> Table:
    """Return a table; where it is too wide all the same, words are broken, and none is left out."""
    drawn = Table(title=title, title_justify="left")
    fits = least_width(columns) <= width
    overflow: OverflowMethod = "fold"
    for column in columns:
        widest = column.widest and max(column.widest, column.least)
        drawn.add_column(
            Text(column.heading),  # text alone would be read as rich's markup
            justify="right" if column.right else "left",
            no_wrap=fits and not column.wraps,
            overflow=overflow,
            max_width=widest,
        )
    for cells in zip(*(column.cells for column in columns), strict=True):
        drawn.add_row(*cells)
    return drawn


@dataclass(frozen=True)
class State:
    """A stage of an experiment, or its saving, as people read it.

    Parameters
    ----------
    stage, word, style
        What, how it stands, and in which colour that is written.
    """

    stage: str
    word: str
    style: str = ""


@dataclass(frozen=True)
class Line:
    """An experiment, as people read it.

    Parameters
    ----------
    name : str
        Its name.
    parameters : tuple of str
        Those that were set; and, below them, what else tells it from others.
    states : tuple of State
        Of its stages, in order.
    saved : Text, optional
        Whether it is saved; told of all or of none.
    """

    name: str
    parameters: tuple[str, ...]
    states: tuple[State, ...]
    saved: Text | None = None

    def word(self, stage: str) -> Text:
        """Return the word of a stage; empty where it has no such stage."""
        for state in self.states:
            if state.stage == stage:
                return Text(state.word, state.style)
        return Text()


def of_experiments(lines: Sequence[Line], stages: Sequence[str], width: int) -> Table:
    """Return the table of experiments: with a column for each stage, where the window is wide enough.

    Parameters
    ----------
    stages : sequence of str
        All stages, in order.
    width : int
        Of the window.
    """
    wide = _with_columns(lines, stages)
    columns = wide if least_width(wide) <= width else _in_sentences(lines, width)
    return table(columns, width)


def _with_columns(lines: Sequence[Line], stages: Sequence[str]) -> list[Column]:
    names = Column("experiment", [Text(line.name) for line in lines])
    parameters = Column(
        "parameters",
        [Text("\n".join(line.parameters)) for line in lines],
        wraps=True,
        widest=PARAMETERS_WIDTH,
    )
    columns = [names, parameters]
    for stage in stages:
        columns.append(Column(stage, [line.word(stage) for line in lines]))
    saved = [line.saved for line in lines if line.saved is not None]
    if saved:
        columns.append(Column("saved", saved))
    return columns


def _in_sentences(lines: Sequence[Line], width: int) -> list[Column]:
    names, stands = Column("experiment"), Column("where it stands", wraps=True)
    for line in lines:
        below = [f"  {word}" for word in line.parameters]
        told = "\n".join([line.name, *below])
        if max(map(len, below), default=0) > width // 2:
            told = told.replace(":", ":\n    ")  # behind the name of the file
        names.cells.append(Text(told))
        stands.cells.append(where_it_stands(line))
    return [names, stands]


def where_it_stands(line: Line) -> Text:
    """Say how the stages stand, those with the same word together: "prepare, create_graph done; train running"."""
    parts: list[Text] = []
    together: list[str] = []
    for number, state in enumerate(line.states):
        together.append(state.stage)
        following = line.states[number + 1 : number + 2]
        if not following or following[0].word != state.word:
            part = Text(f"{', '.join(together)} ")
            parts.append(part.append(state.word, state.style))
            together = []
    if line.saved is not None and line.saved.plain:
        word = line.saved.plain
        is_told = " " in word or word in {"removed", "cancelled"}
        told = word if is_told else f"saved as {word}"
        parts.append(Text(told, line.saved.style))
    return Text("; ").join(parts)


@dataclass(frozen=True)
class Running:
    """What runs now, as people read it.

    Parameters
    ----------
    stage, names : str
        Of which stage, and for which experiments.
    job, node, elapsed, progress : str
        Its job, where it runs, how long, and how far it is.
    """

    stage: str
    names: str
    job: str
    node: str
    elapsed: str
    progress: str

    @property
    def where(self) -> str:
        """Where it runs, and how far it is, in one line."""
        node = f"on {self.node}" if self.node else ""
        # A process of this host is called by its host, too.
        if self.job.endswith(node):
            node = ""
        told = [self.job, node, self.elapsed, self.progress]
        return ", ".join(word for word in told if word)


def of_running(found: Sequence[Running], width: int) -> Table:
    """Return the table of what runs now."""
    columns = _of_running_wide(found)
    if least_width(columns) > width:
        what = [Text(f"{one.stage} for {one.names}") for one in found]
        where = [Text(one.where) for one in found]
        columns = [
            Column("what", what, wraps=True),
            Column("where, how far", where, wraps=True),
        ]
    return table(columns, width, title="running now")


def _of_running_wide(found: Sequence[Running]) -> list[Column]:
    columns = [
        Column("stage"),
        Column("for", wraps=True),
        Column("job"),
        Column("node"),
        Column("elapsed"),
        Column("progress", wraps=True, sentences=True),
    ]
    for one in found:
        words = (one.stage, one.names, one.job, one.node, one.elapsed, one.progress)
        for column, word in zip(columns, words, strict=True):
            column.cells.append(Text(word))
    return columns


@dataclass(frozen=True)
class Item:
    """Something that may be deleted, as people read it.

    Parameters
    ----------
    what, why, age, size : str
        What it is, why it may go, when something last happened to it, and how large it
        is.
    """

    what: str
    why: str
    age: str
    size: str


def of_items(items: Sequence[Item], width: int) -> Table:
    """Return the table of what may be deleted."""
    last = [
        Column("age", [Text(item.age) for item in items], right=True),
        Column("size", [Text(item.size) for item in items], right=True),
    ]
    what = Column("what", [Text(item.what) for item in items])
    why = Column("why", [Text(item.why) for item in items], wraps=True, sentences=True)
    columns = [what, why, *last]
    if least_width(columns) > width:
        both = [Text(f"{item.what}\n  {item.why}") for item in items]
        columns = [Column("what, and why", both, wraps=True), *last]
    return table(columns, width)
