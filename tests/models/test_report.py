"""The report: experiments on common cases, ranked as their errors are, on a page that needs nothing else."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from mllam_exps.attempts import tracked
from mllam_exps.attempts.tracked import Synced
from mllam_exps.base.errors import MllamError, UsageError
from mllam_exps.commands.reading import report
from mllam_exps.dvc.saved import experiment_refs
from mllam_exps.dvc.saved.experiment_refs import Saved
from mllam_exps.runs.store import RunStore
from mllam_exps.stages.neural_lam.reporting import (
    charts,
    content,
    details,
    figures,
    notation,
    page,
)
from mllam_exps.stages.neural_lam.reporting.comparison import BASELINES, Comparison
from mllam_exps.stages.neural_lam.reporting.evidence import (
    Ancestor,
    Background,
    Evidence,
)
from mllam_exps.verification import differences
from mllam_exps.views.context import Context
from mllam_exps.views.histories import Histories, History

CASES = np.datetime64("2025-01-01T00", "ns") + np.arange(80) * np.timedelta64(24, "h")
LEADS = np.array([6, 12, 24]) * np.timedelta64(1, "h").astype("m8[ns]")


def evidence(
    folder: Path, name: str, factor: float, cases: slice = slice(None), truth: int = 1
) -> Evidence:
    """An experiment whose errors are so many times those of persistence, case by case, and a little chance."""
    persistence = np.random.default_rng(truth).uniform(1, 2, (len(CASES), len(LEADS)))
    chance = np.random.default_rng(sum(map(ord, name))).normal(
        1, 0.02, persistence.shape
    )
    values = np.stack([factor * chance * persistence, persistence, 1.5 * persistence])
    dims = ("forecast_source", "init_time", "lead_time")
    coords = {
        "forecast_source": ["experiment", "persistence", "climatology"],
        "init_time": CASES,
        "lead_time": LEADS,
    }
    scores = xr.Dataset(
        {
            f"rmse.{v}": (
                dims,
                values * size,
                {"units": u, "long_name": f"root mean square error of {spelled}"},
            )
            for v, size, u, spelled in (
                ("t2m", 1, "K", "2 m temperature"),
                ("msl", 90, "Pa", "msl"),
            )
        },
        coords,
    )
    place = folder / name.replace("/", "_")
    scores.isel(init_time=cases).to_zarr(place / "verification/scores.zarr")
    (place / "plots/forecasts").mkdir(parents=True)
    (place / "plots/loss.csv").write_text("epoch,train,validation\n1,2.0,3.0\n2,1.0,\n")
    (place / "plots/forecasts/t2m_+006h.png").write_bytes(b"\x89PNG picture")
    return Evidence(name, place, "c" * 40, {"width": factor})


def test_the_ranking_is_that_of_the_errors_on_common_cases(tmp_path: Path):
    good = evidence(tmp_path, "good", 0.8, slice(10, None))
    bad = evidence(tmp_path, "bad", 1.1, slice(None, 70))
    compared = Comparison([bad, good])
    assert compared.cases == 60
    assert compared.period == ("2025-01-11T00:00", "2025-03-11T00:00")
    [first, second] = compared.ranking
    assert [first.evidence.name, second.evidence.name] == ["good", "bad"]
    assert first.skill == pytest.approx(0.2, abs=0.01)
    assert second.skill == pytest.approx(-0.1, abs=0.01)
    # By hand: the root of the mean of the squares, over the common cases alone.
    scores = good.scores["rmse.t2m"].sel(forecast_source="experiment")
    own = scores.sel(init_time=CASES[10:70])
    by_hand = np.sqrt((own.values**2).mean(axis=0))
    assert [value for _, value in compared.curve("t2m", "good")] == pytest.approx(
        list(by_hand)
    )


def test_a_card_says_how_much_and_whether_it_is_sure(tmp_path: Path):
    compared = Comparison(
        [evidence(tmp_path, "good", 0.8), evidence(tmp_path, "same", 1.0)]
    )
    card = compared.card("good", "persistence")
    assert card.verdict == "better in 6 of 6"
    for cells in card.rows.values():
        assert [cell.lead for cell in cells] == [6, 12, 24]
        assert all(
            cell.percent == pytest.approx(-20, abs=1) and cell.is_sure for cell in cells
        )
        assert {cell.cases for cell in cells} == {80}
        assert notation.mark(cells[0]) == "▼"
    against = compared.card("same", "good")
    assert against.verdict == "worse in 6 of 6"
    assert notation.mark(against.rows["t2m"][0]) == "▲"
    with pytest.raises(UsageError, match="no source is called nobody"):
        compared.card("good", "nobody")


def test_too_few_cases_are_not_called_sure(tmp_path: Path):
    compared = Comparison([evidence(tmp_path, "few", 0.5, slice(0, 5))])
    card = compared.card("few", "persistence")
    assert "too few independent cases" in card.verdict
    assert {notation.mark(cell) for cell in card.rows["t2m"]} == {"?"}


def test_what_cannot_be_compared_is_refused(tmp_path: Path):
    one = evidence(tmp_path, "one", 1.0, slice(0, 40))
    later = evidence(tmp_path, "later", 1.0, slice(40, None))
    with pytest.raises(UsageError, match="one, later: have no start in common"):
        Comparison([one, later])
    other = evidence(tmp_path, "other", 1.0, truth=2)
    with pytest.raises(UsageError, match="were scored on different data"):
        Comparison([one, other])
    with pytest.raises(UsageError, match="its forecasts were not scored"):
        Comparison([Evidence("none", tmp_path / "nowhere")])


class Found(HTMLParser):
    """What a page holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.fetched: list[str] = []
        self.scripts = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta", "img", "input"}:
            self.open.append(tag)
        self.scripts += tag == "script"
        self.fetched += [
            str(value)
            for name, value in attrs
            if name in {"src", "href"} and not str(value).startswith(("data:", "#"))
        ]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_is_whole_and_fetches_and_runs_nothing(tmp_path: Path):
    names = ("good", "<b>&bad")
    compared = Comparison(
        [evidence(tmp_path, name, 0.8 + n) for n, name in enumerate(names)]
    )
    out = tmp_path / "report.html"
    shown = content.of(compared, ["persistence", "good"])
    page.write(out, shown, "mllam-exps report good")
    assert [(card.name, card.reference) for card in shown.cards] == [
        ("good", "persistence"),
        ("<b>&bad", "persistence"),
        ("<b>&bad", "good"),
    ]
    text = out.read_text()
    found = Found(text)
    assert found.open == []
    assert (found.scripts, found.fetched) == (0, [])
    assert not re.search(r"https?://|<b>", text)
    said = "".join(found.words)
    for word in (
        "2 experiments, on 80 forecasts",
        "t2m (2 m temperature)",
        "not recorded here",
        "<b>&bad",
        "better in 6 of 6",
        "▼",
        "width",
        "dvc exp apply cccc",
        "# <b>&bad",
    ):
        assert word in said, word
    assert re.search(r"−(19|20)\.\d ▼", said)
    assert text.count("data:image/png;base64,") == 2
    assert "default-src 'none'" in text


