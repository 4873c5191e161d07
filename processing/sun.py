"""Where the sun stands: decides whether a street lamp ought to burn."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_NS_PER_DAY = 86_400_000_000_000
_NS_PER_HOUR = 3_600_000_000_000


def solar_elevation_deg(
    at: npt.NDArray[np.int64], latitude: npt.NDArray[np.float64], longitude: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Elevation of the sun's centre over the horizon, without refraction.

    Parameters
    ----------
    at : (n,) int64 array
        [ns since 1970 UTC]
    latitude, longitude : (n,) float arrays
        North and east are positive. [deg]

    Returns
    -------
    (n,) float array
        [deg], within about half a degree between 1950 and 2050; negative is below the horizon.

    References
    ----------
    Declination after Cooper (1969), "The absorption of radiation in solar stills", Solar Energy 12;
    equation of time after Spencer (1971), "Fourier series representation of the position of the sun", Search 2.

    Examples
    --------
    Bandung at local noon (UTC+7) on 21 June, where 90° - 23.44° - 6.9° = 59.6° is expected:

    >>> noon = np.array(["2026-06-21T04:50"], "datetime64[ns]").astype(np.int64)
    >>> float(solar_elevation_deg(noon, np.array([-6.9]), np.array([107.6])).round(0)[0])
    60.0
    """
    day = at // _NS_PER_DAY
    year_start = at.astype("datetime64[ns]").astype("datetime64[Y]").astype("datetime64[D]").astype(np.int64)
    day_of_year = day - year_start + 1
    b = 2 * np.pi * (day_of_year - 1) / 365
    equation_of_time_h = (
        229.18
        / 60
        * (0.000075 + 0.001868 * np.cos(b) - 0.032077 * np.sin(b) - 0.014615 * np.cos(2 * b) - 0.040849 * np.sin(2 * b))
    )
    declination = np.deg2rad(23.44) * np.sin(2 * np.pi * (284 + day_of_year) / 365)
    utc_h = (at % _NS_PER_DAY) / _NS_PER_HOUR
    hour_angle = np.deg2rad(15 * (utc_h + longitude / 15 + equation_of_time_h - 12))
    phi = np.deg2rad(latitude)
    sine = np.sin(phi) * np.sin(declination) + np.cos(phi) * np.cos(declination) * np.cos(hour_angle)
    elevation: npt.NDArray[np.float64] = np.rad2deg(np.arcsin(np.clip(sine, -1, 1)))
    return elevation
