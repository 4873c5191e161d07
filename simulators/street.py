"""The street: air, sound, weather and lamps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

WASHOUT_PER_MM = 0.035
"""Fine particles that 1 mm of rain takes out of the air (order of magnitude of washout coefficients)."""

REFILL_MIN = 60.0
"""Time in which emissions fill washed air again."""


def solar_elevation_deg(time_ns: npt.NDArray[np.int64], latitude: Floats, longitude: Floats) -> Floats:
    """Height of the sun over the horizon; shapes broadcast.

    References
    ----------
    Declination 23.44° sin(360 (284 + n) / 365) (Cooper 1969); the usual three-term equation
    of time; good to half a degree, without refraction.

    Examples
    --------
    >>> noon = np.array([np.datetime64("2026-03-20T04:57", "ns").astype(np.int64)])
    >>> bool(abs(solar_elevation_deg(noon, np.array(-6.92), np.array(107.61))[0] - 83.1) < 1.0)
    True
    """
    days = time_ns / 86_400e9
    hour_utc = (days - np.floor(days)) * 24.0
    date = np.asarray(time_ns, "datetime64[ns]").astype("datetime64[D]")
    year_day = np.asarray(date - date.astype("datetime64[Y]")).astype(np.float64) + 1.0
    declination = np.radians(23.44) * np.sin(2 * np.pi * (284.0 + year_day) / 365.0)
    b = 2 * np.pi * (year_day - 81.0) / 364.0
    equation_of_time_h = (9.87 * np.sin(2 * b) - 7.53 * np.cos(b) - 1.5 * np.sin(b)) / 60.0
    hour_angle = np.radians(15.0 * (hour_utc + longitude / 15.0 + equation_of_time_h - 12.0))
    phi = np.radians(latitude)
    sine = np.sin(phi) * np.sin(declination) + np.cos(phi) * np.cos(declination) * np.cos(hour_angle)
    return np.asarray(np.degrees(np.arcsin(np.clip(sine, -1.0, 1.0))))


def day_wave(local_hour: Floats, peak_hour: float) -> Floats:
    """A cosine over the day, 1 at ``peak_hour`` and -1 twelve hours away."""
    return np.asarray(np.cos(2 * np.pi * (local_hour - peak_hour) / 24.0))


def washed_air(rain_mm_h: Floats) -> Floats:
    """Share of particles that are left in the air, from clean weather at the first minute on.

    Parameters
    ----------
    rain_mm_h : (t, places) float array
        Rain at every minute.

    Returns
    -------
    (t, places) float array in (0, 1]
        df/dt = (1 - f) / REFILL - WASHOUT · rain · f, each minute solved exactly for constant rain.
    """
    share = np.ones_like(rain_mm_h)
    for i in range(1, rain_mm_h.shape[0]):
        rate = 1.0 / REFILL_MIN + WASHOUT_PER_MM * rain_mm_h[i - 1] / 60.0
        level = (1.0 / REFILL_MIN) / rate
        share[i] = level + (share[i - 1] - level) * np.exp(-rate)
    return share


def relative_humidity_percent(temperature_c: Floats, dew_point_c: Floats) -> Floats:
    """Relative humidity from temperature and dew point (Magnus; coefficients of Sonntag 1990).

    Examples
    --------
    >>> relative_humidity_percent(np.array([25.0, 20.0]), np.array([20.0, 20.0])).round(1)
    array([ 73.8, 100. ])
    """
    ratio = np.exp(17.62 * dew_point_c / (243.12 + dew_point_c) - 17.62 * temperature_c / (243.12 + temperature_c))
    return np.asarray(np.clip(100.0 * ratio, 0.0, 100.0))


def pressure_at(height_m: Floats, sea_level_hpa: float = 1011.0) -> Floats:
    """Air pressure by the international barometric formula.

    Examples
    --------
    >>> pressure_at(np.array([0.0, 700.0]), 1013.25).round(1)
    array([1013.2,  931.9])
    """
    return np.asarray(sea_level_hpa * (1.0 - 2.25577e-5 * height_m) ** 5.25588)


def traffic_sound_db(flow_veh_h: Floats, speed_km_h: Floats, heavy_percent: float = 8.0) -> Floats:
    """LAeq at the roadside (10 m) from traffic, not below the quiet street's 35 dB(A).

    References
    ----------
    UK Calculation of Road Traffic Noise (1988): L10,1h = 42.2 + 10 lg q at 75 km/h, corrected by
    33 lg(v + 40 + 500/v) + 10 lg(1 + 5p/v) - 68.8; LAeq taken as L10 - 3 dB.
    """
    v = np.maximum(speed_km_h, 5.0)
    at_75 = 42.2 + 10.0 * np.log10(np.maximum(flow_veh_h, 1.0))
    speed = 33.0 * np.log10(v + 40.0 + 500.0 / v) + 10.0 * np.log10(1.0 + 5.0 * heavy_percent / v) - 68.8
    return np.maximum(at_75 + speed - 3.0, 35.0)


def add_levels_db(*levels: Floats | float) -> Floats:
    """Sound levels together: 10 lg of the sum of energies.

    Examples
    --------
    >>> add_levels_db(np.array([60.0]), 60.0).round(2)
    array([63.01])
    """
    return np.asarray(10.0 * np.log10(sum(10.0 ** (np.asarray(level) / 10.0) for level in levels)))
