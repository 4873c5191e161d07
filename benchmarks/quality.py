"""How well the QARTOD tests find what technicians labelled, whether they spare true floods, and what they cost.

    python -m benchmarks.quality [--speed]

The limits were set before the first run and are not tuned to the labels; where they come from stands beside them.
What the figures mean: docs/quality.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from processing.qartod import SpikeMethod, gap, rate_of_change, spike
from processing.qartod_flat_band import FlatBand, flat_band
from processing.qartod_windows import Spread, attenuated, flat_by_right, flat_line
from processing.quality import gross_range
from processing.segments import Segments
from simulators.recording import load_recording
from telemetry.observations import NS_PER_S
from telemetry.quality import FAIL, SUSPECT, roll_up

ROOT = Path(__file__).parents[1]
LOGAN = ROOT / "tests/processing/recordings/qc_logan_river"
FLOODS = ROOT / "simulators/recordings"
SITES = ("BlackSmithFork2015", "TonyGrove2019")
VARIABLES = ("temp", "cond", "ph", "do", "turb", "stage")
NO_VALUE = -9999.0

Flags = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Limits:
    """Limits of the tests for one variable; infinite: that test is off. [unit of the variable]"""

    fail_min: float = -np.inf
    fail_max: float = np.inf
    suspect_min: float = -np.inf
    suspect_max: float = np.inf
    spike_suspect: float = np.inf
    """By the average method, and by the differential one."""
    spike_fail: float = np.inf
    """By the differential method alone."""
    rate_suspect_per_s: float = np.inf
    flat_tolerance: float = 0.0
    flat_suspect_s: float = np.inf
    flat_fail_s: float = np.inf
    right_max: float = np.nan
    """Up to this, a flat line is by right."""


QUARTER_S = 900.0


def by_pyhydroqc(span: tuple[float, float], residual: float, persist: int, sensor: tuple[float, float]) -> Limits:
    """Limits from the parameters that the authors of PyHydroQC published for a site and sensor.

    ``span`` (``min_range``, ``max_range``): SUSPECT outside. ``persist``: so many equal readings in a row are SUSPECT,
    twice as many FAIL. ``residual`` (``threshold_min``, the smallest forecast error that counts): height of a SUSPECT
    spike; four times as much is FAIL, the ratio of the stage limits; three times as much in 15 min is a SUSPECT rate.
    ``sensor``: what such sensors measure; FAIL outside.
    Source: github.com/AmberSJones/pyhydroqc, PyHydroQC/parameters.py, commit 46e4a2e.
    """
    return Limits(
        fail_min=sensor[0],
        fail_max=sensor[1],
        suspect_min=span[0],
        suspect_max=span[1],
        spike_suspect=residual,
        spike_fail=4 * residual,
        rate_suspect_per_s=3 * residual / QUARTER_S,
        flat_suspect_s=persist * QUARTER_S,
        flat_fail_s=2 * persist * QUARTER_S,
    )


# Wide physical spans; those of the sensors used are not stated in the recording.
TEMP_C, COND_US_CM, PH, DO_MG_L, TURB_NTU = (-5.0, 50.0), (0.0, 5000.0), (0.0, 14.0), (0.0, 50.0), (0.0, 4000.0)

# Nobody published limits for turbidity at these sites: this is a guess, made before the first run.
TURBIDITY = Limits(*TURB_NTU, 0.0, 1000.0, 10.0, 40.0, 30.0 / QUARTER_S, 0.0, 45 * QUARTER_S, 90 * QUARTER_S)
# River stage [cm] as configured for the comparison with ioos_qc (recordings/qc_qartod).
STAGE = Limits(-5.0, 150.0, 0.0, 100.0, 1.0, 4.0, 0.003, 0.001, 10800.0, 21600.0)

FREEZING_C = 0.1
"""Not among the limits, since it was seen in the figures that creek water stays at its freezing point for weeks."""

LIMITS: dict[tuple[str, str], Limits] = {
    ("BlackSmithFork2015", "temp"): by_pyhydroqc((-2, 28), 0.4, 30, TEMP_C),
    ("BlackSmithFork2015", "cond"): by_pyhydroqc((200, 900), 4.0, 30, COND_US_CM),
    ("BlackSmithFork2015", "ph"): by_pyhydroqc((7.2, 9.2), 0.03, 45, PH),
    ("BlackSmithFork2015", "do"): by_pyhydroqc((2, 14), 0.15, 45, DO_MG_L),
    ("TonyGrove2019", "temp"): by_pyhydroqc((-2, 20), 0.4, 30, TEMP_C),
    ("TonyGrove2019", "cond"): by_pyhydroqc((175, 500), 5.0, 30, COND_US_CM),
    ("TonyGrove2019", "ph"): by_pyhydroqc((8.0, 9.0), 0.02, 45, PH),
    ("TonyGrove2019", "do"): by_pyhydroqc((7, 14), 0.15, 45, DO_MG_L),
    **{(site, "turb"): TURBIDITY for site in SITES},
    **{(site, "stage"): STAGE for site in SITES},
}

# A river in a city: whatever it does, it is not FAIL for rising. 0.2 m a minute is what real ones do at worst.
RIVER_M = Limits(
    fail_min=-1.0,
    fail_max=10.0,
    spike_suspect=0.1,
    spike_fail=1.0,
    rate_suspect_per_s=0.2 / 60,
    flat_suspect_s=12 * 3600.0,
)
# The creek's limits above, in metres: far too tight for such a river, to see what then happens.
CREEK_M = replace(
    RIVER_M, spike_suspect=0.01, spike_fail=0.04, rate_suspect_per_s=3e-5, flat_suspect_s=10800.0, flat_tolerance=1e-5
)


def flags_by_test(
    value: npt.NDArray[np.float64], at: npt.NDArray[np.int64], segments: Segments, limits: Limits
) -> dict[str, Flags]:
    """The flags of each test; readings that fail the gross range are left out of the others."""
    span = (limits.fail_min, limits.fail_max, limits.suspect_min, limits.suspect_max)
    in_range = gross_range(value, *(np.full(value.shape, x) for x in span))
    value = np.where(in_range == FAIL, np.nan, value)
    flat = flat_line(
        value,
        at,
        segments,
        tolerance=limits.flat_tolerance,
        suspect_s=limits.flat_suspect_s,
        fail_s=limits.flat_fail_s,
    )
    return {
        "gross range": in_range,
        "spike, average": spike(value, segments, suspect=limits.spike_suspect),
        "spike, differential": spike(
            value,
            segments,
            suspect=limits.spike_suspect,
            fail=limits.spike_fail,
            method=SpikeMethod.DIFFERENTIAL,
        ),
        "rate of change": rate_of_change(value, at, segments, suspect_per_s=limits.rate_suspect_per_s),
        "flat line": flat_by_right(flat, value, segments, right_min=-np.inf, right_max=limits.right_max),
    }


def one(n: int) -> Segments:
    """All rows of one datastream."""
    return Segments.of(np.zeros(n, np.int32))


def bad(flag: Flags) -> Bools:
    """SUSPECT or FAIL."""
    return (flag == SUSPECT) | (flag == FAIL)


# --- labelled recordings


@dataclass(frozen=True)
class Labelled:
    """One variable at one site, with what a technician said and what the tests say. Rows without a value are out."""

    site: str
    variable: str
    no_value: int
    """Rows without a value, flagged MISSING."""
    no_value_labelled: int
    label: npt.NDArray[np.str_]
    """(n,) the technician's code; "": good."""
    event: npt.NDArray[np.intp]
    """(n,) number of the labelled stretch, -1 outside; stretches of neighbouring labels, whatever their code."""
    kind: npt.NDArray[np.str_]
    """(n,) what the stretch looks like; "": good."""
    tests: dict[str, Flags]

    @property
    def flag(self) -> Flags:
        """(n,) all tests together."""
        return roll_up(*self.tests.values())


