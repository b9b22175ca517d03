"""Random repositories: files, parameters, and pipelines of two to four stages over them.

In a *strict* world DVC runs nothing: all that a program makes is given to the next one
by us. Only there may programs read what DVC's cache does not keep (modes of files in
folders, empty folders, what it leaves out), or see which files lie in their folder.
"""

from __future__ import annotations

import json
import random
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomlkit

from support.oracle.digest import LEAVES

SOURCES = [
    "a.txt",
    "b.txt",
    "plain/c.txt",
    "folder/d.txt",
    "folder/deep/e f.txt",
    "folder/deep/g.txt",
    "sub/h.txt",
]
CONSTANT = ["folder/keep.tmp", "folder/skipped/z", "plain/-dash [x].txt", "plain/ö*.md"]
"""Files that nobody edits: git tracks them, and DVC does not count the first two."""
FILES = ["own.yaml", "sub/own.yml", "own.json", "own.toml", "own.py"]
KEYS = ["x", "num_workers", "size", "nfiles", "deep.key", "deep.md5", "null", "größe"]
YAML_VALUES = [
    *(
        "1",
        "2",
        "1.0",
        "1e-3",
        "0.001",
        "012",
        "12",
        "true",
        "'true'",
        "yes",
        "no",
        "null",
        "~",
        "'1'",
        "'null'",
        "''",
    ),
    *(
        "1:30:00",
        ".nan",
        ".inf",
        "[1, 2]",
        "[1, 2.0]",
        "{a: 1}",
        "{a: 1.0}",
        "{a: null}",
        "{1: a}",
        "{'1': a}",
        "æ",
        "-0.0",
    ),
    *("|\n  two\n  lines", "0o12", "0x1F", "1_000", "'#'", '"a: b"', "[[], {}]"),
]
PLAIN_VALUES: list[Any] = [
    0,
    1,
    1.0,
    2,
    True,
    False,
    "",
    "1",
    "yes",
    1e-3,
    [1, 2],
    [1, 2.0],
    {"a": 1},
    {"a": 1.0},
    "é",
]


@dataclass
class Stage:
    """One stage, as it stands in ``dvc.yaml``; with a `matrix` it is several.

    Parameters
    ----------
    read, make : list of str
        What else its program reads and makes: see `digest`.
    flags : list of str
        Of `FLAGS`.
    """

    name: str
    wdir: str
    deps: list[str]
    params: list[str]
    outs: list[str]
    metric: str
    matrix: list[str] = field(default_factory=list)
    nonce: bool = False
    read: list[str] = field(default_factory=list)
    make: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)

    @property
    def item(self) -> str:
        """What stands for the value of its matrix."""
        return "${item}" if "foreach" in self.flags else "${item.k}"

    @property
    def made(self) -> list[str]:
        """What it makes, seen from the repository's root."""
        found = [
            f"{self.wdir}/{out}" if self.wdir != "." else out
            for out in [*self.outs, self.metric]
        ]
        return [out.replace(self.item, k) for out in found for k in self.matrix or [""]]

    def command(self, outs: list[str]) -> str:
        """Return what makes some of its outputs."""
        up = "../" if self.wdir != "." else ""
        words = ["python", f"{up}digest.py"]
        words += [f"--in={up}{dep}" for dep in self.deps]
        words += [f"--param={up}{param}" for param in self.params]
        words += [f"--read={what}" for what in self.read]
        words += [f"--make={what}" for what in self.make]
        words += [f"--out={out}" for out in outs]
        words += ["--nonce"] * self.nonce
        return shlex.join(words)

    def to_yaml(self) -> dict[str, Any]:
        """Return its entry in ``dvc.yaml``."""
        up = "../" if self.wdir != "." else ""
        files: dict[str, list[str]] = {}
        for param in self.params:
            name, _, key = param.partition(":")
            files.setdefault(f"{up}{name}", []).append(key)
        commands = [self.command(self.outs), self.command([self.metric])]
        entry: dict[str, Any] = {
            "cmd": commands
            if "commands" in self.flags
            else self.command([*self.outs, self.metric]),
            "deps": [f"{up}{dep}".rstrip("/") for dep in self.deps],
        }
        entry |= {"wdir": self.wdir} if up else {}
        entry |= (
            {"params": [{name: keys} for name, keys in files.items()]} if files else {}
        )
        outs: list[Any] = [out.rstrip("/") for out in self.outs]
        if "uncached" in self.flags:
            outs[-1] = {outs[-1]: {"cache": False}}
        entry |= {"outs": outs, "metrics": [{self.metric: {"cache": False}}]}
        entry |= {
            flag: True for flag in ("always_changed", "frozen") if flag in self.flags
        }
        if self.matrix and "foreach" in self.flags:
            return {"foreach": self.matrix, "do": entry}
        return {"matrix": {"k": self.matrix}} | entry if self.matrix else entry


NAMES = ["s{}", "make-{}", "größe{}", "S_{}x"]
OUTS = ["out{}.txt", "made{}/", "made{}/", "nest{}/below/o.txt"]
AWKWARD_OUTS = ["-dash{}.txt", "[x]{}.txt", "é {}/", "q'{}.txt", "$HOME{}/", "#{}*.txt"]
THERE = ["a.txt", "b.txt", "folder", "folder/deep/g.txt", "folder/deep"]
THERE += ["plain", "sub/h.txt"]


