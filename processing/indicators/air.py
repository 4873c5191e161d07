"""Air quality: the Indonesian ISPU, and the US AQI for particles with the NowCast.

Everything takes hourly means as matrices (datastreams, hours), NaN where an hour has none, and gives matrices of the
same shape. Making hourly means is left to the windows, telling people to ``docs/indicators.md`` and the pages.

Where concentrations are negative (analysers drift below zero in clean air) they count as 0 in the indices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

ISPU_CATEGORIES = ("Baik", "Sedang", "Tidak sehat", "Sangat tidak sehat", "Berbahaya")
"""Names of the codes 0 to 4."""

ISPU_COLOURS = ("hijau", "biru", "kuning", "merah", "hitam")

_ISPU_UPPER = (50.0, 100.0, 200.0, 300.0)
_AQI_UPPER = (50.0, 100.0, 150.0, 200.0, 300.0)

US_AQI_CATEGORIES = (
    "Good",
    "Moderate",
    "Unhealthy for sensitive groups",
    "Unhealthy",
    "Very unhealthy",
    "Hazardous",
)

NO_POLLUTANT = -1


@dataclass(frozen=True, slots=True)
class IspuSettings:
    """What the regulation leaves open, or what readers of it disagree about."""

    last_anchor: float = 500.0
    """Index of the table's last row of concentrations. Copies of the annex print only ">300" there; public code uses
    500, one close reading of the annex 400."""
    hours: int = 24
    """Length of the rolling mean. [h]"""
    completeness: float = 0.75
    """Part of the hours that must have a value. Unverified: the annex only says "24 hours continuously"; three quarters
    is the usual rule for daily means (US 40 CFR 50, appendices: 75 %)."""

    def __post_init__(self) -> None:
        if self.last_anchor <= _ISPU_UPPER[-1]:
            raise ValueError(f"last_anchor must be above 300, got {self.last_anchor} (processing.indicators.air)")
        if self.hours < 1:
            raise ValueError(f"hours must be at least 1, got {self.hours} (processing.indicators.air)")
        if not 0 < self.completeness <= 1:
            raise ValueError(f"completeness must be in (0, 1], got {self.completeness} (processing.indicators.air)")


ISPU_TABLE: dict[str, tuple[float, float, float, float, float]] = {
    "pm10_ug_m3": (50.0, 150.0, 350.0, 420.0, 500.0),
    "pm2_5_ug_m3": (15.5, 55.4, 150.4, 250.4, 500.0),
    "so2_ug_m3": (52.0, 180.0, 400.0, 800.0, 1200.0),
    "co_ug_m3": (4000.0, 8000.0, 15000.0, 30000.0, 45000.0),
    "o3_ug_m3": (120.0, 235.0, 400.0, 800.0, 1000.0),
    "no2_ug_m3": (80.0, 200.0, 1130.0, 2260.0, 3000.0),
    "hc_ug_m3": (45.0, 100.0, 215.0, 432.0, 648.0),
}
"""24 h means at index 50, 100, 200, 300 and the last anchor. [µg/m³]