def labelled(site: str, variable: str, limits: Limits | None = None) -> Labelled:
    """Read one variable of one recording and run the tests, with ``LIMITS`` unless others are given."""
    table = pd.read_csv(LOGAN / f"{site}.csv.gz", parse_dates=["datetime"])
    raw = table[variable].astype(float).to_numpy()
    corrected = table[f"{variable}_cor"].astype(float).to_numpy()
    code = table[f"{variable}_qual"]
    label = code.map("{:.0f}".format, na_action="ignore").fillna("").to_numpy().astype(str)
    at = table["datetime"].to_numpy().astype("datetime64[ns]").astype(np.int64)
    has = np.isfinite(raw) & (raw != NO_VALUE)
    removed = ~np.isfinite(corrected) | (corrected == NO_VALUE)
    bad_label = label != ""
    begins = bad_label & ~np.concatenate([[False], bad_label[:-1]])
    event = np.where(bad_label, np.cumsum(begins) - 1, -1)
    kind = np.full(raw.shape, "", dtype="<U40")
    for number in range(int(begins.sum())):
        rows = np.flatnonzero((event == number) & has)
        if rows.size:
            kind[rows] = kind_of(raw[rows], bool(np.all(removed[rows])))
    value = np.where(has, raw, np.nan)
    tests = flags_by_test(value, at, one(value.shape[0]), limits or LIMITS[site, variable])
    return Labelled(
        site,
        variable,
        int((~has).sum()),
        int((~has & bad_label).sum()),
        label[has],
        event[has],
        kind[has],
        {name: flag[has] for name, flag in tests.items()},
    )


