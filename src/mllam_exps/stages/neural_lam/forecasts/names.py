"""CF's names of variables, where a name and its units leave no doubt.

A wind is none of them: whether ``u10m`` points to the east or along the grid's x, only
its source knows. Names of one's own stand in ``data/inference_params.yaml``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LEVEL = re.compile(r"(?P<name>[a-z]+)[_]?\d+(\.0)?(h?pa|m)?")
_PRESSURE, _KELVIN = ("Pa",), ("K",)
_KNOWN = {
    "air_pressure_at_mean_sea_level": (("msl", "mslp", "pres_seasurface"), _PRESSURE),
    "surface_air_pressure": (("sp", "pres0m", "pres_0m"), _PRESSURE),
    "air_temperature": (("t2m", "2t", "t"), _KELVIN),
    "dew_point_temperature": (("d2m", "2d"), _KELVIN),
    "geopotential": (("z",), ("m2 s-2", "m**2 s**-2", "m^2/s^2")),
    "specific_humidity": (("q",), ("kg kg-1", "kg kg**-1", "kg/kg")),
}
_DEGREES = ("K", "degC")
_NOTHING = frozenset({"", "-", "none", "None", "(0 - 1)", "~"})
"""How sources write that a variable has no unit."""


@dataclass(frozen=True)
class Variable:
    """A variable of the forecasts, as readers know it.

    Parameters
    ----------
    name : str
        As in the dataset: ``msl``, ``t500``.
    units, long_name : str
        As its source says.
    standard_name : str
        CF's; empty where nobody has said it.
    is_difference : bool
        Whether degrees of it have no zero: those of a standard deviation.
    """

    name: str
    units: str = "1"
    long_name: str = ""
    standard_name: str = ""
    is_difference: bool = False

    @property
    def attributes(self) -> dict[str, str]:
        """What is written beside its values."""
        told = {"long_name": self.long_name or self.name, "units": self.units}
        if self.standard_name:
            told["standard_name"] = self.standard_name
        if self.units in _DEGREES:
            kind = "difference" if self.is_difference else "on_scale"
            told["units_metadata"] = f"temperature: {kind}"
        return told

    @property
    def spread(self) -> Variable:
        """The standard deviation that a model forecasts with it."""
        modified = f"{self.standard_name} standard_error" if self.standard_name else ""
        told = f"forecast standard deviation of {self.long_name or self.name}"
        return Variable(f"{self.name}_std", self.units, told, modified, True)


def variable(
    name: str, units: str, long_name: str, standard_name: str = ""
) -> Variable:
    """Return a variable with CF's names for it and its unit, as far as they are known.

    Parameters
    ----------
    standard_name : str
        What the user says it is.
    """
    unit = "1" if units.strip() in _NOTHING else units
    return Variable(name, unit, long_name, standard_name or known(name, unit))


def known(name: str, units: str) -> str:
    """Return CF's name of a variable; empty where its name and units don't say it."""
    level = _LEVEL.fullmatch(name.lower())
    for standard, (names, of_units) in _KNOWN.items():
        bare = {name.lower(), level["name"] if level else ""}
        if units in of_units and bare & set(names):
            return standard
    return ""
