"""Recordings read value for value, and any map or file that is wrong named clearly."""

import gzip
import json
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from zoneinfo import ZoneInfo

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from simulators.recording import Recording, RecordingError, load_recording
from telemetry.directory import Directory

RECORDINGS = Path(__file__).parents[2] / "simulators" / "recordings"
S = 1_000_000_000


def ns(text: str) -> int:
    """Time in text without zone, as UTC. [ns since 1970]"""
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * S


def series(recording: Recording, datastream: str) -> tuple[np.ndarray, np.ndarray]:
    index = [s.id for s in recording.datastreams].index(datastream)
    mine = recording.datastream == index
    return recording.observed_at[mine], recording.value[mine]


# --- the recordings that come with Pantau ----------------------------------------------------------------------------
# Expected values are those of each truth.json, which was computed from the files by other code.


@pytest.mark.parametrize("folder", sorted(p.name for p in RECORDINGS.iterdir() if p.is_dir()))
def test_every_recording_has_its_source_and_licence_and_a_valid_directory(folder):
    path = RECORDINGS / folder
    assert (path / "SOURCE.md").read_text().startswith("# ")
    assert (path / "LICENSE.upstream.txt").stat().st_size > 500
    recording = load_recording(path)
    assert recording.account.bad == 0
    assert (np.diff(recording.observed_at) >= 0).all()
    Directory(1, recording.city, recording.utc_offset_h, recording.sites, recording.devices, recording.datastreams)


def test_don_2007():
    recording = load_recording(RECORDINGS / "don_hadfields_2007")
    truth = json.loads((RECORDINGS / "don_hadfields_2007" / "truth.json").read_text())
    at, stage = series(recording, "don-hadfields.water_level_m")
    assert len(stage) == truth["rows"] - truth["missing_values"]
    assert (at[0], at[-1]) == (ns(truth["first"]), ns(truth["last"]))
    assert (stage.max(), at[stage.argmax()]) == (truth["peak_stage_m"], ns(truth["peak_time"]))
    at_flow, flow = series(recording, "don-hadfields.discharge_m3_s")
    assert (flow.max(), at_flow[flow.argmax()]) == (truth["peak_flow_m3s"], ns(truth["peak_flow_time"]))
    for level, windows in truth["threshold_windows"].items():
        assert (stage > float(level)).sum() == pytest.approx(sum(w[2] for w in windows), abs=2)
        for first, last, count in windows:
            inside = (at >= ns(first)) & (at <= ns(last))
            assert inside.sum() == count
            assert (stage[inside] >= float(level)).all()
    for first, last in truth["missing_runs"]:
        assert not ((at >= ns(first)) & (at <= ns(last))).any()
    assert recording.account.missing == 2 * truth["missing_values"]
    assert [(e.start, e.end) for e in recording.truth.events] == [
        (ns(first), ns(last)) for first, last, _ in truth["threshold_windows"]["2.9"]
    ]
    assert [(s.value, s.severity, s.label) for s in recording.datastreams[0].ladder.steps] == [
        (1.5, 1, "Siaga 3"),
        (2.0, 2, "Siaga 2"),
        (2.9, 3, "Siaga 1"),
    ]


def test_calder_2025():
    recording = load_recording(RECORDINGS / "calder_2025")
    truth = json.loads((RECORDINGS / "calder_2025" / "truth.json").read_text())
    for file, datastream in {
        "Bacup-rainfall-15min.csv.gz": "bacup-rain.rain_mm",
        "Gorpley-rainfall-15min.csv.gz": "gorpley-rain.rain_mm",
        "Hebden-Bridge-level-15min.csv.gz": "hebden-bridge-level.water_level_m",
        "Todmorden-Callis-Bridge-level-15min.csv.gz": "callis-bridge-level.water_level_m",
    }.items():
        expected = truth[file]
        at, value = series(recording, datastream)
        assert len(value) == expected["rows"]
        assert (at[0], at[-1]) == (ns(expected["first"]), ns(expected["last"]))
        assert (value.max(), at[value.argmax()]) == (expected["max"], ns(expected["max_at"]))
        assert not np.isin(at, [ns(t) for t in expected["absent_slots"]]).any()
        if "total_mm" in expected:
            assert value.sum() == pytest.approx(expected["total_mm"])
        else:
            assert value.min() == expected["min"]
            # No flood in the record: the ladder must stand above all of it.
            stream = next(s for s in recording.datastreams if s.id == datastream)
            assert value.max() < stream.ladder.steps[0].value