KINDS = ("1 or 2 readings", "stuck at one value", "longer, corrected", "longer, removed")


def kind_of(raw: npt.NDArray[np.float64], removed: bool) -> str:
    """What a labelled stretch looks like, by rules on the record alone (its codes are not documented)."""
    if raw.shape[0] <= 2:
        return KINDS[0]
    if np.mean(raw[1:] == raw[:-1]) > 0.9:
        return KINDS[1]
    return KINDS[3] if removed else KINDS[2]


@dataclass(frozen=True)
class Score:
    """Rows: how many are labelled, flagged, both; stretches: how many there are, and how many have a flag in them."""

    rows: int
    labelled: int
    flagged: int
    hits: int
    events: int
    events_found: int

    @classmethod
    def of(cls, parts: list[Labelled], says: Callable[[Labelled], Bools], among: Callable[[Labelled], Bools]) -> Score:
        """Flags of the rows that ``says`` marks, against the labels of those rows that ``among`` marks."""
        rows = labels = flagged = hits = events = found = 0
        for part in parts:
            truth, flag = (part.label != "") & among(part), says(part)
            rows += part.label.shape[0]
            labels += int(truth.sum())
            flagged += int(flag.sum())
            hits += int((truth & flag).sum())
            events += np.unique(part.event[truth]).shape[0]
            found += np.unique(part.event[truth & flag]).shape[0]
        return cls(rows, labels, flagged, hits, events, found)

    @property
    def precision(self) -> float:
        return self.hits / self.flagged if self.flagged else np.nan

    @property
    def recall(self) -> float:
        return self.hits / self.labelled if self.labelled else np.nan


def everything(part: Labelled) -> Bools:
    return np.ones(part.label.shape, dtype=np.bool_)


@dataclass(frozen=True)
class Says:
    """Whether one test gives a flag or a worse one."""

    test: str
    flag: int

    def __call__(self, part: Labelled) -> Bools:
        said = part.tests[self.test]
        return bad(said) & (said >= self.flag)


def head(*names: str) -> str:
    """The first two lines of a table in Markdown."""
    return f"| {' | '.join(names)} |\n|---|" + "--:|" * (len(names) - 1)


def percent(share: float) -> str:
    return "–" if np.isnan(share) else f"{100 * share:.1f} %"


