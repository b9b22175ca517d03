"""YAML as machine files have it, stricter than YAML is, and with the line of each key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from mllam_exps.base import unreadable
from mllam_exps.base.errors import UsageError

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_NULL = {"", "~", "null", "Null", "NULL"}
_TRUE = {"true", "True", "TRUE"}
_FALSE = {"false", "False", "FALSE"}
_DEEPEST = 12


def read(file: Path, shown: str) -> tuple[dict[str, Any], dict[str, int]]:
    """Read a YAML mapping, with the line of each dotted key.

    Stricter than YAML, and without its surprises: a key that stands twice is refused;
    ``1:30:00`` is no number of base 60; ``no`` and ``on`` are text, and so is every
    number that is no integer (``1.10``).

    Parameters
    ----------
    file : Path
        The file.
    shown : str
        Its name in messages.
    """
    try:
        node = yaml.compose(file.read_text(encoding="utf-8"), Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        text = file.read_text(encoding="utf-8")
        raise unreadable.refusal(shown, text, error) from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        why = str(getattr(error, "strerror", None) or error)
        reason = " ".join(why.split())
        raise UsageError("can't be read as YAML", shown, reason) from None
    if node is None:
        return {}, {}
    reader = _Reader(shown)
    data = reader.value(node, "")
    if not isinstance(data, dict):
        where = f"{shown}:{_line(node)}"
        raise UsageError("must be a mapping of keys to values", where=where)
    return data, reader.lines


def read_value(text: str, *, may_be_list: bool) -> object:
    """Return the value of a setting that was typed: ``[a|b]`` is text where no list is wanted; nothing is null."""
    try:
        node = yaml.compose(text, Loader=_LOADER)
        if isinstance(node, yaml.ScalarNode) or (node and may_be_list):
            return _Reader("").value(node, "")
    except (yaml.YAMLError, UsageError):
        pass
    return text or None


def read_loosely(file: Path) -> Any:
    """Read another program's YAML file, as PyYAML understands it."""
    return yaml.load(file.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506 - a SafeLoader


class _Reader:
    """Turns the nodes of one file into values, and notes the line of each dotted key."""

    def __init__(self, shown: str) -> None:
        self.shown = shown
        self.lines: dict[str, int] = {}

    def value(self, node: Any, key: str) -> Any:
        where = f"{self.shown}:{_line(node)}"
        if key.count(".") > _DEEPEST:
            raise UsageError("is nested too deeply", where=f"{where}: {key[:40]}…")
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, f"{where}: {key}")
        if isinstance(node, yaml.SequenceNode):
            return [
                self.value(child, f"{key}.{index}")
                for index, child in enumerate(node.value)
            ]
        return self.mapping(node, key)

    def scalar(self, node: yaml.ScalarNode, where: str) -> str | int | bool | None:
        if not node.tag.startswith("tag:yaml.org,2002:"):
            raise UsageError(
                f"has a tag that nothing here reads: {node.tag}", where=where
            )
        text: str = node.value
        if node.style:  # quotes, or a block: text, whatever it holds
            return text
        if text in _NULL:
            return None
        if text in _TRUE:
            return True
        if text in _FALSE:
            return False
        return int(text) if _INT.fullmatch(text) else text

    def mapping(self, node: yaml.MappingNode, key: str) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for name_node, child in node.value:
            name, where = name_node.value, f"{self.shown}:{_line(name_node)}"
            if not isinstance(name, str):
                raise UsageError("a key must be a word", where=where)
            dotted = f"{key}.{name}" if key else name
            if name in data:
                first = f"stands twice, first in line {self.lines[dotted]}"
                raise UsageError(first, where=f"{where}: {dotted}")
            self.lines[dotted] = _line(name_node)
            data[name] = self.value(child, dotted)
        return data


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1
