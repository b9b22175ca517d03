"""neural-lam's arguments as data: values checked, written for its parser, remembered, and read from parsers."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mllam_exps.base.errors import UsageError
from mllam_exps.stages.neural_lam.parameters import arguments
from mllam_exps.stages.neural_lam.parameters.arguments import Argument, Arguments
from mllam_exps.stages.neural_lam.programs import tell_arguments

SHIPPED = (
    Path(arguments.__file__).with_name("known_arguments") / "neural-lam-0.7.0.json"
)
INTEGER = Argument("n", "--n", "int")
INTEGERS = Argument("ns", "--ns", "int", many=True, default=[1])
NUMBER = Argument("lr", "--lr", "float")
TEXT = Argument("name", "--name", "str")
TEXTS = Argument("names", "--names", "str", many=True, default=[])
FLAG = Argument("flag", "--flag", "bool", default=False)
CHOICE = Argument(
    "precision", "--precision", "str", choices=("32", "16-mixed", "bf16-mixed")
)


@pytest.fixture(scope="module")
def shipped() -> Arguments:
    return Arguments.from_json(SHIPPED.read_text())


@pytest.mark.parametrize(
    ("argument", "value", "argv"),
    [
        (INTEGER, 3, ["--n=3"]),
        (INTEGER, -1, ["--n=-1"]),
        (INTEGER, None, []),
        (INTEGERS, [1, 2], ["--ns", "1", "2"]),
        (INTEGERS, 4, ["--ns", "4"]),
        (NUMBER, 1, ["--lr=1.0"]),
        (NUMBER, "1e-3", ["--lr=0.001"]),
        (NUMBER, "-.5E+2", ["--lr=-50.0"]),
        (NUMBER, 0.25, ["--lr=0.25"]),
        (TEXT, "-x", ["--name=-x"]),
        (TEXTS, [], []),
        (TEXTS, ["a", "b"], ["--names", "a", "b"]),
        (FLAG, True, ["--flag"]),
        (FLAG, False, []),
        (TEXTS, None, []),
        (CHOICE, 32, ["--precision=32"]),
        (CHOICE, "bf16-mixed", ["--precision=bf16-mixed"]),
    ],
)
def test_good_values_are_written_for_the_parser(
    argument: Argument, value: object, argv: list[str]
) -> None:
    assert argument.problem(value) == ""
    assert argument.argv(value) == argv


@pytest.mark.parametrize(
    ("argument", "value", "problem"),
    [
        (INTEGER, True, "must be an integer, not True"),
        (INTEGER, 1.0, "must be an integer, not 1.0"),
        (INTEGER, "1", "must be an integer, not '1'"),
        (INTEGER, [1], "must be an integer, not a list"),
        (INTEGERS, [1, True], "must be an integer, not True"),
        (
            INTEGERS,
            [],
            "must not be an empty list: leave the key out for neural-lam's default",
        ),
        (NUMBER, False, "must be a number, not False"),
        (NUMBER, "fast", "must be a number, not 'fast'"),
        (NUMBER, "1e-3x", "must be a number, not '1e-3x'"),
        (NUMBER, float("nan"), "must be a number, not nan"),
        (NUMBER, float("inf"), "must be a number, not inf"),
        (TEXT, 3, "must be text, not 3"),
        (TEXTS, ["--load"], "'--load' would be taken for an option of neural-lam"),
        (FLAG, 1, "must be true or false, not 1"),
        (FLAG, "yes", "must be true or false, not 'yes'"),
        (CHOICE, True, "must be one of 32, 16-mixed, bf16-mixed, not True"),
        (
            CHOICE,
            "bf16mixed",
            "must be one of 32, 16-mixed, bf16-mixed, not 'bf16mixed'; did you mean bf16-mixed?",
        ),
    ],
)
def test_wrong_values_are_told(argument: Argument, value: object, problem: str) -> None:
    assert argument.problem(value) == problem


def test_written_arguments_are_read_back_by_a_parser_of_that_kind(
    shipped: Arguments,
) -> None:
    parser = argparse.ArgumentParser()
    types = {"int": int, "float": float, "str": str}
    for item in shipped.train.values():
        if item.type == "bool":
            parser.add_argument(item.flag, dest=item.name, action="store_true")
        else:
            nargs = "+" if item.many else None
            parser.add_argument(
                item.flag, dest=item.name, type=types[item.type], nargs=nargs
            )
    given = {
        "logger_project": "--seed",
        "val_steps_to_log": [1, 2],
        "metrics_watch": ["val_rmse"],
        "create_gif": True,
        "output_std": False,
        "lr": 0.5,
        "precision": "bf16-mixed",
    }
    read = parser.parse_args(
        [
            word
            for key, value in given.items()
            for word in shipped.train[key].argv(value)
        ]
    )
    assert {key: getattr(read, key) for key in given} == given


def test_what_ships_has_the_choices_that_only_the_code_knows(
    shipped: Arguments,
) -> None:
    assert shipped.version == "0.7.0"
    assert shipped.train["mesh_aggr"].choices == ("sum", "mean")
    assert {"wmse", "nll", "crps_gauss"} <= set(shipped.train["loss"].choices)
    assert {"32", "16-mixed", "bf16-mixed", "64-true"} <= set(
        shipped.train["precision"].choices
    )
    assert shipped.train["logger_project"].flag == "--logger-project"
    assert shipped.train["val_steps_to_log"].many
    assert shipped.train["val_steps_to_log"].default == [1, 2, 3, 5, 10]
    assert shipped.train["create_gif"].type == "bool"
    assert shipped.hierarchical == ("hi_lam", "hi_lam_parallel")
    assert shipped.graph["archetype"].choices == (
        "keisler",
        "graphcast",
        "hierarchical",
    )
    assert shipped.config["ManualStateFeatureWeighting"] == ("weights",)


def test_json_goes_round(shipped: Arguments) -> None:
    assert Arguments.from_json(shipped.to_json()) == shipped


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mllam-exps"


def pretend(
    monkeypatch: pytest.MonkeyPatch, found: arguments.Installed, answer: Arguments
) -> list[str]:
    """Pretend that neural-lam is installed so; return the list in which each costly extraction is noted."""
    asked: list[str] = []

    def extract(python: str | Path) -> Arguments:
        asked.append(str(python))
        return answer

    monkeypatch.setattr(arguments, "installed", lambda _: found)
    monkeypatch.setattr(arguments, "extract", extract)
    return asked


def test_a_release_that_ships_with_us_costs_nothing(
    cache: Path, monkeypatch: pytest.MonkeyPatch, shipped: Arguments
) -> None:
    asked = pretend(monkeypatch, arguments.Installed("0.7.0"), shipped)
    assert arguments.known("python") == shipped
    assert not asked
    assert not cache.exists()


def test_another_version_is_asked_once(
    cache: Path, monkeypatch: pytest.MonkeyPatch, shipped: Arguments
) -> None:
    asked = pretend(monkeypatch, arguments.Installed("0.8.0"), shipped)
    assert arguments.known("python") == arguments.known("python") == shipped
    assert asked == ["python"]
    assert [path.name for path in cache.iterdir()] == ["neural-lam-0.8.0.json"]
    (cache / "neural-lam-0.8.0.json").write_text('{"version": "0.8')
    assert arguments.known("python") == shipped
    assert len(asked) == 2


def test_a_development_install_is_known_by_its_sources(
    cache: Path, monkeypatch: pytest.MonkeyPatch, shipped: Arguments
) -> None:
    asked = pretend(monkeypatch, arguments.Installed("0.7.0", shipped.sources), shipped)
    arguments.known("python")
    assert not asked  # a checkout of the release itself
    asked = pretend(monkeypatch, arguments.Installed("0.7.0", "f" * 64), shipped)
    arguments.known("python")
    asked = pretend(monkeypatch, arguments.Installed("0.7.0", "e" * 64), shipped)
    arguments.known("python")
    assert len(asked) == 1
    assert len(list(cache.iterdir())) == 2


def test_a_cache_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shipped: Arguments
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    pretend(monkeypatch, arguments.Installed("0.8.0"), shipped)
    assert arguments.known("python") == shipped


@pytest.mark.parametrize(
    ("prints", "code", "told"),
    [
        ("", 0, "is no Python that answers"),
        ("hello", 0, "is no Python that answers"),
        (
            "",
            1,
            "neural-lam's arguments could not be read: it went wrong",
        ),
    ],
)
def test_an_environment_that_does_not_answer_is_told(
    tmp_path: Path, prints: str, code: int, told: str
) -> None:
    python = tmp_path / "python"
    lines = ["#!/bin/sh", f"echo '{prints}'", "echo 'it went wrong' >&2"]
    python.write_text("\n".join([*lines, f"exit {code}"]))
    python.chmod(0o755)
    with pytest.raises(UsageError) as caught:
        arguments.extract(python)
    assert caught.value.problem.sentence == f"{python}: {told}"


def test_an_environment_without_input_answers(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@" < /dev/null\n')
    python.chmod(0o755)
    assert "version" in arguments._ask(python, "installed", seconds=60)


def test_an_environment_that_takes_too_long_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(command: list[str], *, timeout: float, **_: object) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(UsageError, match=r"did not tell .* within 300 s"):
        arguments.extract("python")


def test_a_parser_is_taken_from_the_program_that_makes_it() -> None:
    def program(argv: list[str]) -> None:
        parser = argparse.ArgumentParser()
        parser.add_argument("--lr", type=float, default=0.1, help="how\n  fast")
        parser.add_argument("--loss", default="mse")
        parser.add_argument("--model", choices=[1, 2], required=True)
        parser.add_argument("--steps", nargs="+", type=int)
        parser.add_argument("--no-gif", dest="gif", action="store_false")
        parser.parse_args(argv)
        raise AssertionError("it went on")

    parser = tell_arguments._parser_of(program)
    described = tell_arguments._described(parser, {"loss": ["mse", "mae"]})
    found = {item["name"]: Argument(**item) for item in described}
    assert list(found) == ["lr", "loss", "model", "steps", "gif"]
    assert found["lr"] == Argument(
        "lr", "--lr", "float", choices=[], default=0.1, help="how fast"
    )
    assert found["loss"].choices == ["mse", "mae"]
    assert (found["model"].choices, found["model"].required) == (["1", "2"], True)
    assert (found["steps"].many, found["steps"].type) == (True, "int")
    assert (found["gif"].flag, found["gif"].type) == ("--no-gif", "bool")
    # The parser is itself again.
    assert argparse.ArgumentParser().parse_args([]) == argparse.Namespace()
    with pytest.raises(RuntimeError, match="has no parser"):
        tell_arguments._parser_of(lambda _argv: None)


class Distribution:
    """An installed neural-lam."""

    version = "9.9"

    def __init__(self, place: Path, origin: dict[str, object] | None) -> None:
        self.place, self.origin = place, origin

    def read_text(self, _name: str) -> str | None:
        return None if self.origin is None else json.dumps(self.origin)

    def locate_file(self, name: str) -> Path:
        return self.place / name


@pytest.mark.parametrize("layout", ["", "src/"])
def test_sources_are_those_of_the_checkout_where_it_is_installed_from_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    def found(origin: dict[str, object] | None) -> dict[str, str]:
        distribution = Distribution(tmp_path / "site", origin)
        monkeypatch.setattr(
            tell_arguments.metadata, "distribution", lambda _: distribution
        )
        return tell_arguments.installed()

    checkout = tmp_path / "a checkout"
    sources = checkout / f"{layout}neural_lam"
    sources.mkdir(parents=True)
    url = "file://" + str(checkout).replace(" ", "%20")
    editable: dict[str, object] = {"url": url, "dir_info": {"editable": True}}
    assert found(None) == {"version": "9.9", "sources": ""}
    before = found(editable)
    (sources / "metrics.py").write_text("another metric")
    assert found(editable) != before
    # Of a revision that was installed once, what was installed counts.
    assert found({"url": url, "vcs_info": {}}) == before
    (tmp_path / "site/neural_lam").mkdir(parents=True)
    (tmp_path / "site/neural_lam/metrics.py").write_text("another metric")
    assert found({"url": url, "vcs_info": {}}) == found(editable)
    sources.rename(tmp_path / "gone")
    assert found(editable) == found({"url": url, "vcs_info": {}})


def test_no_neural_lam_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def distribution(name: str) -> None:
        raise tell_arguments.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(tell_arguments.metadata, "distribution", distribution)
    assert tell_arguments.installed() == {}
    with pytest.raises(UsageError, match="neural-lam is not installed there"):
        arguments.installed()


def test_the_answer_is_the_last_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tell_arguments, "installed", lambda: {"version": "1"})
    tell_arguments.main("installed")
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"version": "1"}