def logan_tables(parts: list[Labelled]) -> Iterator[str]:
    """Precision and recall, in Markdown."""

    def any_test(part: Labelled) -> Bools:
        return bad(part.flag)

    def failed(part: Labelled) -> Bools:
        return part.flag == FAIL

    def row(name: str, score: Score) -> str:
        return (
            f"| {name} | {score.rows:,} | {score.labelled:,} | {score.flagged:,} | {score.hits:,} "
            f"| {percent(score.precision)} | {percent(score.recall)} | {score.events_found} of {score.events} |"
        )

    yield "SUSPECT or FAIL by any test, against technicians' labels:\n"
    yield head("", "readings", "labelled", "flagged", "both", "precision", "recall", "stretches found")
    for part in parts:
        yield row(f"{part.site} {part.variable}", Score.of([part], any_test, everything))
    yield row("**all**", Score.of(parts, any_test, everything))
    rest = [part for part in parts if (part.site, part.variable) != ("TonyGrove2019", "stage")]
    yield row("all but TonyGrove2019 stage", Score.of(rest, any_test, everything))
    yield row("all, FAIL alone", Score.of(parts, failed, everything))
    thawed = [
        labelled(p.site, p.variable, replace(LIMITS[p.site, p.variable], right_max=FREEZING_C))
        if p.variable == "temp"
        else p
        for p in parts
    ]
    yield row("after the fact: flat by right at 0 °C", Score.of(thawed, any_test, everything))
    missing, missing_labelled = sum(p.no_value for p in parts), sum(p.no_value_labelled for p in parts)
    yield f"\nNot counted: {missing} readings without a value ({missing_labelled} of them labelled), flagged MISSING.\n"

    yield "By test:\n"
    yield head("", "flagged", "labelled as well", "precision", "FAIL", "of those labelled", "stretches found")
    for name in parts[0].tests:
        score = Score.of(parts, Says(name, SUSPECT), everything)
        worst = Score.of(parts, Says(name, FAIL), everything)
        yield (
            f"| {name} | {score.flagged:,} | {score.hits:,} | {percent(score.precision)} | {worst.flagged:,} "
            f"| {worst.hits:,} | {score.events_found} of {score.events} |"
        )

    codes = sorted({str(c) for p in parts for c in np.unique(p.label) if c})
    for title, names, is_it in (
        ("By what the labelled stretch looks like", KINDS, lambda p, name: p.kind == name),
        ("By the technicians' code (what they mean is not documented)", codes, lambda p, name: p.label == name),
    ):
        yield f"\n{title}:\n"
        yield head("", "labelled", "flagged", "recall", "stretches found")
        for name in names:
            score = Score.of(parts, any_test, partial(is_it, name=name))
            found = f"{score.events_found} of {score.events}"
            yield f"| {name} | {score.labelled:,} | {score.hits:,} | {percent(score.recall)} | {found} |"


# --- floods


@dataclass(frozen=True)
class Flood:
    """Stages of one gauge [m], and which readings belong to a flood."""

    name: str
    at: npt.NDArray[np.int64]
    stage_m: npt.NDArray[np.float64]
    flood: Bools


FLOOD_LEVEL_M: dict[str, float] = {"don-hadfields": 2.9, "don-rotherham": 1.9}
"""Published (Bokhove et al. 2018, and the recordings' SOURCE.md). Elsewhere: the upper half of the recorded range."""
BEFORE_S, AFTER_S = 24 * 3600, 24 * 3600


def floods() -> Iterator[Flood]:
    """All river stages among the recordings; a flood is a day before to a day after a stage above flood level."""
    for folder in ("don_hadfields_2007", "floods_short", "calder_2025"):
        recording = load_recording(FLOODS / folder)
        for index, stream in enumerate(recording.datastreams):
            mine = (recording.datastream == index) & np.isfinite(recording.value)
            if stream.property != "water_level_m" or not mine.any():
                continue
            at, stage = recording.observed_at[mine], recording.value[mine]
            at, first = np.unique(at, return_index=True)
            stage = stage[first]
            half = float(stage.min() + stage.max()) / 2
            level = next((v for k, v in FLOOD_LEVEL_M.items() if stream.device.startswith(k)), half)
            over = at[stage >= level]
            near = np.searchsorted(over, at - AFTER_S * NS_PER_S) < np.searchsorted(over, at + BEFORE_S * NS_PER_S)
            yield Flood(f"{folder} {stream.device}", at, stage, near)


