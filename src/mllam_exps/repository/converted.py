"""Finds files of a checkout that git would check out as something else than lies there now.

An experiment's commit gives these: so they are what its programs read and what
`dvc.lock` has the hashes of, as with `dvc exp run --temp` (3.67).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

Git = Callable[..., str]
"""Runs a git command on files that lay in the checkout, and lie elsewhere (`checkouts.Elsewhere.git`)."""

_OFF = {"unspecified", "unset"}
"""What `git check-attr` (2.39) says of an attribute that is not given."""


def files(git: Git, baseline: str, content: str) -> list[str]:
    """Return the files that git is to lay out anew, where they lie as they lay in the checkout.

    Of what was edited git's conversions and filters have seen the edit, and may give it
    back changed (line ends, ``$Id$``, a notebook without its outputs). Of the others
    only line ends are looked at: no filter is called for what is checked out already.

    Parameters
    ----------
    git : callable
        Runs a git command on the files, with an index of what they hold.
    baseline, content : str
        The commit that is checked out, and one with what the files hold.
    """
    found = set(_line_ends(git))
    if content != baseline:
        # Of submodules the entry is a commit, and no file.
        words = ("diff", "--name-only", "--no-renames", "--diff-filter=AMT", "-z")
        edited = git(*words, "--ignore-submodules=all", baseline, content)
        found |= set(edited.split("\0")) - {""}
    return sorted(found)


def _line_ends(git: Git) -> Iterator[str]:
    """Yield text files whose lines end otherwise here than git would end them."""
    tracked = git("ls-files", "-z")
    if not (texts := set(_texts(git, tracked))):
        return
    # Four columns (2.39): i/lf, w/crlf, attr/text=auto, and behind a tab the path.
    for line in git("ls-files", "--eol", "-z").split("\0"):
        told, _, path = line.partition("\t")
        if path not in texts:
            continue
        in_git, here, *attributes = told.split()
        wants_crlf = "eol=crlf" in attributes
        other = {"w/lf", "w/mixed"} if wants_crlf else {"w/crlf", "w/mixed"}
        if in_git == "i/lf" and here in other:
            yield path


def _texts(git: Git, tracked: str) -> Iterator[str]:
    """Yield the files whose line ends git converts, and that no filter changes."""
    attributes = ("text", "eol", "filter")
    told = git("check-attr", "-z", "--stdin", *attributes, input=tracked)
    fields = told.split("\0")[:-1]
    everything = git("config", "--default=", "core.autocrlf") not in {"", "false"}
    values = iter(fields[2::3])
    for path, text, eol, filter_ in zip(
        fields[::9], values, values, values, strict=True
    ):
        converted = text not in _OFF or eol not in _OFF or everything
        if converted and text != "unset" and filter_ in _OFF:
            yield path
