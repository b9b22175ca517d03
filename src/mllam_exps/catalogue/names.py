"""What a shortened name means: ``hidden_dim`` is ``data/training_params.yaml:hidden_dim``. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from mllam_exps.base.errors import UsageError, nearest, some_of

FIELDS = (
    "name",
    "person",
    "state",
    "date",
    "tag",
    "note",
    "parent",
    "data",
    "commit",
    "machine",
    "origin",
)
"""What every experiment has: these names come first."""
_BOUNDS = "/:."
_TOLD = 8
"""Candidates that are told."""


def resolve(text: str, known: Collection[str]) -> str:
    """Return the whole name that a shortened one means.

    A field of every experiment comes first, then a whole name; then what has it as its
    whole key, behind the file's name; then what ends in it.

    Parameters
    ----------
    known : collection of str
        The names of parameters and scores: ``file:key``.

    Raises
    ------
    UsageError
        If there is none, or more than one; the candidates are told.
    """
    if text in FIELDS or text in known:
        return text
    ends = [name for name in known if _ends(name, text)]
    whole = [name for name in ends if name.partition(":")[2] == text]
    for found in (whole, ends):
        if len(found) == 1:
            return found[0]
        if found:
            raise _ambiguous(text, found)
    raise _unknown(text, known)


def _ends(name: str, text: str) -> bool:
    """Tell whether a name ends in a text, which begins with one of its parts."""
    return name.endswith(text) and name[: -len(text)][-1:] in _BOUNDS


def _ambiguous(text: str, found: Iterable[str]) -> UsageError:
    told = sorted(found, key=lambda name: (len(name), name))
    what, why = f"{text!r} could be several", some_of(told, _TOLD)
    return UsageError(what, why=why, next=f"type more of it: {told[0]}")


def _unknown(text: str, known: Collection[str]) -> UsageError:
    what = f"no experiment has a parameter or score {text!r}"
    keys = {name.partition(":")[2]: name for name in known}
    holding = [name for name in known if text.lower() in name.lower()]
    near = nearest(text, [*FIELDS, *keys])
    candidates = [near] if near else []
    candidates += [keys_of(name) for name in sorted(holding, key=len)[:_TOLD]]
    if candidates := list(dict.fromkeys(candidates)):
        return UsageError(what, next=f"did you mean {', '.join(candidates[:_TOLD])}?")
    return UsageError(
        what,
        next=f"those of all: {', '.join(FIELDS)}; mllam-exps list --names has the rest",
    )


def keys_of(name: str) -> str:
    """Return a name without its file."""
    return name.partition(":")[2] or name


def short(name: str, known: Collection[str]) -> str:
    """Return the shortest end of a name that means it, beginning with its key."""
    key = keys_of(name)
    if key in FIELDS:
        return name
    same = [other for other in known if other.partition(":")[2] == key]
    return key if len(same) < 2 else name