def opened(text: str) -> dict[str, list[list[str]]]:
    """The tables that cells of the scorecards open, by their place in the page."""
    found = {}
    for place, inner in re.findall(
        r'<section class="detail" id="(.*?)"(.*?)</section>', text, re.DOTALL
    ):
        body = inner.partition("<tbody>")[2]
        rows = re.findall(r"<tr>(.*?)</tr>", body)
        found[place] = [re.findall(r">([^<]+)<", row) for row in rows]
    return found


def test_a_cell_opens_intervals_errors_and_cases(tmp_path: Path):
    compared = Comparison(
        [evidence(tmp_path, name, 0.8 + n) for n, name in enumerate(("good", "<bad>"))]
    )
    out = tmp_path / "report.html"
    page.write(out, content.of(compared, ["persistence", "good"]), "typed")
    text = out.read_text()
    tables = opened(text)
    # Every cell leads to its lead time in one of them, without a script.
    links = re.findall(r'<td[^>]*><a href="#(.*?)">', text)
    assert len(links) == len(set(links)) == 3 * 2 * 3
    assert {link.rpartition("-")[0] for link in links} == set(tables)
    assert all(f'id="{link}"' in text for link in links)
    # The third scorecard is that of the second experiment against the first.
    row = tables["s2-1"][2]
    assert compared.scores["rmse.t2m"].attrs["units"] == "K"
    pair = compared.scores[["rmse.t2m"]]
    said = differences.compare(pair, "good").sel(forecast_source="<bad>").isel(lead_time=2)  # fmt: skip
    mean = float(said["difference.rmse.t2m"])
    ends = [[float(said[f"{end}.rmse.t2m"][n]) for end in ("lower", "upper")] for n in range(3)]  # fmt: skip
    assert row[:2] == ["24", "80"]
    assert row[2] == f"+{mean:.2f}"
    assert row[3:6] == [f"+{low:.2f} to +{high:.2f}" for low, high in ends]
    errors = [compared.curve("t2m", name)[2][1] for name in ("<bad>", "good", *BASELINES)]  # fmt: skip
    assert row[6:] == [f"{error:.4g}" for error in errors]
    section = text[text.index('id="s2-1"') :]
    assert "&lt;bad&gt; against good" in section.partition("</h4>")[0]
    assert [section.count(f'class="reach r{n}"') for n in range(3)] == [1, 1, 1]
    few = Comparison([evidence(tmp_path, "few", 0.5, slice(0, 5))])
    page.write(out, content.of(few, ["persistence"]), "typed")
    assert opened(out.read_text())["s0-0"][0][1] == "5"
    assert opened(out.read_text())["s0-0"][0][3:6] == ["–"] * 3
    assert "too few independent cases for an interval" in out.read_text()
    assert 'class="reach' not in out.read_text()


