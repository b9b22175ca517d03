"""Makes src/mllam_exps/maps/countries-50m.json.gz from npm's world-atlas.

python tools/natural_earth.py world-atlas-2.0.2.tgz    # after: npm pack world-atlas@2.0.2
"""

from __future__ import annotations

import gzip
import json
import sys
import tarfile
from pathlib import Path

MADE = (
    Path(__file__).parent.parent / "src" / "mllam_exps" / "maps/countries-50m.json.gz"
)


def main() -> None:
    """Keep the lines, and which country has which; leave out what the countries are called."""
    with tarfile.open(sys.argv[1]) as package:
        content = package.extractfile("package/countries-50m.json")
        assert content is not None
        whole = json.load(content)
    countries = [
        {"type": one["type"], "arcs": one.get("arcs", [])}
        for one in whole["objects"]["countries"]["geometries"]
    ]
    kept = {
        "type": "Topology",
        "transform": whole["transform"],
        "objects": {
            "countries": {"type": "GeometryCollection", "geometries": countries}
        },
        "arcs": whole["arcs"],
    }
    text = json.dumps(kept, separators=(",", ":"))
    # Without the time: the same input makes the same file.
    MADE.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))


if __name__ == "__main__":
    main()
