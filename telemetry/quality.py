"""Quality flags of readings, after U.S. IOOS QARTOD."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

GOOD = 1
UNKNOWN = 2
SUSPECT = 3
FAIL = 4
MISSING = 9

FLAG_NAMES: dict[int, str] = {
    GOOD: "good",
    UNKNOWN: "unknown",
    SUSPECT: "suspect",
    FAIL: "fail",
    MISSING: "missing",
}

# Rank of each flag in the roll-up: FAIL over SUSPECT over GOOD over UNKNOWN over MISSING.
_RANK = np.zeros(16, dtype=np.uint8)
_RANK[[MISSING, UNKNOWN, GOOD, SUSPECT, FAIL]] = [0, 1, 2, 3, 4]
_FLAG_OF_RANK = np.array([MISSING, UNKNOWN, GOOD, SUSPECT, FAIL], dtype=np.uint8)


def roll_up(*flags: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Combine the flags that several tests gave to the same readings into one flag for each reading.

    Parameters
    ----------
    flags : one or more (n,) uint8 arrays
        QARTOD flags (1, 2, 3, 4 or 9), one array for each test.

    Returns
    -------
    (n,) uint8 array
        The worst flag of each reading; precedence 4 > 3 > 1 > 2 > 9.

    References
    ----------
    U.S. IOOS QARTOD, aggregate flag as implemented by ioos_qc (``qartod_compare``).

    Examples
    --------
    >>> roll_up(np.array([1, 2, 9], np.uint8), np.array([3, 1, 2], np.uint8))
    array([3, 1, 2], dtype=uint8)
    """
    rank = _RANK[flags[0]]
    for other in flags[1:]:
        rank = np.maximum(rank, _RANK[other])
    return _FLAG_OF_RANK[rank]
