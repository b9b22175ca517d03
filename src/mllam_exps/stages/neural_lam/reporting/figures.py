"""What the page shows as files for a paper: scorecards, curves, losses and maps, each a figure with title and units."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mllam_exps.stages.neural_lam.reporting import charts, maps, notation, wording
from mllam_exps.stages.neural_lam.reporting.comparison import Card, Cell, Comparison
from mllam_exps.stages.neural_lam.reporting.content import Chart, Content

STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.titlesize": 8,
    "lines.linewidth": 1.5,
    "lines.markersize": 3,
    "lines.scale_dashes": False,
    "savefig.dpi": 300,
    "savefig.bbox": "tight",
    "pdf.fonttype": 42,  # letters stay letters, as journals ask for
    "text.parse_math": False,  # names may hold any sign
}
WHOLE, LETTER, CELL, ROW = 7.0, 0.075, 0.62, 0.26
"""Inches: of a page, of a letter of the names beside a scorecard, and of its cells."""
LEAST = 4.0
"""Inches of a figure with maps, which may be narrow."""
LEADS = 3
"""Lead times of a map that stand below each other: the first, a middling and the last."""


def write(folder: Path, content: Content, kind: str) -> list[Path]:
    """Write each figure to a file of its own, over one of the same name; return which.

    Parameters
    ----------
    kind : str
        ``png`` or ``pdf``.
    """
    found: list[Path] = []
    # The same input gives the same bytes: no time stands in them.
    dateless = {"CreationDate": None} if kind == "pdf" else {}
    with _style():
        for words, figure in _figures(content):
            name = _free(folder, "_".join(map(_plain, words)), kind, found)
            title = figure.get_suptitle()
            name.unlink(missing_ok=True)  # it may be a second name, as the page's
            figure.savefig(name, metadata={"Title": title, **dateless})
            found.append(name)
    return found


def _figures(content: Content) -> Iterator[tuple[list[str], Any]]:
    """Yield each figure, with the words of its file's name."""
    of = _of(content.compared)
    for card in content.cards:
        words = ["scorecard", card.name, "against", card.reference]
        yield words, _scorecard(card, content.names, of)
    for variable, chart in content.curves.items():
        title = f"RMSE of {content.names[variable]}"
        yield ["rmse", variable], _curves(chart, title, of)
    for name, chart in content.losses.items():
        yield ["loss", name], _curves(chart, f"Loss of {name}", "")
    for atlas in content.atlases:
        for title, values in atlas.values.items():
            for case, told in enumerate(atlas.cases):
                words = ["map", atlas.experiment, values.variable]
                words.append(told.partition(":")[0])
                yield words, _maps(atlas, title, case)


@contextmanager
def _style() -> Iterator[None]:
    from matplotlib import style

    # A user's own matplotlibrc would give other figures.
    with style.context(["default", STYLE]), warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", r"Glyph \d+")
        yield


def _plain(word: str) -> str:
    """Return a word as a part of a file's name, which LaTeX and shells take."""
    return re.sub(r"[^\w.+]+", "-", word).strip("-.") or "x"


def _free(folder: Path, name: str, kind: str, taken: list[Path]) -> Path:
    """Return a path for a figure that no other one of these has."""
    path, number = folder / f"{name}.{kind}", 1
    while path in taken:
        number += 1
        path = folder / f"{name}-{number}.{kind}"
    return path


def _of(compared: Comparison) -> str:
    """Say of what the scores are."""
    first, last = (start.replace("T", " ") for start in compared.period)
    return f"interior, {compared.cases} forecasts, starts from {first} to {last} UTC"


