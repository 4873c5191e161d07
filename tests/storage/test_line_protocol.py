"""Line protocol against a plain slow encoder, and through a real server and back."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.influx import InfluxStore
from storage.line_protocol import LineEncoder, joined
from storage.schema import MEASUREMENTS, FieldType
from storage.settings import StoreSettings
from storage.store import AccountHour, PipelineStatus
from telemetry.directory import Datastream, Device, Directory, Installation, Site
from telemetry.observations import NS_PER_S, Observations
from tests.real_parts.influxdb import InfluxDB
from tests.storage.city import T0, batch, directory, observations, windows

CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A loaded machine is slow, and that is no failure."""

TIMES = st.integers(-(2**63) + 2, 2**63 - 2)
FLOATS = st.floats(allow_nan=True, allow_infinity=True)
NAMES = st.text(min_size=1, max_size=12).filter(lambda s: s.strip())
AWKWARD = [
    "a b",
    "a,b",
    "a=b",
    "a\\b",
    "a\\,b",
    "a\\ b",
    'a"b',
    "a'b",
    "日本",
    "\\a",
    "#x",
    "a,=\\ =,b",
    "µ³–",
    "x" * 200,
    "a\\\\b",
    "☔ hujan",
    "' OR 1=1 --",
    "a;b",
    "%41+&",
    "$x",
    "/re/",
]


def plain(tag_pairs: list[tuple[str, str]], measurement: str, fields: list[tuple[str, object]], time: int) -> str:
    """A second implementation, by the letter of InfluxData's reference: one row, character by character."""

    def tag(value: str) -> str:
        out = ""
        for ch in value:
            out += "\\" + ch if ch in ",= " else ch
        return out

    def field(value: object) -> str:
        if isinstance(value, bool):
            raise TypeError
        if isinstance(value, int):
            return f"{value}i"
        if isinstance(value, float):
            return repr(value)
        out = ""
        for ch in str(value):
            out += "\\" + ch if ch in '"\\' else ch
        return f'"{out}"'

    head = ",".join([measurement, *(f"{k}={tag(v)}" for k, v in sorted(tag_pairs) if v)])
    body = ",".join(f"{k}={field(v)}" for k, v in fields if not (isinstance(v, float) and not math.isfinite(v)))
    return f"{head} {body} {time}"


def parsed(line: str) -> tuple[str, dict[str, object], int]:
    """Head, fields and time of a line whose fields are numbers: floats compare as numbers, 1e16 or 1e+16 alike."""
    head, body, time = line.rsplit(" ", 2)
    fields: dict[str, object] = {}
    for pair in body.split(","):
        name, text = pair.split("=")
        fields[name] = int(text[:-1]) if text.endswith("i") else float(text)
    return head, fields, int(time)


@CALM
@given(st.lists(st.tuples(st.integers(0, 3), TIMES, FLOATS, st.sampled_from([1, 2, 3, 4, 9])), max_size=30))
def test_readings_as_the_plain_encoder_writes_them(rows):
    of = directory(4, city="kota, a=b")
    expected = {}
    for stream, at, value, flag in rows:
        tags = [
            ("city", of.city),
            ("site", f"site-{stream}"),
            ("device", f"dev-{stream}"),
            ("datastream", f"gauge-{stream}"),
            ("property", "water_level_m"),
            ("domain", "flood"),
            ("district", "Kec. Satu" if stream % 2 else ""),
        ]
        expected[stream, at] = plain(tags, "reading", [("value", value), ("flag", flag)], at)
    got = LineEncoder().readings(of, observations(rows)).to_list()
    assert sorted(map(parsed, got), key=repr) == sorted(map(parsed, expected.values()), key=repr)


