"""The recorded floods that the forecast is tried on, laid on a grid of 15 minutes."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from processing.forecast import STEP_NS, History

RECORDINGS = Path(__file__).parents[1] / "simulators/recordings"
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Case:
    """A station learnt from one record and tried on another, or on the later part of the same."""

    name: str
    train: History
    test: History
    """May begin with what came before the part that is judged."""
    judged_from: int
    """First step of ``test`` that is judged."""
    flood_stage_m: float
    rising_m: float = 0.02


def _ns(text: str) -> int:
    return int(np.datetime64(text, "ns").astype(np.int64))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def hadfields_2007() -> tuple[npt.NDArray[np.int64], Floats]:
    """Times and stages of the River Don at Sheffield Hadfields, 2007."""
    path = RECORDINGS / "don_hadfields_2007/stage_15min.csv.gz"
    with gzip.open(path, "rt", encoding="latin-1") as file:
        rows = [row for row in csv.reader(file) if len(row) > 2 and row[0][2:3] == "/"]
    times = [_ns(f"{at[6:10]}-{at[3:5]}-{at[:2]}T{at[11:]}") for at, *_ in rows]
    return np.array(times, np.int64), np.array([_number(row[1]) for row in rows])


def short(name: str) -> Floats:
    """Stages of one of the short records: regular steps of 15 minutes."""
    with (RECORDINGS / f"floods_short/{name}.csv").open(encoding="utf-8-sig") as file:
        header, *rows = [row for row in csv.reader(file) if row and row[0]]
    column = header.index("Stage" if "Stage" in header else "Height")
    return np.array([_number(row[column]) for row in rows])


def calder() -> History:
    """Hebden Bridge with Callis Bridge upstream and the rain of Gorpley and Bacup, 2025; absent steps are NaN."""
    grid = np.arange(_ns("2025-08-16"), _ns("2025-09-13T14:15") + 1, STEP_NS)

    def series(name: str) -> Floats:
        with gzip.open(RECORDINGS / f"calder_2025/{name}-15min.csv.gz", "rt") as file:
            values = {_ns(row["dateTime"]): float(row["value"]) for row in csv.DictReader(file)}
        return np.array([values.get(at, np.nan) for at in grid.tolist()])

    rain = np.stack([series("Gorpley-rainfall"), series("Bacup-rainfall")])
    return History(series("Hebden-Bridge-level"), series("Todmorden-Callis-Bridge-level")[None], rain)


def rotherham(year: int) -> History:
    """The Don at Rotherham, with Hadfields in Sheffield upstream.

    The short records do not say when they start. All have whole days, so they are taken to start at midnight. For
    2007, only one midnight fits: from 11 June 2007 the hourly rises of both correlate by 0.7, from the days around it
    by less than 0.1. For 2019, Rotherham's record starts 5 days before Hadfields': then the peaks are 1 h 45 min apart.
    """
    if year == 2007:
        own = short("don_rotherham_2007")
        times, above = hadfields_2007()
        start = int(np.searchsorted(times, _ns("2007-06-11")))
        return History(own, above[None, start : start + own.shape[0]])
    own, above = short("don_rotherham_2019"), short("don_hadfields_2019")
    start = 5 * 96
    aligned = np.full((1, own.shape[0]), np.nan)
    aligned[0, start:] = above[: own.shape[0] - start]
    return History(own, aligned)


def part(history: History, end: int) -> History:
    """The first ``end`` steps."""
    return History(history.stage_m[:end], history.upstream_m[:, :end], history.rain_mm[:, :end])


def cases() -> Iterator[Case]:
    """All pairs of a record to learn from and a record to be tried on."""
    times, hadfields = hadfields_2007()
    until = int(np.searchsorted(times, _ns("2007-06-20")))
    yield Case(
        "Hadfields, January to 19 June 2007 -> flood of June 2007",
        History(hadfields[:until]),
        History(hadfields[: until + 14 * 96]),
        until,
        1.5,
    )
    yield Case("Hadfields, 2007 -> 2019", History(hadfields), History(short("don_hadfields_2019")), 0, 1.5)
    both = {year: rotherham(year) for year in (2007, 2019)}
    for a, b in ((2007, 2019), (2019, 2007)):
        own = {year: History(history.stage_m) for year, history in both.items()}
        yield Case(f"Rotherham, {a} -> {b}", own[a], own[b], 0, 1.0)
        yield Case(f"Rotherham with Hadfields upstream, {a} -> {b}", both[a], both[b], 0, 1.0)
    skelton = {year: History(short(f"ouse_skelton_{year}")) for year in (2000, 2015)}
    yield Case("Skelton, 2000 -> 2015", skelton[2000], skelton[2015], 0, np.inf)
    yield Case("Skelton, 2015 -> 2000", skelton[2015], skelton[2000], 0, np.inf)
    valley = calder()
    until = valley.stage_m.shape[0] * 6 // 10
    alone = History(valley.stage_m)
    for name, history in (("Hebden Bridge", alone), ("Hebden Bridge with upstream and rain", valley)):
        title = f"{name}, first 60 % -> last 40 % (no flood)"
        yield Case(title, part(history, until), history, until, np.inf, rising_m=0.01)