def test_marylebone_2015():
    recording = load_recording(RECORDINGS / "marylebone_2015")
    truth = json.loads((RECORDINGS / "marylebone_2015" / "truth.json").read_text())
    at, no2 = series(recording, "marylebone-air.no2_ug_m3")
    assert len(no2) == truth["no2_2015"]["hours_valid"] == truth["rows"] - truth["no2_missing"]
    assert no2.max() == pytest.approx(truth["no2_max"], abs=0.001)  # the file has three decimals
    assert at[no2.argmax()] == ns(truth["no2_max_at"][:19])
    assert no2.mean() == pytest.approx(truth["no2_2015"]["annual_mean"], abs=0.005)
    assert (no2 > 200).sum() == truth["no2_2015"]["hours_over_200"]
    assert (no2 > 400).sum() == truth["no2_2015"]["hours_over_400"]


def test_berlin_2024():
    recording = load_recording(RECORDINGS / "berlin_2024")
    # By hand from the file: TE001;01.02.2024;0;1.0;416;60 at midnight in Berlin, which is 23:00 UTC in winter.
    at, flow = series(recording, "TE001.flow_veh_h")
    assert (at[0], flow[0], len(flow)) == (ns("2024-01-31T23:00:00"), 416, 632)
    at, speed = series(recording, "TE001.speed_km_h")
    assert (at[0], speed[0], speed.min() > 0) == (ns("2024-01-31T23:00:00"), 60, True)
    at, flow = series(recording, "det-090501.flow_veh_h")
    assert (at[0], flow[0], len(flow)) == (ns("2023-12-31T23:00:00"), 12, 594)
    # -1 is a gap code of the speeds: counted with awk over both files.
    assert recording.account.missing == 163
    assert recording.account.rows == 3821 + 3790


def test_minnesota_speed_2015():
    recording = load_recording(RECORDINGS / "minnesota_speed_2015")
    # First row: 2015-09-08 11:39:00,73; Chicago is at UTC-5 in September; 73 mph · 1.609344.
    assert recording.observed_at[0] == ns("2015-09-08T16:39:00")
    assert recording.value[0] == pytest.approx(117.482112)
    assert len(recording) == 1127


def test_short_floods():
    recording = load_recording(RECORDINGS / "floods_short")
    at, rotherham = series(recording, "don-rotherham.water_level_m")
    # Published peaks: 3.271 m in 2007 and 3.322 m in 2019.
    assert rotherham[at < ns("2010-01-01")].max() == 3.271
    assert rotherham[at > ns("2010-01-01")].max() == 3.322
    assert series(recording, "don-hadfields.water_level_m")[1].max() == 4.497
    # Days with nine decimals are quarter hours again.
    assert (at % (900 * S) == 0).all()


# --- any CSV ---------------------------------------------------------------------------------------------------------

HEAD = """
name = "t"
city = "c"
[[sites]]
id = "s"
latitude = -6.9
longitude = 107.6
[[devices]]
id = "a"
site = "s"
[[devices]]
id = "b"
site = "s"
"""
LEVEL = '[[files.values]]\ncolumn = "v"\nproperty = "water_level_m"\ndevice = "a"\n'


def load(tmp_path: Path, csv: str | bytes, files: str, values: str = LEVEL, tail: str = "", name="x.csv") -> Recording:
    data = csv if isinstance(csv, bytes) else csv.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    (tmp_path / "map.toml").write_text(HEAD + f'[[files]]\npath = "{name}"\n' + files + values + tail)
    return load_recording(tmp_path)