def test_spread_and_crps_are_of_the_cases_that_count(tmp_path: Path):
    single = evidence(tmp_path, "single", 0.8, slice(40, None))
    ensemble = evidence(tmp_path, "ensemble", 0.7)
    error = ensemble.scores["rmse.t2m"]
    # At first it was another ensemble; persistence has no spread, and its CRPS is its error.
    early = xr.where(error.init_time < CASES[40], 9.0, 1.0)
    own = error.where(error.forecast_source == "experiment")
    found = {"spread.t2m": own * early, "crps.t2m": error * early}
    ensemble.__dict__["scores"] = ensemble.scores.assign(found)
    compared = Comparison([single, ensemble])
    for (_, spread), (_, rmse) in zip(
        compared.spread("t2m", "ensemble"),
        compared.curve("t2m", "ensemble"),
        strict=True,
    ):
        assert spread == pytest.approx(rmse)
    of_persistence = error.sel(forecast_source="persistence").isel(init_time=np.s_[40:])
    mean = of_persistence.mean("init_time").values
    crps = compared.crps("t2m", "persistence")
    assert [value for _, value in crps] == pytest.approx(list(mean))
    assert compared.spread("t2m", "persistence") == []
    assert compared.spread("t2m", "single") == compared.crps("msl", "ensemble") == []


def test_where_there_is_no_room_a_cell_opens_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shown = content.of(Comparison([evidence(tmp_path, "one", 0.8)]), list(BASELINES))
    told = shown.compared, shown.cards, shown.names
    first = details.of(*told)[0]
    monkeypatch.setattr(details, "ROOM", 1.5 * sum(len(one.encode()) for one in first.values()))  # fmt: skip
    assert [len(each) for each in details.of(*told)] == [2, 0]
    page.write(tmp_path / "report.html", shown, "typed")
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "a report of one alone has them" in text
    assert len(re.findall(r'<td[^>]*><a href="#', text)) == 6
    Found(text)


