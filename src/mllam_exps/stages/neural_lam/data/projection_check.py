"""Makes the projection that ``data/datastore.yaml`` names, as neural-lam does when it draws a map: after the training.

Run as a module, with the projection as JSON, it does so where cartopy is installed, and
prints what is wrong as JSON: ``{"key": ..., "what": ...}``, empty where all is well.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from mllam_exps.base.spelling import did_you_mean


def check(projection: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with a projection, and with which key of it; empty where it can be made.

    Parameters
    ----------
    projection : Mapping
        ``extra.projection``: ``class_name`` and ``kwargs``.
    """
    try:
        import cartopy.crs as ccrs
    except ImportError:
        return {}  # neural-lam, which needs it, is missing as well, and that is told
    name, kwargs = projection.get("class_name"), projection.get("kwargs")
    known = [
        each
        for each, made in vars(ccrs).items()
        if isinstance(made, type) and issubclass(made, ccrs.Projection)
    ]
    if name not in known:
        return {
            "key": ".class_name",
            "what": f"cartopy.crs has no projection {name}{did_you_mean(str(name), known)}",
        }
    if not isinstance(kwargs, Mapping):
        return {
            "key": ".kwargs",
            "what": f"must hold the arguments of {name}, or be {{}}, not {kwargs!r}",
        }
    globe = kwargs.get("globe", {})
    if not isinstance(globe, Mapping):
        return {
            "key": ".kwargs.globe",
            "what": f"must hold the arguments of cartopy.crs.Globe, not {globe!r}",
        }
    try:
        # As neural-lam (0.7) does in MDPDatastore.coords_projection, whose import costs
        # ten seconds.
        given = (
            {**kwargs, "globe": ccrs.Globe(**globe)}
            if globe
            else {k: v for k, v in kwargs.items() if k != "globe"}
        )
        getattr(ccrs, str(name))(**given)
    except Exception as error:  # whatever cartopy and PROJ raise, they refuse it
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        # pyproj (3.7) puts the whole definition in front of PROJ's own words, and
        # brackets around them.
        _, found, words = text.partition("proj_create: ")
        return {
            "key": ".kwargs",
            "what": f"cartopy makes no {name} of it: {words.removesuffix(')') if found else text}",
        }
    return {}


if __name__ == "__main__":
    print(json.dumps(check(json.loads(sys.argv[1]))))