def rows(recording: Recording) -> list[tuple[int, float]]:
    return list(zip((recording.observed_at // S).tolist(), recording.value.tolist(), strict=True))


def test_separator_decimal_comma_thousands_bom_and_gzip(tmp_path):
    csv = "\ufefft;v\r\n1970-01-01 00:00:01;1.234,5\r\n1970-01-01 00:00:02;-0,25\r\n"
    found = load(
        tmp_path,
        csv,
        'separator = ";"\ndecimal = ","\nthousands = "."\ntime = { columns = ["t"] }\n',
        name="x.csv.gz",
    )
    assert rows(found) == [(1, 1234.5), (2, -0.25)]


def test_a_point_is_no_decimal_comma(tmp_path):
    found = load(
        tmp_path,
        "t;v\n1970-01-01T00:00:01;1.5\n1970-01-01T00:00:02;1,5\n",
        'separator = ";"\ndecimal = ","\ntime = { columns = ["t"] }\n',
    )
    assert rows(found) == [(2, 1.5)]
    assert [(b.row, b.reason) for b in found.account.bad_rows] == [(1, "v must be a number, got '1.5'")]


def test_an_unquoted_decimal_comma_is_not_cut_off(tmp_path):
    found = load(tmp_path, "t,v\n1970-01-01T00:00:01Z,1,5\n1970-01-01T00:00:02Z,2,\n", 'time = { columns = ["t"] }\n')
    assert rows(found) == [(2, 2.0)]
    assert found.account.bad_rows[0].reason == "more fields than the header's 2"


def test_rows_are_sorted_and_every_bad_cell_is_counted_with_its_row(tmp_path):
    csv = (
        "t,v,w\n1970-01-01T00:00:03Z,3,1\nnoon,1,1\n1970-01-01T00:00:01Z,1,1\n,2,1\n1970-01-01T00:00:02Z,high,1\n"
        "1970-01-01T00:00:04Z,inf,1\n1970-01-01T00:00:05Z,,1\n1970-01-01T00:00:06Z,-9999,1\n1970-01-01T00:00:07Z,M,1\n"
    )
    values = LEVEL + 'missing = [-9999, "M"]\n'
    found = load(tmp_path, csv, 'time = { columns = ["t"] }\n', values)
    assert rows(found) == [(1, 1.0), (3, 3.0)]
    account = found.account
    assert (account.rows, account.readings, account.missing, account.bad) == (9, 2, 3, 4)
    assert [(b.row, b.reason) for b in account.bad_rows] == [
        (2, "t must be a time (iso), got 'noon'"),
        (4, "t must be a time (iso), got ''"),
        (5, "v must be a number, got 'high'"),
        (6, "v must be a number, got 'inf'"),
    ]


def test_rows_with_too_many_fields_are_counted_and_the_others_kept(tmp_path):
    csv = "t,v\n1970-01-01T00:00:01Z,1\n1970-01-01T00:00:02Z,2,3,4\n1970-01-01T00:00:03Z,3\n1970-01-01T00:00:04Z\n"
    found = load(tmp_path, csv, 'time = { columns = ["t"] }\n')
    assert rows(found) == [(1, 1.0), (3, 3.0)]
    assert (found.account.rows, found.account.bad, found.account.missing) == (4, 1, 1)
    assert (found.account.bad_rows[0].row, found.account.bad_rows[0].reason) == (2, "more fields than the header's 2")


@pytest.mark.parametrize(
    ("time", "cells", "expected"),
    [
        ('format = "seconds"', ["1.5", "2"], [1.5, 2]),
        ('format = "milliseconds"', ["1500", "2001"], [1.5, 2.001]),
        ('format = "hours"\nstart = 1970-01-02T00:00:00Z', ["0.25", "1"], [86400 + 900, 86400 + 3600]),
        # A third of a day with five decimals is 28799.7 s: rounded to the minute.
        ('format = "days"\nstart = 1970-01-01T00:00:00Z\nround_s = 60', ["0.33333", "1.0"], [28800, 86400]),
        ('format = "days"\nzone = "Asia/Jakarta"\nstart = 1970-01-02T00:00:00', ["0", "1"], [61200, 147600]),
        ('format = "%d/%m/%y %H:%M"\nshift_s = 3600', ["02/01/70 00:00", "02/01/70 24:00"], [90000, 176400]),
        ('zone = "Asia/Makassar"', ["1970-01-02 00:00", "1970-01-02T00:00:00+00:00"], [57600, 86400]),
    ],
)
def test_forms_of_time(tmp_path, time, cells, expected):
    csv = "t,v\n" + "".join(f"{c},1\n" for c in cells)
    found = load(tmp_path, csv, f'[files.time]\ncolumns = ["t"]\n{time}\n')
    assert (found.observed_at / S).tolist() == pytest.approx(expected)


# Berlin, 27 October 2024: 03:00 summer time became 02:00. 31 March 2024: 02:00 became 03:00.
AUTUMN = ["2024-10-27 01:30", "2024-10-27 02:30", "2024-10-27 02:30", "2024-10-27 03:30"]
AUTUMN_UTC = ["2024-10-26T23:30", "2024-10-27T00:30", "2024-10-27T01:30", "2024-10-27T02:30"]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("order", AUTUMN_UTC),
        ("earlier", [AUTUMN_UTC[i] for i in (0, 1, 1, 3)]),
        ("later", [AUTUMN_UTC[i] for i in (0, 2, 2, 3)]),
        ("drop", [AUTUMN_UTC[i] for i in (0, 3)]),
    ],
)
def test_the_hour_that_comes_twice(tmp_path, rule, expected):
    csv = "t,v\n" + "".join(f"{t},1\n" for t in AUTUMN)
    time = f'[files.time]\ncolumns = ["t"]\nzone = "Europe/Berlin"\nambiguous = "{rule}"\n'
    found = load(tmp_path, csv, time)
    assert found.observed_at.tolist() == [ns(t) for t in expected]
    assert found.account.bad == 4 - len(expected)


# Two stations, each with a water level W and rain R, over the night of the change. Long format.
LONG = 'device_column = "st"\n[files.time]\ncolumns = ["t"]\nzone = "Europe/Berlin"\n'
W_AND_R = (
    '[[files.values]]\ncolumn = "v"\nproperty = "water_level_m"\nwhere = { par = "W" }\n'
    '[[files.values]]\ncolumn = "v"\nproperty = "rain_mm"\nwhere = { par = "R" }\n'
)


def berlin_night(step_min: int) -> list[tuple[int, str, str, str, int]]:
    """True time [min since 1970 UTC], local time, station, parameter, value (never the same), in order of time."""
    start = ns("2024-10-26T14:00") // S // 60
    found = []
    for i, at in enumerate(range(start, start + 24 * 60, step_min)):
        local = datetime.fromtimestamp(at * 60, ZoneInfo("Europe/Berlin")).strftime("%Y-%m-%d %H:%M")
        found += [(at, local, st_, par, 10 * i + k) for k, (st_, par) in enumerate(product("ab", "WR"))]
    return found


LAYOUTS = {
    "by time": lambda night: night,
    "newest first": lambda night: night[::-1],
    "newest first, stations in order": lambda night: sorted(night, key=lambda row: -row[0]),
    "parameter after parameter": lambda night: sorted(night, key=lambda row: row[3]),
    "series after series": lambda night: sorted(night, key=lambda row: row[2:4]),
    "sorted by local time": lambda night: sorted(night, key=lambda row: row[1]),
    "one station newest first": lambda night: (
        [row for row in night if row[2] == "a"] + [row for row in night[::-1] if row[2] == "b"]
    ),
    "a second copy behind": lambda night: night + night,
    "every row twice": lambda night: [row for row in night for _ in range(2)],
}


@pytest.mark.parametrize("step_min", [15, 60, 7])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_hour_that_comes_twice_with_several_parameters(tmp_path, layout, step_min):
    if (layout, step_min) == ("sorted by local time", 7):
        pytest.skip("no time comes twice: which of the two it was is lost")
    night = LAYOUTS[layout](berlin_night(step_min))
    found = load(tmp_path, "t,st,par,v\n" + "".join(f"{t},{s},{p},{v}\n" for _, t, s, p, v in night), LONG, W_AND_R)
    assert (found.account.bad, len(found)) == (0, len(night))
    for station, (par, quantity) in product("ab", [("W", "water_level_m"), ("R", "rain_mm")]):
        at, value = series(found, f"{station}.{quantity}")
        expected = sorted((at, v) for at, _, s, p, v in night if (s, p) == (station, par))
        assert list(zip((at // S // 60).tolist(), value.tolist(), strict=True)) == expected


def test_the_hour_that_comes_twice_with_conditions_on_different_columns(tmp_path):
    # R is told by another column than W, and by a list of words that change in the night.
    values = W_AND_R.replace('par = "R"', 'kind = ["rain", "sleet"]')
    night = berlin_night(60)
    csv = "t,st,par,kind,v\n"
    for i, (_, t, s, p, v) in enumerate(night):
        csv += f"{t},{s},{p if p == 'W' else ''},{'' if p == 'W' else ('rain', 'sleet')[i // 4 % 2]},{v}\n"
    found = load(tmp_path, csv, LONG, values)
    for station, quantity in product("ab", ["water_level_m", "rain_mm"]):
        at, value = series(found, f"{station}.{quantity}")
        assert np.diff(at).tolist() == [3600 * S] * 23
        assert (np.diff(value) == 10).all()


@pytest.mark.parametrize("layout", ["by time", "newest first", "series after series"])
@pytest.mark.parametrize("step_min", [15, 60])
def test_a_row_left_out_by_its_status_still_tells_the_first_hour_from_the_second(tmp_path, layout, step_min):
    night = LAYOUTS[layout](berlin_night(step_min))
    first_hour = range(ns("2024-10-27T00:00") // S // 60, ns("2024-10-27T01:00") // S // 60)
    csv = "t,st,par,q,v\n" + "".join(
        f"{t},{s},{p},{'S' if at in first_hour else 'G'},{v}\n" for at, t, s, p, v in night
    )
    found = load(tmp_path, csv, LONG, W_AND_R.replace('" }', '", q = ["G", "E"] }'))
    for station, quantity in product("ab", ["water_level_m", "rain_mm"]):
        at, _ = series(found, f"{station}.{quantity}")
        wanted = sorted({row[0] for row in night} - set(first_hour))
        assert (at // S // 60).tolist() == wanted


def test_gaps_and_repeats_around_the_hour_that_comes_twice(tmp_path):
    time = '[files.time]\ncolumns = ["t"]\nzone = "Europe/Berlin"\n'

    def load_times(*clock: str) -> list[str]:
        found = load(tmp_path, "t,v\n" + "".join(f"2024-10-27 {c},1\n" for c in clock), time)
        return [f"{datetime.fromtimestamp(t // S, UTC):%H:%M}" for t in found.observed_at]

    # 02:30 is missing the first time, and so comes only once.
    assert load_times("01:30", "02:00", "02:45", "02:00", "02:30", "02:45", "03:00") == [
        "23:30", "00:00", "00:45", "01:00", "01:30", "01:45", "02:00"
    ]  # fmt: skip
    # A row sent twice, before and in the hour, and one that came late.
    assert load_times("01:30", "01:30", "02:00", "02:00", "02:45", "02:30", "02:00", "02:30", "03:00", "03:00") == [
        "23:30", "23:30", "00:00", "00:00", "00:30", "00:45", "01:00", "01:30", "02:00", "02:00"
    ]  # fmt: skip
    # Newest first, and nothing but that hour.
    assert load_times("02:45", "02:15", "02:00", "02:45", "02:15") == ["00:15", "00:45", "01:00", "01:15", "01:45"]


def test_the_hour_that_does_not_exist(tmp_path):
    csv = "t,v\n2024-03-31 01:30,1\n2024-03-31 02:30,1\n"
    time = '[files.time]\ncolumns = ["t"]\nzone = "Europe/Berlin"\n'
    dropped = load(tmp_path, csv, time)
    assert dropped.observed_at.tolist() == [ns("2024-03-31T00:30")]
    assert "does not exist once in Europe/Berlin" in dropped.account.bad_rows[0].reason
    forward = load(tmp_path, csv, time + 'nonexistent = "forward"\n')
    assert forward.observed_at.tolist() == [ns("2024-03-31T00:30"), ns("2024-03-31T01:00")]


def test_one_file_for_many_stations_with_conditions(tmp_path):
    csv = "day,hour,station,what,v\n" + "".join(
        f"1970-01-01,{h},{s},{w},{v}\n"
        for h, s, w, v in [(1, "A1", "lev", 150), (1, "A1", "rain", 3), (1, "B1", "lev", 250), (2, "ZZ", "lev", 9)]
    )
    files = 'device_column = "station"\ndevices = { A1 = "a", B1 = "b" }\n'
    files += 'time = { columns = ["day", "hour"], format = "%Y-%m-%d %H" }\n'
    values = '[[files.values]]\ncolumn = "v"\nproperty = "water_level_m"\n'
    values += 'unit = "cm"\noffset = 10\nwhere = { what = "lev" }\n'
    values += '[[files.values]]\ncolumn = "v"\nproperty = "rain_mm"\nwhere = { what = ["rain"] }\n'
    tail = '[ladders."b.water_level_m"]\nsteps = [{ value = 2, severity = "awas" }]\n'
    found = load(tmp_path, csv, files, values, tail)
    assert [s.id for s in found.datastreams] == ["a.water_level_m", "b.water_level_m", "a.rain_mm", "b.rain_mm"]
    assert [(found.datastreams[d].id, v) for d, v in zip(found.datastream, found.value, strict=True)] == [
        ("a.water_level_m", pytest.approx(1.6)),
        ("b.water_level_m", pytest.approx(2.6)),
        ("a.rain_mm", 3.0),
    ]
    assert [len(s.ladder.steps) for s in found.datastreams] == [0, 1, 0, 0]
    assert (found.account.other_devices, found.account.filtered) == (1, 3)


def test_without_a_header_columns_are_numbered(tmp_path):
    values = LEVEL.replace('"v"', '"2"')
    found = load(tmp_path, "1,5.5\n2,6.5\n", 'header = false\ntime = { columns = ["1"], format = "seconds" }\n', values)
    assert rows(found) == [(1, 5.5), (2, 6.5)]


def quoted(tmp_path: Path, *lines: str, files: str = "") -> tuple[list[int], list[tuple[int, str]], int]:
    """Values read from rows t,v,w; bad rows; rows in all."""
    found = load(tmp_path, "t,v,w\n" + "\n".join(lines), files + 'time = { columns = ["t"], format = "seconds" }\n')
    return found.value.tolist(), [(b.row, b.reason) for b in found.account.bad_rows], found.account.rows


UNPAIRED = "the quotes of the row do not pair"


@pytest.mark.parametrize("end", ["", "\n"])
def test_an_unclosed_quote_costs_only_its_own_row(tmp_path, end):
    fine = [f"{i},{i},ok" for i in range(2000)]
    for k, bad in ((0, '0,"0,ok'), (7, '7,7,"ok'), (1999, '"1999,1999,ok'), (1999, '1999,1999,"')):
        lines = [*fine[:k], bad, *fine[k + 1 :]]
        expected = [i for i in range(2000) if i != k]
        assert quoted(tmp_path, *lines[:-1], lines[-1] + end) == (expected, [(k + 1, UNPAIRED)], 2000)


@pytest.mark.parametrize("stray", ['"', '"ok', 'o"k'])
def test_rows_between_two_stray_quotes_are_not_swallowed(tmp_path, stray):
    lines = [f"{i},{i},{stray if i in (2, 6) else 'ok'}" for i in range(9)]
    bad = [] if stray == 'o"k' else [2, 6]  # a quote within a field is an ordinary character
    found = quoted(tmp_path, *lines)
    assert found == ([i for i in range(9) if i not in bad], [(i + 1, UNPAIRED) for i in bad], 9)


def test_quotes_that_pair_are_read_beside_those_that_do_not(tmp_path):
    lines = ['0,"0",a', '"1","1","a ""b"" c"', '2,"2,a', "3,3,a,b,c", '4,4,"a, b"', "", '5,"5"x,a', '6,"6', '7,7,"a"']
    files = 'decimal = ","\n'
    values, bad, rows = quoted(tmp_path, *lines, files=files)
    assert values == [0, 1, 4, 7]
    assert bad[:-1] == [(3, UNPAIRED), (4, "more fields than the header's 3"), (8, UNPAIRED)] and rows == 8
    assert bad[-1] == (7, "v must be a number, got '5x'")


def test_line_breaks_within_quotes_if_the_map_says_so(tmp_path):
    lines = ["0,0,a", '1,1,"a', 'b"', "2,2,c"]
    assert quoted(tmp_path, *lines, files="quoted_newlines = true\n") == ([0, 1, 2], [], 3)
    values, bad, rows = quoted(tmp_path, *lines)
    assert (values, rows, bad[0]) == ([0, 2], 4, (2, UNPAIRED))
    assert bad[1:] == [(3, "t must be a time (seconds), got 'b\"'")]
    # One that is never closed is still only one row.
    files = "quoted_newlines = true\n"
    assert quoted(tmp_path, "0,0,a", '1,1,"a', "2,2,c", files=files) == ([0, 2], [(2, UNPAIRED)], 3)


def test_a_stray_quote_without_a_header_and_in_one(tmp_path):
    values = LEVEL.replace('"v"', '"2"')
    files = 'header = false\ntime = { columns = ["1"], format = "seconds" }\n'
    found = load(tmp_path, '0,"0\n1,5.5\n2,6.5\n', files, values)
    assert (rows(found), found.account.bad_rows[0].row) == ([(1, 5.5), (2, 6.5)], 1)
    time = 'time = { columns = ["t"], format = "seconds" }\n'
    two_lines = '"t",v,"a\r\nb"\r\n1,5.5,\r\n'
    assert rows(load(tmp_path, two_lines, "quoted_newlines = true\n" + time)) == [(1, 5.5)]
    # Else the header would swallow rows up to the next quote.
    for csv in (two_lines, 't,v,"w\n1,5.5,x\n2,6.5,"x"\n', 't,"v\n1,5.5\n'):
        with pytest.raises(RecordingError, match=r"x\.csv: the quotes of its header do not pair"):
            load(tmp_path, csv, time)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(-(10**9), 4 * 10**9), st.floats(-90, 8000, allow_nan=False)), min_size=1, max_size=30
    )
)
def test_what_is_written_is_read(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("any")
    csv = "t,v\n" + "".join(f"{datetime.fromtimestamp(t, UTC).isoformat()},{v!r}\n" for t, v in content)
    found = load(folder, csv, 'time = { columns = ["t"] }\n')
    assert rows(found) == sorted(content, key=lambda row: row[0])  # sorted is stable, as the recording must be


# --- wrong maps and files --------------------------------------------------------------------------------------------

TIME = 'time = { columns = ["t"] }\n'
CSV = "t,v\n1970-01-01T00:00:01Z,1\n"


@pytest.mark.parametrize(
    ("csv", "files", "values", "tail", "message"),
    [
        (CSV, 'time = { columns = ["zeit"] }\n', LEVEL, "", "no column 'zeit'; its columns are t, v"),
        (
            CSV,
            'time = { columns = ["t"], zone = "Mars/Base" }\n',
            LEVEL,
            "",
            r"files\[0\].time.zone must be UTC or an IANA",
        ),
        (CSV, 'time = { columns = ["t"], format = "when" }\n', LEVEL, "", r"files\[0\].time.format must be iso"),
        (CSV, TIME + 'seperator = ";"\n', LEVEL, "", "unknown field `seperator`"),
        (CSV, TIME + "skip_lines = -1\n", LEVEL, "", "skip_lines must be 0 or more, got -1"),
        (CSV, TIME + "skip_lines = 99\n", LEVEL, "", "ends before its header"),
        (CSV, TIME + 'skip_lines = "2"\n', LEVEL, "", r"Expected `int`, got `str` - at `files\[0\].skip_lines`"),
        (CSV, TIME, LEVEL + 'unit = "furlong"\n', "", r"values\[0\].unit must be one of m, cm, mm, ft, got 'furlong'"),
        (CSV, TIME, LEVEL.replace("water_level_m", "level"), "", "property must be one of .* got 'level'"),
        (CSV, TIME, LEVEL.replace('"a"', '"z"'), "", r"values\[0\].device 'z' is not in devices"),
        (CSV, TIME, LEVEL, '[ladders."x"]\n', "ladders: there is no datastream 'x'"),
        (
            CSV,
            TIME,
            LEVEL + 'ladder = { steps = [{ value = 2, severity = "awas" }, { value = 1, severity = "awas" }] }\n',
            "",
            "from the mildest to the worst",
        ),
        (CSV, TIME, LEVEL + 'ladder = { steps = [{ value = 2, severity = "red" }] }\n', "", "severity"),
        ("t,v\nx,1\n", TIME, LEVEL, "", "not one reading in x.csv: 1 rows, .*row 1 of x.csv: t must be a time"),
        (b"t,v\n\xff\xfe,1\n", TIME, LEVEL, "", "cannot read .*codec can't decode"),
        (CSV, TIME, LEVEL, '[truth]\ndatastream = "q"\nevents = [{ start = 2020-01-01, end = 2020-01-02 }]\n', "truth"),
        (CSV, TIME, LEVEL, '[truth]\ndatastream = "a.water_level_m"\nfile = "no.json"\n', "cannot use the truth file"),
        (CSV, TIME, LEVEL, '[truth]\ndatastream = "a.water_level_m"\n', "truth must have either file or events"),
    ],
)
def test_a_wrong_map_or_file_is_named(tmp_path, csv, files, values, tail, message):
    with pytest.raises(RecordingError, match=message):
        load(tmp_path, csv, files, values, tail)


@pytest.mark.parametrize("csv", ["t,v\n", "t,v\n\n\n", "t,v", "t,v\n,\n"])
def test_a_file_without_rows_is_told(tmp_path, csv):
    for time in ('"iso"', '"days"', '"%H:%M"'):
        with pytest.raises(RecordingError, match=r"not one reading in x\.csv"):
            load(tmp_path, csv, f'time = {{ columns = ["t"], format = {time}, zone = "Asia/Jakarta" }}\n')


def test_swapped_positions_are_told(tmp_path):
    load(tmp_path, CSV, TIME)
    text = (tmp_path / "map.toml").read_text()
    (tmp_path / "map.toml").write_text(
        text.replace("-6.9", "107.6", 1).replace("longitude = 107.6", "longitude = -6.9")
    )
    with pytest.raises(RecordingError, match="latitude and longitude look swapped"):
        load_recording(tmp_path)


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(RecordingError, match="there is no recording"):
        load_recording(tmp_path / "nothing")
    with pytest.raises(RecordingError, match="cannot read the map"):
        load_recording(tmp_path)
    (tmp_path / "map.toml").write_text("name = ")
    with pytest.raises(RecordingError, match="is not a TOML file"):
        load_recording(tmp_path)
    load(tmp_path, CSV, TIME, name="x.csv.gz")
    packed = (tmp_path / "x.csv.gz").read_bytes()
    (tmp_path / "x.csv.gz").write_bytes(packed[:-9])
    with pytest.raises(RecordingError, match=r"cannot read .*x\.csv\.gz"):
        load_recording(tmp_path)


def test_one_csv_file_with_a_map_elsewhere(tmp_path):
    (tmp_path / "other.csv").write_text(CSV)
    folder = tmp_path / "maps"
    folder.mkdir()
    (folder / "level.toml").write_text(HEAD + "[[files]]\n" + TIME + LEVEL)
    assert rows(load_recording(tmp_path / "other.csv", folder / "level.toml")) == [(1, 1.0)]
    with pytest.raises(RecordingError, match=r"files\[0\].path is needed"):
        load_recording(tmp_path, folder / "level.toml")


def test_the_example_of_the_documentation_works(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "replay.md").read_text()
    (tmp_path / "map.toml").write_text(text.split("```toml\n")[1].split("```")[0])
    (tmp_path / "levels.csv").write_text(text.split("```csv\n")[1].split("```")[0])
    found = load_recording(tmp_path)
    assert [
        (found.datastreams[d].id, at, pytest.approx(v))
        for d, at, v in zip(found.datastream, found.observed_at, found.value, strict=True)
    ] == [
        ("dayeuhkolot-1.water_level_m", ns("2024-01-31T22:00"), 12.345),
        ("sapan-1.water_level_m", ns("2024-01-31T22:00"), 1.5),
        ("sapan-1.rain_mm", ns("2024-01-31T22:00"), 2.5),
        ("dayeuhkolot-1.water_level_m", ns("2024-02-01T17:00"), 0.98),
    ]
    assert (found.account.missing, found.account.bad) == (1, 0)
    assert [len(s.ladder.steps) for s in found.datastreams] == [3, 1, 0, 0]
    assert found.truth.events[0].start == ns("2024-01-31T22:00")


def test_every_key_of_the_map_is_documented():
    import simulators.recording_map as maps

    text = (Path(__file__).parents[2] / "docs" / "replay.md").read_text()
    tables = [t for t in vars(maps).values() if isinstance(t, type) and hasattr(t, "__struct_fields__")]
    assert len(tables) >= 9
    for table in tables:
        for key in table.__struct_fields__:
            assert f"`{key}`" in text or f"{key} =" in text, f"{table.__name__}.{key} is not in docs/replay.md"


def test_one_file_of_a_recording_with_several():
    don = RECORDINGS / "don_hadfields_2007"
    stage = load_recording(don / "stage_15min.csv.gz", don / "map.toml")
    assert ([s.property for s in stage.datastreams], len(stage)) == (["water_level_m"], 35006)
    assert len(stage.truth.events) == 2
    flow = load_recording(don / "flow_15min.csv.gz")
    assert ([s.property for s in flow.datastreams], flow.truth) == (["discharge_m3_s"], None)
    with pytest.raises(RecordingError, match=r"which of them is SOURCE\.md"):
        load_recording(don / "SOURCE.md")
