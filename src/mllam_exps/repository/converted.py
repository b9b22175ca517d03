"""Finds files of a checkout that git would check out as something else than lies there now.

An experiment's commit gives these: so they are what its programs read and what
`dvc.lock` has the hashes of, as with `dvc exp run --temp` (3.67).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

Git = Callable[..., str]
"""Runs a git command on files that lay in the checkout, and lie elsewhere (`checkouts.Elsewhere.git`)."""

WHOLE = {"annex", "lfs"}
"""Filters that keep a large file elsewhere, and give back what they took, to the byte; that takes time."""

_ATTRIBUTES = ("text", "eol", "filter", "ident", "working-tree-encoding")
_OFF = {"unspecified", "unset"}
"""What `git check-attr` (2.39) says of an attribute that is not given."""

_NO = {"false", "no", "off", "0", ""}
_YES = {"true", "yes", "on", "1"}


def files(git: Git, baseline: str, content: str) -> list[str]:
    """Return the files that git is to lay out anew, where they lie as they lay in the checkout.

    Git's conversions and filters have seen what lies here, and may give it back changed
    (line ends, ``$Id$``, UTF-16 in its other order of bytes, a notebook without its
    outputs). `git status` says nothing of
    that. Filters that give back all of a large file are called for edited files alone.

    Parameters
    ----------
    git : callable
        Runs a git command on the files, with an index of what they hold.
    baseline, content : str
        The commit that is checked out, and one with what the files hold.
    """
    found = set(_of_tracked(git))
    if content != baseline:
        # Of submodules the entry is a commit, and no file.
        words = ("diff", "--name-only", "--no-renames", "--diff-filter=AMT", "-z")
        edited = git(*words, "--ignore-submodules=all", baseline, content)
        found |= set(edited.split("\0")) - {""}
    return sorted(found)


def _of_tracked(git: Git) -> Iterator[str]:
    """Yield files, edited or not, whose attributes or line ends say that git would check out something else."""
    tracked = git("ls-files", "-z")
    told = git("check-attr", "-z", "--stdin", *_ATTRIBUTES, input=tracked)
    # Three fields (2.39) for each attribute of each file: path, attribute, value.
    fields = told.split("\0")[:-1]
    autocrlf = git("config", "--default=false", "core.autocrlf").lower()
    values = iter(fields[2::3])
    texts: dict[str, tuple[str, str]] = {}
    for path, text, eol, filter_, ident, encoding in zip(
        fields[:: 3 * len(_ATTRIBUTES)], *[values] * len(_ATTRIBUTES), strict=True
    ):
        if filter_ in WHOLE:
            continue
        converted = text not in _OFF or eol not in _OFF or autocrlf not in _NO
        if filter_ not in _OFF or ident == "set" or encoding not in _OFF:
            yield path
        elif converted and text != "unset":
            texts[path] = text, eol
    if texts:
        yield from _line_ends(git, texts, autocrlf)


def _line_ends(
    git: Git, texts: Mapping[str, tuple[str, str]], autocrlf: str
) -> Iterator[str]:
    """Yield text files whose lines end otherwise here than git would end them.

    Parameters
    ----------
    texts : mapping
        The files whose line ends git converts, with their attributes ``text`` and
        ``eol``.
    autocrlf : str
        The setting ``core.autocrlf``.
    """
    # git-config(1): core.eol counts only where core.autocrlf is neither true nor input.
    by_default = autocrlf in _YES
    if autocrlf in _NO:
        by_default = git("config", "--default=native", "core.eol").lower() == "crlf"
    # Four columns (2.39): i/lf, w/crlf, attr/text=auto, and behind a tab the path.
    for line in git("ls-files", "--eol", "-z").split("\0"):
        told, _, path = line.partition("\t")
        if path not in texts:
            continue
        in_git, here, *_ = told.split()
        text, eol = texts[path]
        wants_crlf = eol == "crlf" or (eol in _OFF and by_default)
        other = {"w/lf", "w/mixed"} if wants_crlf else {"w/crlf", "w/mixed"}
        # What .gitattributes call a text git (2.39) takes for one, whatever it holds.
        is_said = text == "set" or (text in _OFF and eol not in _OFF)
        said_wrong = is_said and wants_crlf and in_git in {"i/-text", "i/mixed"}
        if said_wrong or (in_git == "i/lf" and here in other):
            yield path