def test_the_page_says_what_they_took_and_where_they_come_from(tmp_path: Path):
    first, second = (evidence(tmp_path, name, 0.8) for name in ("first", "second"))
    tree = (Ancestor(0, "train of first: done", False), Ancestor(1, "train <2>", True))
    programs = {"torch": "2.13.0", "numpy": "2.4.6", "zarr": "3.1"}
    one = replace(first, background=Background("3 node hours: train 3", (), programs))
    own = Background("5 node hours: train 5", tree, programs | {"zarr": "3.2"})
    out = tmp_path / "report.html"
    compared = Comparison([one, replace(second, background=own)])
    page.write(out, content.of(compared, []), "")
    said = "".join(Found(out.read_text()).words)
    for word in ("3 node hours: train 3", "train of first: done", "train <2>"):
        assert word in said, word
    assert "from which second goes on" in said
    assert "from which first goes on" not in said
    # Of programs the main ones, and those that differ.
    assert "torch" in said
    assert re.search(r"zarr\s*3.1\s*3.2|zarr\s*3.2\s*3.1", said)
    assert "numpy" not in said


def test_pictures_that_there_is_no_room_for_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(page, "PICTURE_BYTES", 20)
    compared = Comparison([evidence(tmp_path, name, 1.0) for name in ("one", "two")])
    out = tmp_path / "report.html"
    page.write(out, content.of(compared, ["persistence"]), "")
    text = out.read_text()
    assert text.count("data:image/png") == 1
    assert "1 more pictures lie in" in text


def test_no_two_lines_look_alike():
    most = content.DRAWN + len(BASELINES)
    kinds = (len(charts.COLOURS), len(charts.DASHES))
    assert len({tuple(n % kind for kind in kinds) for n in range(most)}) == most


def test_names_at_the_ends_of_lines_do_not_lie_on_each_other():
    drawn = charts.lines(
        {f"n{n}": [(0, 1), (1, 1 + n / 1000)] for n in range(6)}, "x", "y", "t"
    )
    heights = sorted(
        float(y) for y in re.findall(r'class="name[^>]* y="([\d.]+)"', drawn)
    )
    assert len(heights) == 6
    assert min(np.diff(heights)) >= 13
    assert charts.lines({"nothing": [(0, float("nan"))]}, "x", "y", "t") == ""
    [one] = re.findall(
        'points="([^"]*)"', charts.lines({"one": [(6, 2.0)]}, "x", "y", "t")
    )
    (left, height), (right, same) = (point.split(",") for point in one.split())
    assert float(left) < float(right), "a line of one point is not seen"
    assert height == same


def changed(one: Evidence, **scores: float) -> Evidence:
    """An experiment of which a score of its own, or of all sources, is another everywhere, or at the last lead time."""
    found = one.scores.copy(deep=True)
    for name, value in scores.items():
        whose, _, variable = name.partition("_")
        at = {"own": np.s_[0], "all": np.s_[:], "last": np.s_[0, 40:, -1]}[whose]
        found[f"rmse.{variable}"].values[at] = value
    one.__dict__["scores"] = found
    return one


@pytest.mark.parametrize(
    "scores",
    [{"own_msl": np.nan}, {"all_msl": np.nan}, {"all_msl": 0.0}, {"own_msl": np.inf}],
)
def test_what_has_no_error_to_compare_ranks_nobody(
    tmp_path: Path, scores: dict[str, float]
):
    is_all = any(name.startswith("all") for name in scores)
    worst = evidence(tmp_path, "worst", 0.9)
    compared = Comparison(
        [
            changed(evidence(tmp_path, "middle", 0.8), **scores),
            changed(worst, **scores) if is_all else worst,
            changed(evidence(tmp_path, "best", 0.7), **scores),
        ]
    )
    names = [place.evidence.name for place in compared.ranking]
    assert names == ["best", "middle", "worst"]
    assert compared.ranking[0].skill == pytest.approx(0.3, abs=0.01)
    nowhere = {"own_msl": ["msl"], "all_msl": ["msl"]}
    if np.isnan(next(iter(scores.values()))):
        assert compared.left_out == nowhere[next(iter(scores))]
    page.write(tmp_path / "report.html", content.of(compared, ["persistence"]), "typed")
    assert ">nan" not in (tmp_path / "report.html").read_text("utf-8")


