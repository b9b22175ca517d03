"""The program of every stage: ``python digest.py [--in PATH]… [--param FILE:KEY]… [--out PATH]…``.

What it writes is a digest of all that it read, of its own arguments, and of the
output's name. An output that ends in a slash is a folder of three files. It is copied
into the repositories that it works in, and knows nothing of them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tomllib
from pathlib import Path


def of_path(path: Path) -> str:
    """Return the digest of a file, or of a folder: the names and contents of its files."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    if not path.is_dir():
        raise SystemExit(f"no input {path}")
    files = sorted(
        file for file in path.rglob("*") if file.is_file() and file.name != ".gitignore"
    )
    listed = [[file.relative_to(path).as_posix(), of_path(file)] for file in files]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def value(root: Path, file: str, key: str) -> object:
    """Return one value of a parameter file, with its type."""
    text = (root / file).read_text(encoding="utf-8")
    if file.endswith(".toml"):
        found = tomllib.loads(text)
    elif file.endswith(".json"):
        found = json.loads(text)
    else:
        from ruamel.yaml import YAML

        found = YAML(typ="safe").load(text)
    for part in key.split("."):
        found = found[part]
    return repr(found)


def main(arguments: list[str], folder: Path = Path()) -> None:
    """Read, and write."""
    parser = argparse.ArgumentParser()
    for name in ("in", "param", "out"):
        parser.add_argument(f"--{name}", action="append", default=[])
    parser.add_argument(
        "--nonce", action="store_true", help="make something else each time"
    )
    given = vars(parser.parse_args(arguments))
    read = [[path, of_path(folder / path)] for path in given["in"]]
    values = [[name, value(folder, *name.split(":"))] for name in given["param"]]
    told = json.dumps(
        [arguments, read, values, os.urandom(8).hex() if given["nonce"] else ""]
    )
    for out in given["out"]:
        path = folder / out
        names = (
            ["one.txt", "sub/two.txt", "sub/three.json"] if out.endswith("/") else [""]
        )
        for name in names:
            place = path / name if name else path
            place.parent.mkdir(parents=True, exist_ok=True)
            digest = hashlib.sha256(f"{told} {out} {name}".encode()).hexdigest()
            place.write_text(json.dumps({"digest": digest}) + "\n")


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