def stages(rng: random.Random, *, strict: bool) -> list[Stage]:
    """Return a pipeline in which each stage reads some of what is there before it."""
    found: list[Stage] = []
    texts = rng.random() < 0.3  # whether some stage reads all *.txt
    for number in range(rng.randint(2, 4)):
        outs = [rng.choice(rng.choice([OUTS, OUTS, AWKWARD_OUTS])).format(number)]
        if rng.random() < 0.4:
            outs.append(f"more{number}.bin")
        if texts:
            outs = [out.replace(".txt", ".dat") for out in outs]
        matrix = rng.choice([[], [], [], ["p", "q"]])
        made = [out for stage in found for out in stage.made]
        parts = [
            part
            for stage in found
            for out in stage.made
            if out.endswith("/") and "nothing" not in stage.make
            for part in (f"{out}sub/two.txt", f"{out}sub")
        ]
        deps = rng.sample(THERE, rng.randint(1, 2))
        deps += rng.sample(made, min(len(made), rng.randint(1, 2)))
        if parts and rng.random() < 0.4:
            deps.append(rng.choice(parts))
        params = [
            f"{rng.choice(FILES)}:{rng.choice(KEYS)}" for _ in range(rng.randint(0, 2))
        ]
        stage = Stage(
            rng.choice(NAMES).format(number),
            rng.choice([".", ".", "sub"]),
            list(dict.fromkeys(deps)),
            list(dict.fromkeys(params)),
            outs,
            f"m{number}.json",
            matrix,
            rng.random() < 0.25,
        )
        _decorate(stage, rng, texts=texts, strict=strict)
        if matrix:
            stage.outs = [f"{stage.item}-{out}" for out in outs]
            stage.metric = f"{stage.item}-{stage.metric}"
        found.append(stage)
    return found


def _decorate(stage: Stage, rng: random.Random, *, texts: bool, strict: bool) -> None:
    """Let a stage read and make more than files."""
    folder = any(out.endswith("/") for out in stage.outs)
    often = {"exec": 0.25, "hard": 0.2, "link": 0.2}
    often |= {"empty": 0.35, "nothing": 0.08, "names": 0.25} if folder else {}
    more = [what for what, share in often.items() if rng.random() < share]
    if rng.random() < 0.1:
        more.append(rng.choice(LEAVES))
    if "hard" in more and rng.random() < 0.6:
        # Two outputs that are one file, which may be executed.
        more.append("exec")
        stage.outs.append(f"same-{stage.metric.removesuffix('.json')}.bin")
    stage.make = list(dict.fromkeys(more))
    single = not any(dep.endswith("/") or "/sub" in dep for dep in stage.deps)
    if strict:
        share = 0.4 if single else 0.6
        stage.read = [r for r in ("modes", "folders", "all") if rng.random() < share]
        if rng.random() < 0.3:
            stage.read.append("ls")
    elif single and rng.random() < 0.3:
        # DVC keeps the mode of a file that is an output by itself.
        stage.read = ["modes"]
    if texts and rng.random() < 0.6:
        stage.read.append("cat")
    # What it sees is among its inputs: else nobody would run it again.
    seen = ["folder"] if "ls" in stage.read else []
    seen += (["sub/h.txt"] if stage.wdir == "sub" else ["a.txt", "b.txt"]) * (
        "cat" in stage.read
    )
    stage.deps += [dep for dep in seen if dep not in stage.deps]
    stage.flags = ["foreach"] if rng.random() < 0.4 else []
    stage.flags += ["commands"] if rng.random() < 0.1 else []
    stage.flags += ["always_changed"] if rng.random() < 0.1 else []
    lost = "below" in stage.outs[-1] or set(more) & {"empty", "nothing", *LEAVES}
    stage.flags += ["uncached"] if rng.random() < 0.1 and not lost else []


def parameter_file(rng: random.Random, file: str) -> str:
    """Return the text of a parameter file with all keys."""
    if file.endswith((".json", ".toml", ".py")):
        values = {key: rng.choice(PLAIN_VALUES) for key in KEYS}
        nested = {key: value for key, value in values.items() if "." not in key}
        nested["deep"] = {
            key.split(".")[1]: value for key, value in values.items() if "." in key
        }
        if file.endswith(".json"):
            return json.dumps(nested, ensure_ascii=False) + "\n"
        if file.endswith(".py"):
            return "".join(f"{key} = {value!r}\n" for key, value in nested.items())
        return tomlkit.dumps(nested)
    lines = [
        f"{_quoted(key)}: {rng.choice(YAML_VALUES)}" for key in KEYS if "." not in key
    ]
    deep = [
        f"  {key.split('.')[1]}: {rng.choice(YAML_VALUES[:-8])}"
        for key in KEYS
        if "." in key
    ]
    return "\n".join([*lines, "deep:", *deep]) + "\n"


def _quoted(key: str) -> str:
    return f"'{key}'" if key == "null" else key


def write(root: Path, rng: random.Random, pipeline: list[Stage]) -> None:
    """Write sources, parameters and ``dvc.yaml``."""
    for path in SOURCES:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text(rng))
    for path in CONSTANT:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(f"{path}\n")
    for path in rng.sample([*SOURCES, *CONSTANT], 4):
        (root / path).chmod(0o755)
    for file in FILES:
        (root / file).write_text(parameter_file(rng, file), encoding="utf-8")
    write_pipeline(root, pipeline)


def write_pipeline(root: Path, pipeline: list[Stage]) -> None:
    """Write ``dvc.yaml``; JSON is YAML."""
    entries = {"stages": {stage.name: stage.to_yaml() for stage in pipeline}}
    (root / "dvc.yaml").write_text(
        json.dumps(entries, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def text(rng: random.Random) -> str:
    """Return a file's content: one of few, so that contents come back, and are swapped."""
    return rng.choice(["one\n", "two\n", "six\n", "", "a\r\nb\r\n", "a\nb\n"])
