"""How many experiments `-S` means: counted before they are listed, and refused where they are too many."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from dvc.utils.hydra import to_hydra_overrides

from mllam_exps.base.errors import UsageError
from mllam_exps.dvc.parameters import overrides
from mllam_exps.repository.planning_clone import Base

TOO_MANY = {
    ("x=range(1,1000000000)",): "999,999,999 experiments",
    ("x=shuffle(range(1,1000000000))",): "999,999,999 experiments",
    ("x=range(0,1,1e-9)",): "1,000,000,000 experiments",
    # At this size a step of 1 is lost in rounding: Hydra would never come to the end.
    ("x=range(1e30,1e31,1)",): "experiments",
    ("x=range(0,1001)",): "1,001 experiments",
    ("x=range(0,40)", "y=range(0,40)"): r"1,600 experiments \(40 x 40\)",
    ("x=range(0,40)", "other.yaml:x=range(0,40)"): r"1,600 experiments \(40 x 40\)",
    (f"x={','.join(map(str, range(1001)))}",): "1,001 experiments",
}
UNREADABLE = {
    ("x=range(1,10,0)",): "step of a range must not be 0",
    ("x=range(0.0,1.0,0.0)",): "step of a range must not be 0",
    ("x=range(0,inf)",): "must be finite",
    ("x=range(0,nan)",): "must be finite",
    ("x=choice()",): "empty choice",
    ("x=interval(0,1)",): "not support",
    (f"x={'1' * 5000}",): "4300 digits",
    ("=1",): "names no parameter",
    ("params.yaml:+=1",): "names no parameter",
    ("/home/a/params.yaml:x=1",): "is an absolute path",
    ("../params.yaml:x=1",): "lies outside of the repository",
    (f"x={'[' * 3000}",): "cannot be read",
}


@pytest.mark.parametrize("words", TOO_MANY, ids=lambda words: words[0][:30])
def test_a_sweep_that_is_too_large_is_refused_with_its_size(words: tuple[str, ...]):
    with pytest.raises(UsageError, match=TOO_MANY[words]) as caught:
        overrides.variants(words, "n", Path())
    assert "at most 1,000" in caught.value.why
    assert "larger step" in caught.value.next
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("words", UNREADABLE, ids=lambda words: words[0][:30])
def test_a_value_that_cannot_be_read_is_refused_in_one_line(words: tuple[str, ...]):
    with pytest.raises(UsageError, match=UNREADABLE[words]) as caught:
        overrides.variants(words, "n", Path())
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("words", "number"),
    [
        (["x=range(0,1000)"], 1000),
        (["x=range(5,1,-1)"], 4),
        (["x=range(0.1,0.5,0.1)"], 4),
        (["x=float(range(1,4))"], 3),
        (["x=choice([1,2],{a:3})"], 2),
        # A key that is given twice has the last of its values.
        (["x=range(0,2000)", "x=1,2"], 2),
    ],
)
def test_the_count_is_that_of_hydra(words: list[str], number: int):
    counted = [
        overrides._values(one)
        for one in overrides._last_of_each_key(to_hydra_overrides(words))
    ]
    assert counted == [number]
    assert len(overrides.variants(words, "", Path())) == number


HINTS = {
    ("toy.yaml:grow.epoch=3", "data"): "-S ../toy.yaml:grow.epochs=3",
    ("grow.epochs=3", ""): "-S toy.yaml:grow.epochs=3",
    ("toy.yaml:+grow.epochs=a b", "data/deep"): "-S '../../toy.yaml:grow.epochs=a b'",
    ("data/tuy.yaml:grow.epochs=3", "data"): "-S ../toy.yaml:grow.epochs=3",
    ("toi.yaml:grow.size=3", ""): "-S toy.yaml:grow.size=3",
    ("toy.yaml:epochs=3", ""): "-S toy.yaml:grow.epochs=3",
}


@pytest.mark.parametrize(("given", "inside"), HINTS)
def test_what_is_proposed_is_typed_where_the_user_stands(
    tmp_path: Path, given: str, inside: str
):
    (tmp_path / "dvc.yaml").write_text(
        "stages: {grow: {cmd: 'true', params: [toy.yaml: [grow]]}}"
    )
    (tmp_path / "toy.yaml").write_text("grow: {epochs: 1}")
    (tmp_path / "params.yaml").write_text("seed: 1")
    file, _, word = given.rpartition(":")
    with pytest.raises(UsageError) as caught:
        overrides.apply(tmp_path, {file or "params.yaml": [word]}, {}, Path(inside))
    [option, value] = shlex.split(
        caught.value.next.removeprefix("did you mean ")
        .partition("?")[0]
        .partition(": the")[0]
    )
    assert f"{option} {shlex.quote(value)}" == HINTS[given, inside]


CANNOT_BE = {
    "inputs.foo=1": (
        "inputs is a list of 2 values, which has no foo",
        "-S 'x.yaml:inputs=[…]' gives all of it",
    ),
    "inputs.7=1": (
        "inputs is a list of 2 values, which has no 7",
        "-S 'x.yaml:inputs=[…]' gives all of it",
    ),
    "grow.epochs.foo=1": (
        "grow.epochs is 1, no section with keys of its own",
        "-S x.yaml:grow.epochs=VALUE changes that",
    ),
    "grow.zzz=1": (
        "the file has no grow.zzz",
        "grow has epochs, do; -S x.yaml:+grow.zzz=1 adds the key",
    ),
    "zzz.epochs=1": (
        "the file has no zzz",
        "x.yaml has inputs, grow, none; -S x.yaml:+zzz.epochs=1 adds the key",
    ),
    "none.a=1": ("none is empty", "-S x.yaml:+none.a=1 adds the key"),
    "grwo.epoch=1": (
        "the file has no grwo",
        "did you mean -S x.yaml:grow.epochs=1? (-S x.yaml:+grwo.epoch=1 adds the key)",
    ),
    "~grow.zzz": ("the file has no grow.zzz", "grow has epochs, do"),
}


@pytest.mark.parametrize("word", CANNOT_BE)
def test_a_key_that_cannot_be_says_what_is_there(tmp_path: Path, word: str):
    (tmp_path / "dvc.yaml").write_text("stages: {}")
    (tmp_path / "x.yaml").write_text(
        "inputs: [1, {a: 2}]\ngrow: {epochs: 1, do: nothing}\nnone:\n"
    )
    with pytest.raises(UsageError) as caught:
        overrides.apply(tmp_path, {"x.yaml": [word]}, {})
    assert (caught.value.why, caught.value.next) == CANNOT_BE[word]


def test_a_parameter_file_keeps_its_mode(tmp_path: Path):
    """It may be a script, too."""
    (tmp_path / "dvc.yaml").write_text("stages: {}")
    place = tmp_path / "x.py"
    place.write_text("a = 1\n")
    place.chmod(0o755)
    base = Base(tmp_path, tmp_path, SimpleNamespace(), tmp_path)  # type: ignore[arg-type]
    for value in (2, 3):
        with base.changed({"x.py": [f"a={value}"]}, {}):
            assert place.read_text() == f"a = {value}\n"
            assert place.stat().st_mode & 0o777 == 0o755
    assert place.read_text() == "a = 1\n"
    assert place.stat().st_mode & 0o777 == 0o755