@CALM
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.sampled_from([60, 900, 3600, 7]),
            TIMES,
            st.integers(0, 2**32 - 1),
            st.integers(0, 2**32 - 1),
            FLOATS,
        ),
        max_size=30,
    )
)
def test_windows_as_the_plain_encoder_writes_them(rows):
    of = directory(4)
    expected = {}
    for stream, width, at, count, good, mean in rows:
        tags = [
            ("city", of.city),
            ("site", f"site-{stream}"),
            ("device", f"dev-{stream}"),
            ("datastream", f"gauge-{stream}"),
            ("property", "water_level_m"),
            ("domain", "flood"),
            ("district", "Kec. Satu" if stream % 2 else ""),
            ("width", {60: "1m", 900: "15m", 3600: "1h", 7: "7s"}[width]),
        ]
        fields = [
            ("count", count),
            ("good_count", good),
            ("min", mean - 1),
            ("max", mean + 1),
            ("mean", mean),
            ("last", mean + 0.5),
            ("sum", mean * 2),
            ("deviation", 0.25),
        ]
        expected[stream, width, at] = plain(tags, "window", fields, at)
    with np.errstate(over="ignore"):
        got = LineEncoder().windows(of, windows(rows)).to_list()
    assert sorted(map(parsed, got), key=repr) == sorted(map(parsed, expected.values()), key=repr)


def test_an_alarm_and_a_status_by_hand():
    raised = {
        "kind": 1,
        "subject": 1,
        "raised_at": T0 + 1999,
        "at": T0 + 5,
        "state": 1,
        "severity": 2,
        "value": 2.25,
        "threshold": 2.0,
        "peak": math.nan,
        "peak_at": T0,
        "directory_version": 7,
    }
    silent = {
        "kind": 2,
        "subject": 0,
        "raised_at": T0,
        "at": T0,
        "state": 1,
        "severity": 1,
        "value": 700.0,
        "threshold": 600.0,
        "peak": 700.0,
        "peak_at": T0,
    }
    status = PipelineStatus(T0, 1, 2, 3, 4, 5, 6, 0.25, 7, 8, 9, 10, 11, math.nan)
    lines = LineEncoder().lines([batch(1, transition_rows=[raised, silent], pipeline=(status,))]).to_list()
    assert lines == [
        (
            r"alarm,city=kota\ banjir,district=Kec.\ Satu,domain=flood,kind=level,property=water_level_m,site=site-1,"
            f"subject=gauge-1 state=1i,severity=2i,value=2.25,threshold=2.0,raised_at={T0 + 1999}i,peak_at={T0}i,"
            f'label="Siaga 2",directory_version=7i {T0 + 5}'
        ),
        (
            r"alarm,city=kota\ banjir,domain=device,kind=silence,site=site-0,subject=dev-0 state=1i,severity=1i,"
            f"value=700.0,threshold=600.0,peak=700.0,raised_at={T0}i,peak_at={T0}i,directory_version=0i {T0}"
        ),
        (
            r"pipeline,city=kota\ banjir messages=1i,readings=2i,refused=3i,duplicates=4i,late=5i,stored=6i,"
            f"latency_s=0.25,backlog_rows=7i,spool_bytes=8i,brokers=9i,brokers_connected=10i,"
            f"backlog_messages=11i {T0}"
        ),
    ]


def test_every_field_of_the_schema_is_written_with_its_type():
    raised = {"kind": 1, "subject": 1, "at": T0, "severity": 2, "value": 1.0, "threshold": 2.0, "peak": 1.0}
    lines = LineEncoder().lines(
        [
            batch(
                1,
                [(1, T0, 1.0, 1)],
                [(1, 60, T0, 1, 1, 1.0)],
                [raised],
                (PipelineStatus(T0),),
                account=(AccountHour("dev-0", T0, 60.0, 5, 1, 2, 0, 4),),
            )
        ]
    )
    for line in lines.to_list():
        head, rest = line.replace("\\ ", "_").split(" ", 1)
        name, *tags = head.split(",")
        body = rest.replace("Siaga 2", "x").split(" ")[0]
        types = {}
        for pair in body.split(","):
            field, text = pair.split("=")
            types[field] = (
                FieldType.STRING if text[0] == '"' else FieldType.INTEGER if text[-1] == "i" else FieldType.FLOAT
            )
        of = MEASUREMENTS[name]
        # A remark is left out where there is none.
        assert types == {f.name: f.type for f in of.fields if f.name != "remark"}
        assert [t.split("=")[0] for t in tags] == sorted(of.tags)