def test_a_hole_in_one_experiment_is_a_hole_in_all(tmp_path: Path):
    whole, holed = evidence(tmp_path, "whole", 0.8), evidence(tmp_path, "holed", 0.8)
    # The hard cases, with twice the error, are those that one of them lacks.
    for one in (whole, holed):
        one.scores["rmse.msl"].values[:2, 40:, -1] *= 2
    compared = Comparison([whole, changed(holed, last_msl=np.nan)])
    by_hand = np.sqrt((whole.scores["rmse.msl"].values[0, :40, -1] ** 2).mean())
    assert compared.curve("msl", "whole")[-1][1] == pytest.approx(by_hand)


def test_lead_times_and_variables_that_one_lacks_are_left_out(tmp_path: Path):
    short = evidence(tmp_path, "short", 0.8)
    found = short.scores.isel(lead_time=slice(2)).drop_vars("rmse.msl")
    short.__dict__["scores"] = found
    compared = Comparison([evidence(tmp_path, "long", 0.9), short])
    assert (compared.variables, compared.leads) == (["t2m"], [6, 12])
    assert sorted(compared.left_out) == ["24 h", "msl"]
    page.write(tmp_path / "report.html", content.of(compared, ["persistence"]), "typed")
    assert "msl, 24 h" in (tmp_path / "report.html").read_text("utf-8")


def test_experiments_of_one_name_are_told_apart():
    first, second, third = (
        Saved(f"refs/exps/aa/{number}/{name}", number * 40, name, 0.0)
        for number, name in (("1", "twice"), ("2", "twice"), ("3", "persistence"))
    )
    alone = Saved("refs/exps/aa/4/once", "4" * 40, "once", 0.0)
    assert list(report._labels([first, second, third, alone]).values()) == [
        "twice (11111111)",
        "twice (22222222)",
        "persistence (33333333)",
        "once",
    ]


def test_figures_show_what_the_page_does(tmp_path: Path):
    compared = Comparison([evidence(tmp_path, "a_$x$", 0.8)])
    shown = content.of(compared, ["persistence", "climatology"])
    drawn = {"_".join(words): figure for words, figure in figures._figures(shown)}
    assert sorted(drawn) == [
        "loss_a_$x$",
        "rmse_msl",
        "rmse_t2m",
        "scorecard_a_$x$_against_climatology",
        "scorecard_a_$x$_against_persistence",
    ]
    card, curves = drawn["scorecard_a_$x$_against_persistence"], drawn["rmse_t2m"]
    cells = [cell for row in shown.cards[0].rows.values() for cell in row]
    written = [f"{notation.percent(one)} {notation.mark(one)}" for one in cells]
    assert [text.get_text() for text in card.axes[0].texts] == written
    assert "▼ ▲ more than chance at 95 %" in card.get_supxlabel()
    frames = [patch for patch in card.axes[0].patches if not patch.get_fill()]
    assert len(frames) == len(cells)
    for word in ("a_$x$ against persistence", "80 forecasts", "2025-01-01 00:00"):
        assert word in card.get_suptitle()
    assert "t2m (2 m temperature)" in curves.get_suptitle()
    [axes] = curves.axes
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["a_$x$", "persistence", "climatology"]
    for line, name in zip(axes.lines, names, strict=True):
        points = [(float(x), float(y)) for x, y in line.get_xydata()]
        assert points == compared.curve("t2m", name)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("lead time in hours", "RMSE in K")
    assert len({line.get_linestyle() for line in axes.lines}) > 1


