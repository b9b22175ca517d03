"""Random repositories: files, parameters, and pipelines of three to five stages over them."""

from __future__ import annotations

import json
import random
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomlkit

SOURCES = [
    "a.txt",
    "b.txt",
    "plain/c.txt",
    "folder/d.txt",
    "folder/deep/e f.txt",
    "folder/deep/g.txt",
    "sub/h.txt",
]
FILES = ["own.yaml", "sub/own.yml", "own.json", "own.toml"]
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
    """One stage, as it stands in ``dvc.yaml``; with a `matrix` it is several."""

    name: str
    wdir: str
    deps: list[str]
    params: list[str]
    outs: list[str]
    metric: str
    matrix: list[str] = field(default_factory=list)
    nonce: bool = False

    @property
    def made(self) -> list[str]:
        """What it makes, seen from the repository's root."""
        found = [
            f"{self.wdir}/{out}" if self.wdir != "." else out
            for out in [*self.outs, self.metric]
        ]
        return [
            out.replace("${item.k}", k) for out in found for k in self.matrix or [""]
        ]

    def to_yaml(self) -> dict[str, Any]:
        """Return its entry in ``dvc.yaml``."""
        up = "../" if self.wdir != "." else ""
        words = ["python", f"{up}digest.py"]
        words += [word for dep in self.deps for word in ("--in", f"{up}{dep}")]
        words += [word for param in self.params for word in ("--param", f"{up}{param}")]
        words += [word for out in [*self.outs, self.metric] for word in ("--out", out)]
        words += ["--nonce"] * self.nonce
        command = shlex.join(words).replace("'${item.k}'", "${item.k}")
        files: dict[str, list[str]] = {}
        for param in self.params:
            name, _, key = param.partition(":")
            files.setdefault(f"{up}{name}", []).append(key)
        entry: dict[str, Any] = {
            "cmd": command,
            "deps": [f"{up}{dep}".rstrip("/") for dep in self.deps],
        }
        entry |= {"wdir": self.wdir} if up else {}
        entry |= (
            {"params": [{name: keys} for name, keys in files.items()]} if files else {}
        )
        entry |= {
            "outs": [out.rstrip("/") for out in self.outs],
            "metrics": [{self.metric: {"cache": False}}],
        }
        return {"matrix": {"k": self.matrix}} | entry if self.matrix else entry


def stages(rng: random.Random) -> list[Stage]:
    """Return a pipeline in which each stage reads some of what is there before it."""
    found: list[Stage] = []
    there = [
        "a.txt",
        "b.txt",
        "folder",
        "folder/deep/g.txt",
        "folder/deep",
        "plain",
        "sub/h.txt",
    ]
    for number in range(rng.randint(2, 4)):
        name = rng.choice(["s{}", "make-{}", "größe{}", "S_{}x"]).format(number)
        outs = [
            rng.choice(["out{}.txt", "made{}/", "nest{}/below/o.txt"]).format(number)
        ]
        if rng.random() < 0.3:
            outs.append(f"more{number}.bin")
        matrix = rng.choice([[], [], [], ["p", "q"]])
        metric = f"m{number}.json"
        if matrix:
            outs, metric = [f"${{item.k}}-{outs[0]}"], f"${{item.k}}-{metric}"
        made = [out for stage in found for out in stage.made]
        parts = [f"{out}sub/two.txt" for out in made if out.endswith("/")] + [
            f"{out}sub" for out in made if out.endswith("/")
        ]
        deps = rng.sample(there, rng.randint(1, 2)) + (
            rng.sample(made, min(len(made), rng.randint(1, 2)))
        )
        if parts and rng.random() < 0.4:
            deps.append(rng.choice(parts))
        params = [
            f"{rng.choice(FILES)}:{rng.choice(KEYS)}" for _ in range(rng.randint(0, 2))
        ]
        wdir = rng.choice([".", ".", "sub"])
        found.append(
            Stage(
                name,
                wdir,
                list(dict.fromkeys(deps)),
                list(dict.fromkeys(params)),
                outs,
                metric,
                matrix,
                rng.random() < 0.2,
            )
        )
    return found


def parameter_file(rng: random.Random, file: str) -> str:
    """Return the text of a parameter file with all keys."""
    if file.endswith((".json", ".toml")):
        values = {key: rng.choice(PLAIN_VALUES) for key in KEYS}
        nested = {key: value for key, value in values.items() if "." not in key}
        nested["deep"] = {
            key.split(".")[1]: value for key, value in values.items() if "." in key
        }
        if file.endswith(".json"):
            return json.dumps(nested, ensure_ascii=False) + "\n"
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