def test_a_remark_is_written_where_there_is_one():
    rows = Observations.of([1, 1], [T0, T0 + 1], [1.0, np.nan])
    rows = dataclasses.replace(rows, flag=np.array([1, 9], np.uint8), remark=np.array([0, 6], np.uint8))
    plain, remarked = LineEncoder().readings(batch(1).directory, rows).to_list()
    assert plain.endswith(f" value=1.0,flag=1i {T0}")
    assert remarked.endswith(f" flag=9i,remark=6i {T0 + 1}")


def test_nothing_is_no_bytes():
    assert joined(LineEncoder().lines([])) == b""
    assert joined(LineEncoder().lines([batch(1)])) == b""


@CALM
@given(NAMES, NAMES)
def test_no_name_breaks_a_line_in_two(city, site):
    of = Directory(
        1, city, 7, (Site(site, "", 0, 0, city),), (Device("d", site),), (Datastream("s", site, "d", "rain_mm"),)
    )
    line = LineEncoder().lines([batch(1, [(0, T0, 1.5, 1)], of=of)])
    assert len(joined(line).splitlines()) == 1
    assert joined(line).decode().endswith(f" value=1.5,flag=1i {T0}")


@pytest.mark.influxdb
def test_awkward_names_and_numbers_through_a_real_server_and_back(tmp_path: Path):
    numbers = [0.0, 1.0, -1.5, 1e16, 1e-7, 5e-324, 1.7976931348623157e308, 0.1 + 0.2, 123456789.123456789, 1 / 3]
    of = Directory(
        1,
        "kota, =\\ x",
        7,
        tuple(Site(f"site {n}", "", 0, 0, n) for n in AWKWARD),
        tuple(Device(n, f"site {n}") for n in AWKWARD),
        tuple(Datastream(n, f"site {n}", n, "rain_mm") for n in AWKWARD),
    )
    rows = [(i, T0 + k, v, 1) for i in range(len(AWKWARD)) for k, v in enumerate(numbers)]
    with InfluxDB(tmp_path) as server:
        store = InfluxStore(StoreSettings(kind="influxdb", url=server.url, api="v1", bucket="my city"))
        silent = [{"kind": 2, "subject": i, "at": T0 + i, "state": 1} for i in range(len(AWKWARD))]
        store.write(batch(1, rows, [(i, 60, T0, i, i, 0.1 * i) for i in range(len(AWKWARD))], silent, of=of))
        for i, name in enumerate(AWKWARD):
            found = store.readings(name, T0, T0 + 100)
            assert found.value.tolist() == numbers, name
            assert found.observed_at.tolist() == [T0 + k for k in range(len(numbers))]
            assert store.windows(name, 60, T0, T0 + 1).mean.tolist() == [0.1 * i]
        alarms = store.transitions(T0, T0 + 100)
        assert [a.subject for a in alarms] == AWKWARD
        assert [a.district for a in alarms] == AWKWARD
        assert {a.city for a in alarms} == {"kota, =\\ x"}
        store.close()


def test_a_swap_moves_no_old_row_to_another_series():
    """Each row bears the device that fed its datastream at its time, whichever directory it was written with."""
    before = directory(2)
    streams = (Datastream("gauge-0", "site-0", "dev-1", "water_level_m"), before.datastreams[1])
    after = Directory(
        2,
        before.city,
        7.0,
        before.sites,
        before.devices,
        streams[:1],
        (Installation("dev-0", "gauge-0", 0, T0), Installation("dev-1", "gauge-0", T0)),
    )
    encoder = LineEncoder()
    times = [T0 - 60 * NS_PER_S, T0]
    lines = encoder.readings(after, observations([(0, t, 1.0, 1) for t in times])).to_list()
    assert ["device=dev-0" in line for line in lines] == [True, False]
    assert ["device=dev-1" in line for line in lines] == [False, True]
    old = encoder.readings(before, observations([(0, times[0], 1.0, 1)])).to_list()
    assert old == lines[:1]
    closed = encoder.windows(after, windows([(0, 60, t, 1, 1, 1.0) for t in times])).to_list()
    assert ["device=dev-0" in line for line in closed] == [True, False]