def _figure(width: float, height: float, title: str, below: str) -> Any:
    """Return a figure with its title, and what it is of in a line below the title."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(f"{title}\n{below}".strip())
    return figure


def _scorecard(card: Card, names: dict[str, str], of: str) -> Any:
    """Draw a table of cells: what is sure has a frame and a mark, as on the page."""
    leads = [f"{cell.lead:g}" for cell in next(iter(card.rows.values()))]
    rows = list(card.rows)
    height = (len(rows) + 1) * ROW + 0.9
    title = f"RMSE of {card.name} against {card.reference}, difference in %"
    beside = LETTER * max(len(names[row]) for row in rows)
    figure = _figure(beside + len(leads) * CELL + 0.4, height, title, of)
    axes = figure.subplots()
    axes.set(xlim=(0, len(leads)), ylim=(len(rows), 0), xlabel="lead time in hours")
    axes.set_xticks([place + 0.5 for place in range(len(leads))], leads)
    axes.set_yticks(
        [place + 0.5 for place in range(len(rows))], [names[row] for row in rows]
    )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for row, cells in enumerate(card.rows.values()):
        for column, cell in enumerate(cells):
            _draw_cell(axes, column, row, cell)
    figure.supxlabel(notation.meaning(card), size=7)
    return figure


def _draw_cell(axes: Any, column: int, row: int, cell: Cell) -> None:
    from matplotlib.patches import Rectangle

    colour = notation.BETTER if notation.is_better(cell) else notation.WORSE
    shade = notation.strength(cell) * notation.SHADE
    fill = (*(part / 255 for part in colour), shade)
    axes.add_patch(Rectangle((column, row), 1, 1, facecolor=fill, edgecolor="0.85"))
    if cell.is_sure:
        inner = (column + 0.04, row + 0.08)
        axes.add_patch(Rectangle(inner, 0.92, 0.84, fill=False, edgecolor="black"))
    text = f"{notation.percent(cell)} {notation.mark(cell)}".strip()
    middle = {"ha": "center", "va": "center", "size": 7}
    axes.text(column + 0.5, row + 0.5, text, **middle)


def _curves(chart: Chart, title: str, of: str) -> Any:
    """Draw curves, with their names beside them."""
    figure = _figure(WHOLE * 0.75, 2.8, title, of)
    axes = figure.subplots()
    known: list[float] = []
    xs = sorted({x for points in chart.curves.values() for x, _ in points})
    is_few = len(xs) <= charts.FEW
    for number, points in enumerate(chart.curves.values()):
        finite = [point for point in points if math.isfinite(point[1])]
        known += [y for _, y in finite]
        colour = charts.COLOURS[number % len(charts.COLOURS)]
        dashes = charts.DASHES[number % len(charts.DASHES)].split()
        axes.plot(
            *zip(*finite, strict=True) if finite else ([], []),
            color=tuple(part / 255 for part in colour),
            marker="o" if is_few else "",
            linestyle=(0, tuple(map(float, dashes))) if dashes else "-",
        )
    axes.set(xlabel=chart.x, ylabel=chart.y)
    if known and min(known) >= 0:
        axes.set_ylim(bottom=0)
    if is_few:
        axes.set_xticks(xs)
    axes.grid(axis="y", color="0.9")
    # A name that begins with a low line would be left out of a legend that is not told it.
    names = list(chart.curves)
    beside = {"loc": "upper left", "bbox_to_anchor": (1.02, 1.0), "frameon": False}
    axes.legend(axes.lines, names, **beside)
    return figure


def _maps(atlas: maps.Atlas, title: str, case: int) -> Any:
    """Draw forecast, truth and difference of one case, with the lead times below each other."""
    scale, values = atlas.scales[title], atlas.values[title]
    last = len(atlas.leads) - 1
    leads = sorted({round(part * last / (LEADS - 1)) for part in range(LEADS)})
    columns, rows = atlas.size
    height = min(WHOLE / 3 * rows / columns, WHOLE / 2)
    width = max(3 * height * columns / rows, LEAST)
    kind, _, start = atlas.cases[case].partition(": ")
    below = f"{atlas.experiment}, {kind} case, start {start.replace('T', ' ')} UTC"
    figure = _figure(width, len(leads) * height + 1.1, title, below)
    panels = figure.subplots(len(leads), 3, squeeze=False)
    ends = {"vmin": scale.low, "vmax": scale.high, "cmap": maps.FIELD_COLOURS}
    apart = {"vmin": -scale.most, "vmax": scale.most, "cmap": maps.DIFFERENCE_COLOURS}
    for row, lead in zip(panels, leads, strict=True):
        forecast, truth = values.forecast[case, lead], values.truth[case, lead]
        shown = ((forecast, ends), (truth, ends), (forecast - truth, apart))
        drawn = [
            _map(axes, atlas, *each) for axes, each in zip(row, shown, strict=True)
        ]
        row[0].set_ylabel(f"+{atlas.leads[lead]:g} h")
        one = next(m for m in atlas.maps[title] if (m.case, m.lead) == (case, lead))
        error = f"{wording.number_of(one.rmse)} {scale.units}".strip()
        row[2].set_xlabel(f"RMSE {error}")
    for axes, word in zip(
        panels[0], ("forecast", "truth", "forecast − truth"), strict=True
    ):
        axes.set_title(word)
    below_all = {
        "location": "bottom",
        "aspect": 40,
        "shrink": 0.8,
        "label": scale.units,
    }
    figure.colorbar(drawn[0], ax=panels[:, :2], **below_all)
    figure.colorbar(drawn[2], ax=panels[:, 2], **{**below_all, "aspect": 20})
    return figure


def _map(axes: Any, atlas: maps.Atlas, values: Any, colours: dict[str, Any]) -> Any:
    """Draw one field, with the coast, and a frame around the points that count."""
    from matplotlib.collections import LineCollection
    from matplotlib.patches import Rectangle

    columns, rows = atlas.size
    place = (0, columns, rows, 0)
    drawn = axes.imshow(values, extent=place, interpolation="none", **colours)
    axes.add_collection(
        LineCollection(atlas.coastlines, colors="black", linewidths=0.5)
    )
    left, top, across, down = atlas.inside
    frame: dict[str, Any] = {"fill": False, "linestyle": (0, (4, 3)), "linewidth": 0.8}
    edge = "0.35" if colours["cmap"] == maps.DIFFERENCE_COLOURS else "white"
    axes.add_patch(Rectangle((left, top), across, down, edgecolor=edge, **frame))
    axes.set(xticks=[], yticks=[], xlim=(0, columns), ylim=(rows, 0))
    axes.spines[:].set_visible(True)
    return drawn
