"""The US EPA NowCast of ozone: the mean of the eight hours around now, from a regression on two weeks of hours.

Each station learns anew at every hour, from its own 336 newest hours, how its 8 h means follow from the 96 hours before
them. The NowCast of particles and the simple surrogate are in ``processing.indicators.air``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from processing.indicators.air import nowcast_ozone_surrogate

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

HOURS = 336
"""Hours that the regression learns from."""
WINDOW = 96
"""Hours that a mean is predicted from."""
NEEDED_HOURS = 252
"""Hours that must have a value for the regression: 75 %."""
LONGEST_GAP_H = 7
_BEFORE, _AFTER = 4, 3
_IMPUTED_FROM = 4
_RANK_TOLERANCE = 1e-12


def nowcast_ozone(hourly_ppb: Floats) -> Floats:
    """NowCast of ozone at the newest hour.

    Parameters
    ----------
    hourly_ppb : (datastreams, 336) float array
        Means of consecutive hours, the newest last. NaN means missing.

    Returns
    -------
    (datastreams,) float array
        The 8 h mean from 4 hours before to 3 hours after the newest hour, estimated, not below 0. [ppb] It is the
        surrogate of ``processing.indicators.air`` where less than 252 hours have a value, or more than 7 in a row have
        none; 0 where all values are 0. NaN where the newest hour has no value, unless the surrogate holds: EPA then
        repeats the NowCast of one or two hours before, which is for the caller, who has it.

    Raises
    ------
    ValueError
        There are not 336 hours.

    References
    ----------
    github.com/USEPA/O3-Nowcast, ``GetNowcast.r`` and ``NowcastFun_Upd.r`` (2019). EPA's code takes partial least
    squares with all 96 components, which is least squares (the kernel algorithm of Dayal & MacGregor 1997 gives the
    same to 1e-10 ppb). Gaps are filled as by ``na.ma`` of the R package imputeTS (from general knowledge, unverified):
    weights 1/2^distance over 4 hours to both sides, more if fewer than 2 of them have a value. The answers have not
    been compared with a run of the R code.
    """
    if hourly_ppb.ndim != 2 or hourly_ppb.shape[1] != HOURS:
        raise ValueError(
            f"expected (datastreams, {HOURS}) hours, got {hourly_ppb.shape} (processing.indicators.ozone.nowcast_ozone)"
        )
    known = ~np.isnan(hourly_ppb)
    count = known.sum(axis=1)
    means = _eight_hour_means(hourly_ppb, known)[:, WINDOW - 1 :]
    enough = (count >= NEEDED_HOURS) & (_longest_gap(known) <= LONGEST_GAP_H)
    zero = enough & (np.where(known, hourly_ppb, 0.0).sum(axis=1) == 0)
    learns = enough & ~zero & known[:, -1] & (np.isnan(means).mean(axis=1) <= 0.25)
    result = np.where(enough, np.nan, nowcast_ozone_surrogate(hourly_ppb)[:, -1])
    result[zero] = 0.0
    rows = np.flatnonzero(learns)
    if rows.size:
        result[rows] = np.maximum(_predict(_filled(hourly_ppb[rows]), means[rows]), 0.0)
    return result


def _eight_hour_means(hourly: Floats, known: Bools) -> Floats:
    """Mean of each hour, the 4 before and the 3 after it; NaN if under 6 have a value, and at the ends."""
    total = np.lib.stride_tricks.sliding_window_view(np.where(known, hourly, 0.0), _BEFORE + _AFTER + 1, axis=1).sum(-1)
    number = np.lib.stride_tricks.sliding_window_view(known, _BEFORE + _AFTER + 1, axis=1).sum(-1)
    means = np.full(hourly.shape, np.nan)
    means[:, _BEFORE:-_AFTER] = np.where(number >= 6, total / np.maximum(number, 1), np.nan)
    return means


def _longest_gap(known: Bools) -> npt.NDArray[np.intp]:
    hour = np.arange(known.shape[1])
    last = np.maximum.accumulate(np.where(known, hour, -1), axis=1)
    longest: npt.NDArray[np.intp] = (hour - last).max(axis=1)
    return longest


def _filled(hourly: Floats) -> Floats:
    filled = hourly.copy()
    value = np.where(np.isnan(hourly), 0.0, hourly)
    there = (~np.isnan(hourly)).astype(np.float64)
    total, weights, number = np.zeros_like(value), np.zeros_like(value), np.zeros_like(value)
    for distance in range(1, hourly.shape[1]):
        weight = 0.5**distance
        for to, of in (
            (slice(distance, None), slice(None, -distance)),
            (slice(None, -distance), slice(distance, None)),
        ):
            total[:, to] += weight * value[:, of]
            weights[:, to] += weight * there[:, of]
            number[:, to] += there[:, of]
        ready = np.isnan(filled) & (number >= 2)
        if distance >= _IMPUTED_FROM:
            filled[ready] = (total / np.where(weights > 0, weights, 1.0))[ready]
            if not np.isnan(filled).any():
                break
    return filled


def _predict(filled: Floats, means: Floats) -> Floats:
    """The mean of the last row, by least squares on the rows that have one."""
    hours = np.lib.stride_tricks.sliding_window_view(filled, WINDOW, axis=1)
    taken = ~np.isnan(means)
    number = taken.sum(axis=1)
    x_mean = (hours * taken[:, :, None]).sum(axis=1) / number[:, None]
    y_mean = np.where(taken, means, 0.0).sum(axis=1) / number
    x = (hours - x_mean[:, None, :]) * taken[:, :, None]
    y = np.where(taken, means - y_mean[:, None], 0.0)
    newest = hours[:, -1] - x_mean
    # By the normal equations: a matrix of 96 by 96 instead of 241 by 96.
    turned = x.transpose(0, 2, 1)
    inverse = np.linalg.pinv(turned @ x, rcond=_RANK_TOLERANCE, hermitian=True)
    coefficients = np.einsum("swv,sv->sw", inverse, np.einsum("swn,sn->sw", turned, y))
    predicted: Floats = np.einsum("sw,sw->s", newest, coefficients) + y_mean
    return predicted
