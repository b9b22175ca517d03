"""YAML files that hold a mapping: read with duplicate keys refused, and each text parsed once."""

from __future__ import annotations

import functools
import pickle
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from mllam_exps.base import unreadable
from mllam_exps.base.errors import UsageError

try:
    from yaml import CSafeLoader as SafeLoader  # eight times as fast
except ImportError:
    from yaml import SafeLoader  # type: ignore[assignment]

_MERGE = "tag:yaml.org,2002:merge"


class _Loader(SafeLoader):
    """PyYAML, as many programs use it, but with duplicate keys refused."""

    def construct_mapping(
        self, node: yaml.MappingNode, deep: bool = False
    ) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{key.value} stands twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


@functools.lru_cache(maxsize=32)
def _parsed(text: str, *, by_pyyaml: bool) -> bytes:
    """Parse a file's text once: the experiments of a sweep share most files. The value is pickled: callers change it.

    There are two dialects: PyYAML reads YAML 1.1; DVC (3.67) reads YAML 1.2, where
    `1e-3` is a number and `yes` is text. The files that we read ourselves are read as
    DVC reads them, or one value would stand for two results.
    """
    if by_pyyaml:
        return pickle.dumps(yaml.load(text, _Loader))  # noqa: S506 - a SafeLoader
    return pickle.dumps(YAML(typ="safe").load(text))


def read(path: Path, name: str = "", *, by_pyyaml: bool = False) -> dict[str, Any]:
    """Read one YAML file that holds a mapping, duplicate keys refused.

    Parameters
    ----------
    path : Path
        The file.
    name : str, optional
        What to call the file in messages.
    by_pyyaml : bool
        Whether the program that it is for reads it with PyYAML, as YAML 1.1; else it is
        read as DVC does, as YAML 1.2.

    Raises
    ------
    UsageError
        Names file, line and column.
    """
    name = name or str(path)
    try:
        text = path.read_text(encoding="utf-8")
        value = pickle.loads(_parsed(text, by_pyyaml=by_pyyaml))  # noqa: S301
    except FileNotFoundError as error:
        raise UsageError("there is no such file", name) from error
    except (yaml.MarkedYAMLError, MarkedYAMLError) as error:
        raise unreadable.refusal(name, text, error) from error
    except (
        OSError,
        UnicodeDecodeError,
        yaml.YAMLError,
        YAMLError,
        ValueError,
    ) as error:
        raise UsageError("cannot be read", name, str(error).splitlines()[0]) from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError("must be `key: value` lines", f"{name}:1")
    return value