@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_figures_are_files_of_the_same_bytes_each_time(tmp_path: Path, kind: str):
    compared = Comparison([evidence(tmp_path, "a/$b$", 0.8)])
    loss = content.of(compared, []).losses["a/$b$"]
    shown = replace(
        content.of(compared, []), curves={}, losses={"a/$b$": loss, "a b": loss}
    )
    first = figures.write(tmp_path, shown, kind)
    assert [path.name for path in first] == [f"loss_a-b.{kind}", f"loss_a-b-2.{kind}"]
    before = first[0].read_bytes()
    assert before.startswith({"png": b"\x89PNG", "pdf": b"%PDF"}[kind])
    assert figures.write(tmp_path, shown, kind) == first
    assert first[0].read_bytes() == before


def test_a_folder_that_cannot_be_is_refused_before_anything_is_read(tmp_path: Path):
    file = tmp_path / "file"
    file.touch()
    for folder in (file, tmp_path / "no" / "where"):
        with pytest.raises(UsageError, match="no folder to write figures to"):
            report._make_folder("pdf", folder)


def test_what_cannot_be_added_in_mlflow_is_refused_or_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    two = [Saved(f"refs/exps/{one}", one, one, 1.0) for one in ("wide-1", "wide-2")]
    monkeypatch.setattr(experiment_refs, "saved", lambda _: two)
    for words in (["wide-1", "wide-2"], ["wide-*"]):
        with pytest.raises(UsageError, match="page of one experiment") as refused:
            report._run_in_mlflow(tmp_path, words)
        assert refused.value.problem.next == "mllam-exps report wide-1 --mlflow"
    monkeypatch.setattr(Histories, "of_workspace", lambda _: History([], [], []))
    with pytest.raises(UsageError, match="workspace has no run in MLflow"):
        report._run_in_mlflow(tmp_path, [])
    run = RunStore(tmp_path).run(f"evaluate-{'a' * 32}")
    kept: list[Path] = []
    monkeypatch.setattr(tracked, "keep_file", lambda run, page, name: kept.append(page))
    away = Synced(run.key, 0, "the server does not answer")
    monkeypatch.setattr(tracked, "sync", lambda run, start: away)
    here = SimpleNamespace(machine=None, workspace=SimpleNamespace(root=tmp_path))
    monkeypatch.setattr(Context, "open", lambda: here)
    with pytest.raises(MllamError, match=r"kept for MLflow.*not answer") as told:
        report._add(tmp_path / "report.html", run)
    assert kept == [tmp_path / "report.html"]
    assert told.value.next == "mllam-exps track sync"


def test_as_a_stage_the_same_files_give_the_same_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = evidence(tmp_path, "mine", 0.8).folder
    (folder / "version.mllam.txt").write_text("torch: 2.13.0\n")
    monkeypatch.chdir(folder)
    page = Path("plots/report.html")
    # There is no repository, as nothing but these files counts.
    report.report([], out=page, references=[], figures={}, here=True)
    text = page.read_text()
    said = "".join(Found(text).words)
    for word in ("2.13.0", "mllam-exps report --here -o plots/report.html"):
        assert word in said, word
    cached = tmp_path / "cached"
    cached.hardlink_to(page)
    report.report([], out=page, references=[], figures={}, here=True)
    assert page.read_text() == text
    # What DVC's cache holds under another name is not written over.
    report.report([], out=page, references=["climatology"], figures={}, here=True)
    assert page.read_text() != text
    assert cached.read_text() == text
    for names, in_mlflow in ((["mine"], False), ([], True)):
        with pytest.raises(UsageError, match="files of this folder alone"):
            report.report(names, out=page, references=[], figures={}, in_mlflow=in_mlflow, here=True)  # fmt: skip