def flood_table(limits: Limits) -> Iterator[str]:
    """How the tests judge river stages; FAIL in a flood must not happen."""
    yield head(
        "",
        "readings",
        "in floods",
        "FAIL in floods",
        "SUSPECT in floods",
        "by rate",
        "by spike, average",
        "FAIL if that could",
        "FAIL outside",
        "SUSPECT outside",
    )
    for flood in floods():
        tests = flags_by_test(flood.stage_m, flood.at, one(flood.at.shape[0]), limits)
        flag = roll_up(*tests.values())
        by_average = spike(flood.stage_m, one(flood.at.shape[0]), suspect=np.inf, fail=limits.spike_fail)
        inside = flood.flood
        counts = (
            int(inside.sum()),
            int((flag[inside] == FAIL).sum()),
            int((flag[inside] == SUSPECT).sum()),
            int(bad(tests["rate of change"][inside]).sum()),
            int(bad(tests["spike, average"][inside]).sum()),
            int((by_average[inside] == FAIL).sum()),
            int((flag[~inside] == FAIL).sum()),
            int((flag[~inside] == SUSPECT).sum()),
        )
        yield f"| {flood.name} | {flood.at.shape[0]:,} | " + " | ".join(f"{n:,}" for n in counts) + " |"


# --- speed


def speed_table(streams: int = 1000, readings: int = 64) -> Iterator[str]:
    """Process time for one reading of each test, beside a copy of the two columns and a plain Python loop."""
    rng = np.random.default_rng(5)
    n = streams * readings
    value = np.round(np.cumsum(rng.normal(0, 0.01, (streams, readings)), axis=1), 2).ravel()
    at = np.tile(np.arange(readings, dtype=np.int64) * 60 * NS_PER_S, streams)
    segments = Segments.of(np.repeat(np.arange(streams, dtype=np.int32), readings))
    band = FlatBand.none(streams)
    flat_limits = {"tolerance": 0.01, "suspect_s": 1200.0, "fail_s": 2400.0}

    def loop() -> None:
        for i in range(1, n):
            if abs(value[i] - value[i - 1]) > 0.5:
                pass

    works: dict[str, Callable[[], object]] = {
        "copy of value and time": lambda: (value.copy(), at.copy()),
        "spike": lambda: spike(value, segments, suspect=0.1, fail=0.5),
        "rate of change": lambda: rate_of_change(value, at, segments, suspect_per_s=0.01),
        "gap": lambda: gap(at, segments, expected_s=60.0),
        "flat line, window": lambda: flat_line(value, at, segments, **flat_limits),
        "flat line, band": lambda: flat_band(band, value, at, segments, **flat_limits),
        "attenuated, range": lambda: attenuated(
            value, at, segments, window_s=1800.0, suspect=0.01, spread=Spread.RANGE
        ),
        "attenuated, standard deviation": lambda: attenuated(value, at, segments, window_s=1800.0, suspect=0.01),
        "plain loop: one difference and comparison": loop,
    }
    few = Segments.of(np.arange(n, dtype=np.int32))
    many_bands = FlatBand.none(n)
    works["flat line, band, one reading of each of as many datastreams"] = lambda: flat_band(
        many_bands, value, at, few, **flat_limits
    )
    yield f"{streams:,} datastreams of {readings} readings; the best of five, process time:\n"
    yield head("", "ns a reading", "copies")
    copy = np.nan
    for name, work in works.items():
        spent = []
        for _ in range(5):
            begin = time.process_time_ns()
            work()
            spent.append(time.process_time_ns() - begin)
        each = min(spent) / n
        copy = each if np.isnan(copy) else copy
        yield f"| {name} | {each:,.1f} | {each / copy:,.0f} |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speed", action="store_true", help="and what each test costs")
    chosen = parser.parse_args()
    print("## Logan River, labelled by technicians\n")
    print(*logan_tables([labelled(site, variable) for site in SITES for variable in VARIABLES]), sep="\n")
    for title, limits in (("A river's limits", RIVER_M), ("A creek's limits, far too tight", CREEK_M)):
        print(f"\n## Floods. {title}\n")
        print(*flood_table(limits), sep="\n")
    if chosen.speed:
        print("\n## Speed\n")
        print(*speed_table(), sep="\n")


if __name__ == "__main__":
    main()
