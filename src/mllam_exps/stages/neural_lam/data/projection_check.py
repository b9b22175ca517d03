"""Makes the projection that ``data/datastore.yaml`` names, as neural-lam does when it draws a map: after the training.

Run as a module, with the projection as JSON, it does so where cartopy is installed, and
prints what is wrong as JSON: ``{"key": ..., "what": ...}``, empty where all is well.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from mllam_exps.base.errors import did_you_mean


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
    known = _projections(ccrs)
    if name not in known:
        near = did_you_mean(str(name), known)
        return _fault(".class_name", f"cartopy.crs has no projection {name}{near}")
    if not isinstance(kwargs, Mapping):
        what = f"must hold the arguments of {name}, or be {{}}, not {kwargs!r}"
        return _fault(".kwargs", what)
    globe = kwargs.get("globe", {})
    if not isinstance(globe, Mapping):
        what = f"must hold the arguments of cartopy.crs.Globe, not {globe!r}"
        return _fault(".kwargs.globe", what)
    try:
        make(projection)
    except Exception as error:  # whatever cartopy and PROJ raise, they refuse it
        return _fault(".kwargs", f"cartopy makes no {name} of it: {_reason(error)}")
    return {}


def make(projection: Mapping[str, Any]) -> Any:
    """Return the projection as neural-lam (0.7) makes it in MDPDatastore.coords_projection.

    To import that costs ten seconds.
    """
    import cartopy.crs as ccrs

    arguments = dict(projection["kwargs"])
    if globe := arguments.pop("globe", {}):
        arguments["globe"] = ccrs.Globe(**globe)
    return getattr(ccrs, str(projection["class_name"]))(**arguments)


def _fault(key: str, what: str) -> dict[str, str]:
    return {"key": key, "what": what}


def _projections(ccrs: Any) -> list[str]:
    names = []
    for name, value in vars(ccrs).items():
        if isinstance(value, type) and issubclass(value, ccrs.Projection):
            names.append(name)
    return names


def _reason(error: Exception) -> str:
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    # pyproj (3.7) puts the whole definition in front of PROJ's own words, and brackets
    # around them.
    _, of_proj, words = text.partition("proj_create: ")
    return words.removesuffix(")") if of_proj else text


if __name__ == "__main__":
    print(json.dumps(check(json.loads(sys.argv[1]))))
