"""The report: experiments on common cases, ranked as their errors are, on a page that needs nothing else."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from mllam_exps.base.errors import UsageError
from mllam_exps.stages.neural_lam.reporting import charts, page
from mllam_exps.stages.neural_lam.reporting.comparison import Comparison
from mllam_exps.stages.neural_lam.reporting.evidence import Evidence

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
            f"rmse.{v}": (dims, values * size, {"units": u})
            for v, size, u in (("t2m", 1, "K"), ("msl", 90, "Pa"))
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
        assert page.mark(cells[0]) == "▼"
    against = compared.card("same", "good")
    assert against.verdict == "worse in 6 of 6"
    assert page.mark(against.rows["t2m"][0]) == "▲"
    with pytest.raises(UsageError, match="no source is called nobody"):
        compared.card("good", "nobody")


def test_too_few_cases_are_not_called_sure(tmp_path: Path):
    compared = Comparison([evidence(tmp_path, "few", 0.5, slice(0, 5))])
    card = compared.card("few", "persistence")
    assert "cannot be judged" in card.verdict
    assert {page.mark(cell) for cell in card.rows["t2m"]} == {"?"}


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
        if tag not in {"meta", "img"}:
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
        pass

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_is_whole_and_fetches_and_runs_nothing(tmp_path: Path):
    names = ("good", "<b>&bad")
    compared = Comparison(
        [evidence(tmp_path, name, 0.8 + n) for n, name in enumerate(names)]
    )
    out = tmp_path / "report.html"
    cards = page.write(out, compared, ["persistence", "good"], "mllam-exps report good")
    assert [(card.name, card.reference) for card in cards] == [
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
        "<b>&bad",
        "better in 6 of 6",
        "▼",
        "width",
        "dvc exp apply good",
        "dvc exp apply '<b>&bad'",
    ):
        assert word in said, word
    assert re.search(r"−(19|20)\.\d ▼", said)
    assert text.count("data:image/png;base64,") == 2
    assert "default-src 'none'" in text


def test_pictures_that_there_is_no_room_for_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(page, "PICTURE_BYTES", 15)
    compared = Comparison([evidence(tmp_path, name, 1.0) for name in ("one", "two")])
    out = tmp_path / "report.html"
    page.write(out, compared, ["persistence"], "")
    text = out.read_text()
    assert text.count("data:image/png") == 1
    assert "1 more pictures lie in" in text


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