Permen LHK P.14/MENLHK/SETJEN/KUM.1/7/2020, annex, as copied at
123dok.com/id/docs/pengertian-dan-paraeter-ispu.12268587 (all seven columns) and in public ISPU code (PM10, PM2.5,
CO). Hydrocarbons (``hc_ug_m3``) are in the table of the regulation, and not yet among the observed properties.
"""

ISPU_POLLUTANTS = tuple(ISPU_TABLE)
"""The order of pollutants; at equal indices the earlier one is the dominant one."""


def rolling_mean(hourly: Floats, hours: int, completeness: float) -> Floats:
    """Mean of each hour and the hours before it.

    Parameters
    ----------
    hourly : (datastreams, hours) float array
        Means of consecutive hours. NaN means missing.
    hours : int
        Length of the mean, the hour itself included. [h]
    completeness : float
        Part of ``hours`` that must have a value, above 0 up to 1.

    Returns
    -------
    (datastreams, hours) float array
        Mean of the hours that have a value, NaN where too few have one; so also at the beginning.

    Examples
    --------
    >>> rolling_mean(np.array([[1.0, 2.0, np.nan, 6.0]]), hours=2, completeness=1.0)
    array([[nan, 1.5, nan, nan]])
    """
    if hourly.ndim != 2:
        raise ValueError(f"hourly must be (datastreams, hours), got shape {hourly.shape} (processing.indicators.air)")
    known = ~np.isnan(hourly)
    value = np.where(known, hourly, 0.0)
    total = np.zeros_like(value)
    count = np.zeros(value.shape, dtype=np.int64)
    # Adding the shifted matrices keeps each hour's sum independent of how long the matrix is.
    for back in range(min(hours, hourly.shape[1])):
        kept = slice(0, hourly.shape[1] - back)
        total[:, back:] += value[:, kept]
        count[:, back:] += known[:, kept]
    needed = max(int(np.ceil(np.round(completeness * hours, 9))), 1)
    mean: Floats = np.where(count >= needed, total / np.maximum(count, 1), np.nan)
    return mean


def _on_table(concentration: Floats, concentrations: Floats, indices: Floats) -> Floats:
    """Straight lines between the points of a table; beyond the last point its last line goes on."""
    c = np.maximum(concentration, 0.0)
    inside = np.interp(c, concentrations, indices)
    slope = (indices[-1] - indices[-2]) / (concentrations[-1] - concentrations[-2])
    beyond = indices[-1] + slope * (c - concentrations[-1])
    index: Floats = np.where(c > concentrations[-1], beyond, inside)
    return index


def ispu(pollutant: str, mean_24h_ug_m3: Floats, settings: IspuSettings = IspuSettings()) -> Floats:
    """Index of one pollutant.

    I = (Ia − Ib) / (Xa − Xb) · (Xx − Xb) + Ib, with a and b the table's points above and below. (A circulating copy of
    the regulation prints −Ib at the end, which gives 0 for PM10 at 50 µg/m³ where the table says 50.)

    Parameters
    ----------
    pollutant : str
        Name of the observed property, a key of ``ISPU_TABLE``.
    mean_24h_ug_m3 : float array of any shape
        24 h means. NaN means missing.
    settings : IspuSettings

    Returns
    -------
    float array of the same shape
        Not rounded. Beyond the table's last point the last line goes on, so that the index stays comparable.

    Raises
    ------
    ValueError
        The pollutant is not in the table.

    References
    ----------
    Permen LHK P.14/MENLHK/SETJEN/KUM.1/7/2020, annex.

    Examples
    --------
    >>> ispu("pm2_5_ug_m3", np.array([15.5, 35.45, 55.4])).round(6)
    array([ 50.,  75., 100.])
    """
    if pollutant not in ISPU_TABLE:
        raise ValueError(
            f"pollutant must be one of {', '.join(ISPU_TABLE)}, got {pollutant} (processing.indicators.air)"
        )
    points = np.array((0.0, *ISPU_TABLE[pollutant]))
    return _on_table(mean_24h_ug_m3, points, np.array((0.0, *_ISPU_UPPER, settings.last_anchor)))


def _category(index: Floats, upper: tuple[float, ...]) -> npt.NDArray[np.int8]:
    shown = np.floor(index + 0.5)
    code = np.searchsorted(np.array(upper), shown, side="left").astype(np.int8)
    code[np.isnan(index)] = -1
    return code


def ispu_category(index: Floats) -> npt.NDArray[np.int8]:
    """Category of an index: a code for ``ISPU_CATEGORIES``, or -1 for NaN.

    The index is rounded to a whole number first, as it is published; the bands are 0–50, 51–100, 101–200,
    201–300, and above.

    Examples
    --------
    >>> ispu_category(np.array([50.4, 50.5, 301.0, np.nan]))
    array([ 0,  1,  4, -1], dtype=int8)
    """
    return _category(index, _ISPU_UPPER)


@dataclass(frozen=True, slots=True)
class AirIndex:
    """The index of places and what it rests on; every array is (places, hours)."""

    index: Floats
    """The highest index of the pollutants that have one; NaN if none has."""
    dominant: npt.NDArray[np.int8]
    """Which pollutant that is: its row, or -1."""
    category: npt.NDArray[np.int8]
    """Code of the category, or -1."""
    pollutants: npt.NDArray[np.int8]
    """How many pollutants have an index. An index of fewer than all is a lower bound."""


def highest(indices: Floats) -> AirIndex:
    """The index of places from those of their pollutants.

    Parameters
    ----------
    indices : (pollutants, places, hours) float array
        For instance in the order of ``ISPU_POLLUTANTS``. NaN means missing.

    Returns
    -------
    AirIndex
        At equal indices the first of the pollutants is dominant.

    References
    ----------
    Permen LHK P.14/2020: the highest of the parameters' ISPU is reported, with its parameter.
    """
    known = ~np.isnan(indices)
    filled = np.where(known, indices, -np.inf)
    dominant = filled.argmax(axis=0)
    top = np.take_along_axis(filled, dominant[None], axis=0)[0]
    none = ~known.any(axis=0)
    index = np.where(none, np.nan, top)
    return AirIndex(
        index=index,
        dominant=np.where(none, NO_POLLUTANT, dominant).astype(np.int8),
        category=ispu_category(index),
        pollutants=known.sum(axis=0).astype(np.int8),
    )


def ispu_of_hours(hourly_ug_m3: dict[str, Floats], settings: IspuSettings = IspuSettings()) -> AirIndex:
    """ISPU of places at every hour, from the hourly means of their pollutants.

    Parameters
    ----------
    hourly_ug_m3 : dict of (places, hours) float arrays
        By pollutant; those without a sensor are left out, or NaN.
    settings : IspuSettings

    Returns
    -------
    AirIndex
        ``dominant`` counts in ``ISPU_POLLUTANTS``.

    Raises
    ------
    ValueError
        A name is not in the table, nothing is given, or shapes differ.
    """
    unknown = set(hourly_ug_m3) - set(ISPU_TABLE)
    shapes = {a.shape for a in hourly_ug_m3.values()}
    if unknown or len(shapes) != 1:
        raise ValueError(
            f"expected hourly means of one shape of pollutants in {', '.join(ISPU_TABLE)}, "
            f"got {sorted(hourly_ug_m3)} of shapes {sorted(shapes)} (processing.indicators.air)"
        )
    shape = shapes.pop()
    indices = np.full((len(ISPU_POLLUTANTS), *shape), np.nan)
    for row, pollutant in enumerate(ISPU_POLLUTANTS):
        if pollutant in hourly_ug_m3:
            mean = rolling_mean(hourly_ug_m3[pollutant], settings.hours, settings.completeness)
            indices[row] = ispu(pollutant, mean, settings)
    return highest(indices)


NOWCAST_HOURS = 12
NOWCAST_MIN_WEIGHT = 0.5


def nowcast_particles(hourly_ug_m3: Floats, *, decimals: int | None = 1) -> Floats:
    """US EPA NowCast of PM2.5 or PM10: what the 24 h mean would be if the air stayed as it is.

    With c_i the mean of i hours ago, of the 12 newest hours: w = max(0.5, min c / max c),
    NowCast = Σ wⁱ cᵢ / Σ wⁱ over the hours that have a value.

    Parameters
    ----------
    hourly_ug_m3 : (datastreams, hours) float array
        Means of consecutive hours. NaN means missing. Negative means count as 0.
    decimals : int, optional
        The result is cut (not rounded) to so many decimals: 1 for PM2.5, 0 for PM10; None leaves it.

    Returns
    -------
    (datastreams, hours) float array
        [µg/m³]. NaN unless 2 of the 3 newest hours have a value. All zero gives 0.

    References
    ----------
    US EPA, Technical Assistance Document for the Reporting of Daily Air Quality; the rules on missing hours and cutting
    also in the R packages AirMonitor (``monitor_nowcast``) and MazamaRollUtils (``roll_nowcast``).

    Examples
    --------
    A jump from 10 to 100 weights each older hour half (w = 0.5): (100 + 10·(½ + ¼ + …)) / (1 + ½ + …) ≈ 55.

    >>> float(nowcast_particles(np.array([[10.0] * 11 + [100.0]]))[0, -1])
    55.0
    """
    if hourly_ug_m3.ndim != 2:
        raise ValueError(
            f"hourly must be (datastreams, hours), got shape {hourly_ug_m3.shape} (processing.indicators.air)"
        )
    streams, hours = hourly_ug_m3.shape
    padded = np.full((streams, hours + NOWCAST_HOURS - 1), np.nan)
    padded[:, NOWCAST_HOURS - 1 :] = np.maximum(hourly_ug_m3, 0.0)  # keeps NaN
    ago = [padded[:, NOWCAST_HOURS - 1 - i : NOWCAST_HOURS - 1 - i + hours] for i in range(NOWCAST_HOURS)]
    lowest, top = ago[0], ago[0]
    for c in ago[1:]:
        lowest, top = np.fmin(lowest, c), np.fmax(top, c)
    with np.errstate(invalid="ignore", divide="ignore"):
        w = np.where(top > 0, np.maximum(lowest / top, NOWCAST_MIN_WEIGHT), 1.0)
    weighted, weights, power = np.zeros_like(w), np.zeros_like(w), np.ones_like(w)
    for c in ago:
        known = ~np.isnan(c)
        weighted += np.where(known, power * c, 0.0)
        weights += np.where(known, power, 0.0)
        power = power * w
    recent = sum((~np.isnan(c)).astype(np.int64) for c in ago[:3])
    result: Floats = np.where(np.asarray(recent) >= 2, weighted / np.where(weights > 0, weights, 1.0), np.nan)
    return result if decimals is None else _cut(result, decimals)


def _cut(value: Floats, decimals: int) -> Floats:
    # 12.3 is stored as 12.29999…: a value within 1e-9 below a step counts as the step.
    scale = 10.0**decimals
    cut: Floats = np.floor(np.round(value * scale, 9)) / scale
    return cut


def nowcast_ozone_surrogate(hourly_ppb: Floats) -> Floats:
    """The simple US EPA NowCast of ozone: 0.85 · c + 4.5 ppb, from the newest of the last three hours that has a value.

    It is what EPA takes where a monitor has less than 75 % of two weeks of hours; with more it takes a regression, see
    ``processing.indicators.ozone``.

    Parameters
    ----------
    hourly_ppb : (datastreams, hours) float array
        NaN means missing.

    Returns
    -------
    (datastreams, hours) float array
        Estimate of the 8 h mean centred on the hour. [ppb]

    References
    ----------
    github.com/USEPA/O3-Nowcast, ``NowcastFun_Upd.r`` (``generateSurrogate``: slope 0.85, intercept 4.5).

    Examples
    --------
    >>> nowcast_ozone_surrogate(np.array([[40.0, np.nan, np.nan, np.nan]]))
    array([[38.5, 38.5, 38.5,  nan]])
    """
    newest = hourly_ppb.copy()
    for back in (1, 2):
        earlier = np.full_like(hourly_ppb, np.nan)
        earlier[:, back:] = hourly_ppb[:, : max(hourly_ppb.shape[1] - back, 0)]
        newest = np.where(np.isnan(newest), earlier, newest)
    estimate: Floats = 0.85 * newest + 4.5
    return estimate


US_AQI_TABLE: dict[str, tuple[tuple[float, float, float, float], ...]] = {
    "pm2_5_ug_m3": (
        (0.0, 9.0, 0, 50),
        (9.1, 35.4, 51, 100),
        (35.5, 55.4, 101, 150),
        (55.5, 125.4, 151, 200),
        (125.5, 225.4, 201, 300),
        (225.5, 325.4, 301, 500),
    ),
    "pm10_ug_m3": (
        (0.0, 54.0, 0, 50),
        (55.0, 154.0, 51, 100),
        (155.0, 254.0, 101, 150),
        (255.0, 354.0, 151, 200),
        (355.0, 424.0, 201, 300),
        (425.0, 604.0, 301, 500),
    ),
}
"""Lowest and highest concentration of each band [µg/m³], and its indices; PM2.5 as of 6 May 2024.

