"""An environment as a file that pip installs from, and what pip cannot have of it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mllam_exps.stages.packages import Environment, Package

_HEAD = """\
# Python {python}; {system}. Everything is listed, so pip looks for nothing more:
# python -m pip install --no-deps -r requirements.txt
"""
_TORCH = "https://download.pytorch.org/whl/"
"""Where PyTorch has its builds for each kind of device, below a build's own name."""
_BUILD = re.compile(r"\+((?:cu|rocm|cpu|xpu)[\d.]*)$")


def text(
    environment: Environment, archives: Mapping[str, str]
) -> tuple[str, list[str]]:
    """Return the file, and what it lacks, a line each.

    What pip cannot have stands in it as a comment.

    Parameters
    ----------
    archives : mapping
        The path beside the file of each package, by name, whose code lies there.
    """
    facts = {"python": environment.python, "system": environment.system}
    lines, lacking = [_HEAD.format(**facts)], []
    for one in environment.packages:
        if one.name == "torch" and (build := _BUILD.search(one.version)):
            lines.insert(1, f"--extra-index-url {_TORCH}{build[1]}\n")
        archive = archives.get(one.name)
        word, lack = (f"./{archive}", "") if archive else _requirement(one)
        lines.append(f"{word}\n" if word else f"# {lack}\n")
        lacking += [lack] if lack else []
    return "".join(lines), lacking


def _requirement(one: Package) -> tuple[str, str]:
    """Return a package as pip takes it, or why pip cannot have it."""
    if not one.url and not one.lacks:
        return f"{one.name}=={one.version}", ""
    told = f"{one.name} {one.version}"
    if not one.url:
        return "", f"{told}: {one.lacks}"
    url = _url(one.url)
    if "://" not in url or url.startswith("file:"):
        return "", f"{told}: it was installed from a folder that others do not have"
    if one.patch or one.lacks:
        changes = one.lacks or "its code was changed, as environment.json says"
        at = f" of {url} at {one.commit}" if one.commit else f" of {url}"
        return "", f"{told}{at}: {changes}"
    return (
        f"{one.name} @ git+{url}@{one.commit}" if one.commit else f"{one.name} @ {url}",
        "",
    )


def _url(address: str) -> str:
    """Return an address as a URL: git takes host:path, too."""
    if found := re.fullmatch(r"(?:[\w.-]+@)?([\w.-]+):(?!//)(.+)", address):
        return f"ssh://git@{found[1]}/{found[2]}"
    return address
