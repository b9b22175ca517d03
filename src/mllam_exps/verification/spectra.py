"""How much of a field's variance lies at which wavelength, on a grid that ends at its sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

BANDS_IN_AN_OCTAVE = 3


@dataclass(frozen=True)
class Bands:
    """Bands of wavelengths of a rectangle of points.

    Parameters
    ----------
    wavelength : ndarray
        The middle of each band, the longest first, in the unit of the spacing.
    place : ndarray of int
        The band of each coefficient of the cosine transform, -1 for those of none.
    """

    wavelength: Array
    place: NDArray[np.int64]


def bands(rows: int, columns: int, spacing: float) -> Bands:
    """Return the bands of a rectangle, three to an octave, as far down as two grid spacings.

    A coefficient (m, n) of the transform has the normalised wave number
    ``sqrt(m²/rows² + n²/columns²)``, and the wavelength ``2 spacing`` over that (Denis,
    Côté and Laprise 2002). Waves shorter than two spacings, which fit along the
    diagonal only, belong to no band, and neither does the mean.
    """
    import numpy as np

    down, across = (np.arange(count) / count for count in (rows, columns))
    wave_number = np.hypot(down[:, None], across[None, :])
    lowest = 1 / max(rows, columns)
    number = np.full(wave_number.shape, -1)
    waves = (wave_number > 0) & (wave_number <= 1)
    octaves = np.log2(wave_number[waves] / lowest)
    number[waves] = np.floor(octaves * BANDS_IN_AN_OCTAVE + 1e-9).astype(int)
    used = np.unique(number[number >= 0])
    place = np.where(number >= 0, np.searchsorted(used, number), -1)
    middle = lowest * 2 ** ((used + 0.5) / BANDS_IN_AN_OCTAVE)
    return Bands(2 * spacing / middle, place)


def variance_by_band(fields: Array, given: Bands) -> Array:
    """Return the variance of fields in each band; the last two dimensions are the grid, and become the bands.

    The discrete cosine transform sees no jump where the grid ends, as a Fourier
    transform does. The bands' variances add up to that of the field, but for the waves
    that belong to none.
    """
    import numpy as np
    from scipy.fft import dctn

    *others, rows, columns = fields.shape
    variance = dctn(fields, axes=(-2, -1), norm="ortho") ** 2 / (rows * columns)
    flat = variance.reshape(-1, rows * columns)
    place = given.place.ravel()
    found = np.empty((len(flat), len(given.wavelength)))
    for number, one in enumerate(flat):
        found[number] = np.bincount(
            place[place >= 0], one[place >= 0], len(given.wavelength)
        )
    return found.reshape(*others, len(given.wavelength))