The Technical Assistance Document, as quoted in public code, gives the concentrations at index 500 as 325.4 (PM2.5) and
604 (PM10), and says that the last line goes on above. Some public code puts 325.4 at 400, or 500.4 at 500."""

_US_AQI_DECIMALS = {"pm2_5_ug_m3": 1, "pm10_ug_m3": 0}


def us_aqi(pollutant: str, mean_ug_m3: Floats) -> Floats:
    """US AQI of particles, from 24 h means or from the NowCast.

    The concentration is cut to 0.1 (PM2.5) or 1 µg/m³ (PM10), put on the straight line of its band and rounded.

    Parameters
    ----------
    pollutant : str
        ``pm2_5_ug_m3`` or ``pm10_ug_m3``.
    mean_ug_m3 : float array of any shape

    Returns
    -------
    float array of the same shape
        Whole numbers; above 500 on the last band's line. NaN stays NaN.

    Raises
    ------
    ValueError
        There is no table for the pollutant.

    References
    ----------
    40 CFR 58, appendix G; US EPA, Technical Assistance Document for the Reporting of Daily Air Quality (May 2024).

    Examples
    --------
    >>> us_aqi("pm2_5_ug_m3", np.array([9.09, 35.4, 35.5, 225.5, 325.4]))
    array([ 50., 100., 101., 301., 500.])
    """
    if pollutant not in US_AQI_TABLE:
        raise ValueError(
            f"pollutant must be one of {', '.join(US_AQI_TABLE)}, got {pollutant} (processing.indicators.air)"
        )
    low, high, index_low, index_high = (np.array(c) for c in zip(*US_AQI_TABLE[pollutant], strict=True))
    c = _cut(np.maximum(mean_ug_m3, 0.0), _US_AQI_DECIMALS[pollutant])
    # NaN is put in the last band, where it stays NaN.
    band = np.minimum(np.searchsorted(high, c, side="left"), high.size - 1)
    slope = (index_high - index_low) / (high - low)
    index: Floats = np.floor(index_low[band] + slope[band] * (c - low[band]) + 0.5)
    return index


def us_aqi_category(index: Floats) -> npt.NDArray[np.int8]:
    """Category of a US AQI: a code for ``US_AQI_CATEGORIES``, or -1 for NaN."""
    return _category(index, _AQI_UPPER)
