"""What pyproject.toml declares is what the package imports."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

from support.experiment import ROOT


def imported() -> set[str]:
    """Return the names of the packages that our modules import, those inside functions included."""
    found: set[str] = set()
    for path in (ROOT / "src/mllam_exps").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module)
    return {name.partition(".")[0] for name in found} - {*sys.stdlib_module_names}


def declared() -> set[str]:
    """Return the names of the distributions that are declared for users."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], project["optional-dependencies"]["models"]]
    return {
        normal(re.split(r"[<>=!~;\[ ]", one)[0]) for group in lists for one in group
    }


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_what_is_imported_is_declared():
    providers = packages_distributions()
    known = {*declared(), "mllam-exps"}
    missing = {
        module: providers[module]
        for module in imported()
        if module in providers and not known & {normal(n) for n in providers[module]}
    }
    assert not missing
    assert {"dvc", "typer", "pydantic"} <= imported()
