"""``mllam-exps scores``: the scores of this workspace's experiment, beside persistence."""

from __future__ import annotations

import json

from mllam_exps import scores
from mllam_exps.report.here import Here


def show(*, as_json: bool) -> None:
    """Print the table of scores and the paths of the forecast pictures."""
    root = Here.open().workspace.root
    if as_json:
        print(json.dumps(scores.data(root), indent=1))
        return
    from rich.console import Console

    console = Console()
    console.print(scores.table(root))
    pictures = scores.pictures(root)
    if pictures:
        console.print("forecast pictures:")
        for picture in pictures:
            console.print(f"  {picture.relative_to(root)}", highlight=False)
