"""InfluxDB as a Store: written through influxdb-client, read in InfluxQL, the one language of 1.x, 2.x and 3.x.

- ``api = "v2"``: the write path of InfluxDB 2.x and 3.x, ``/api/v2/write``.
- ``api = "v1"``: that of 1.x, ``/write``; a missing database is made.

Queries go to ``/query`` on every version (2.x maps a bucket of the same name by itself, see docs/storage.md).
Writing the same rows again overwrites them with themselves, so a crash needs no forgetting.
"""

from __future__ import annotations

import base64
import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl
from influxdb_client import InfluxDBClient, WritePrecision
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException

from storage import schema
from storage.errors import StoreRefused, StoreUnavailable
from storage.line_protocol import LineEncoder, clean_tag, joined
from storage.settings import StoreSettings
from storage.store import (
    AccountHour,
    AlarmRecord,
    HourCounts,
    PipelineStatus,
    ReadingColumns,
    Series,
    StoredBatch,
    WindowColumns,
    chart_series,
    last_of_each,
)
from telemetry.alarms import AlarmState

LINES_PER_REQUEST = 10_000
SEARCH_REQUESTS = 400
"""Requests that are spent to find the bad lines of one refused request; what is then still mixed is refused whole."""

TIME_MIN, TIME_MAX = -(2**63) + 2, 2**63 - 2
"""The times that InfluxDB has. [ns since 1970 UTC]"""

_PRECISION = {"ns": "ns", "us": "u", "ms": "ms", "s": "s"}


class InfluxStore:
    """A ``Store`` in an InfluxDB server. Making it opens no connection.

    Parameters
    ----------
    settings : StoreSettings
        ``url``, ``api``, ``bucket``, and ``org`` and ``token`` (v2) or ``username`` and ``password`` (v1).
    """

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._encoder = LineEncoder()
        self._database, _, self._policy = settings.bucket.partition("/")
        self._client: Any = InfluxDBClient(
            url=settings.url,
            token=settings.token.reveal() or None,
            org=settings.org or "-",
            timeout=round(settings.timeout_s * 1000),
            verify_ssl=settings.verify_tls,
            ssl_ca_cert=settings.ca_file or None,
        )
        if settings.username:
            pair = f"{settings.username}:{settings.password.reveal()}".encode()
            self._authorization = "Basic " + base64.b64encode(pair).decode()
        elif settings.token:
            self._authorization = "Token " + settings.token.reveal()
        else:
            self._authorization = ""
        if settings.api == "v1":
            _use_v1_write(self._client, self._authorization)
        self._write_api: Any = self._client.write_api(write_options=SYNCHRONOUS)

    # Writing

    def write(self, *batches: StoredBatch) -> None:
        """See ``Store.write``."""
        self.write_lines(self._encoder.lines(batches))

    def write_lines(self, lines: pl.Series) -> None:
        """Write lines of line protocol; raises like ``Store.write``."""
        refused: list[tuple[bytes, str]] = []
        for start in range(0, len(lines), LINES_PER_REQUEST):
            part = lines.slice(start, LINES_PER_REQUEST)
            reason = self._send(joined(part))
            if reason is not None:
                refused += self._bad_lines(part, reason)
        if refused:
            raise StoreRefused([line for line, _ in refused], [reason for _, reason in refused])

    def _bad_lines(self, lines: pl.Series, reason: str) -> list[tuple[bytes, str]]:
        """Halve a refused request until the bad lines stand alone. Writing good lines twice does no harm."""
        bad: list[tuple[bytes, str]] = []
        pending = [(lines, reason)]
        requests = 0
        while pending:
            part, why = pending.pop()
            if len(part) == 1 or requests >= SEARCH_REQUESTS:
                bad += [(line.encode(), why) for line in part.to_list()]
                continue
            half = len(part) // 2
            for piece in (part.slice(0, half), part.slice(half)):
                requests += 1
                answer = self._send(joined(piece))
                if answer is not None:
                    pending.append((piece, answer))
        return bad

    def _send(self, body: bytes) -> str | None:
        """Send one request; the server's reason if it refuses these lines. StoreUnavailable for all other trouble."""
        self._open()
        for attempt in range(2):
            try:
                self._write_api.write(
                    bucket=self._settings.bucket,
                    org=self._settings.org or "-",
                    record=body,
                    write_precision=WritePrecision.NS,
                )
                return None
            except ApiException as error:
                reason = _reason(error)
                if error.status in (400, 413, 422):
                    return reason
                if self._settings.api == "v1" and error.status == 404 and attempt == 0 and "database not" in reason:
                    self._create_database()
                    continue
                raise StoreUnavailable(self._explain(error.status, reason)) from error
            except Exception as error:
                raise StoreUnavailable(self._unreachable(error)) from error
        return None

    def _create_database(self) -> None:
        self._query(f"CREATE DATABASE {_identifier(self._database)}", post=True)

    def forget_after(self, position: int) -> None:
        """Nothing to do: rows that are computed again have the same series and time, and overwrite themselves."""

    def last_position(self) -> int:
        """Positions are not kept here."""
        return -1

    # Reading

    def readings(self, datastream: str, start_ns: int, end_ns: int) -> ReadingColumns:
        """See ``Store.readings``."""
        fields = ("value", "flag", "remark")
        rows = self._select(schema.READING, fields, start_ns, end_ns, {schema.DATASTREAM: datastream})
        time = rows["time"].astype(np.int64)
        # A datastream whose device was swapped has two series, and a reading may have come again under the second.
        keep = last_of_each(np.zeros(len(time), np.int64), time)
        flag = np.nan_to_num(rows["flag"][keep]).astype(np.uint8)
        remark = np.nan_to_num(rows["remark"][keep]).astype(np.uint8)
        return ReadingColumns(time[keep], rows["value"][keep], flag, remark)

    def windows(self, datastream: str, width_s: int, start_ns: int, end_ns: int) -> WindowColumns:
        """See ``Store.windows``."""
        tags = {schema.DATASTREAM: datastream, schema.WIDTH: schema.window_name(width_s)}
        names = ("count", "good_count", "min", "max", "mean", "last", "sum", "deviation")
        rows = self._select(schema.WINDOW, names, start_ns, end_ns, tags)
        start = rows["time"].astype(np.int64)
        # Of a window in two series (the device was swapped) the one that has seen more is the later one.
        keep = last_of_each(rows["count"].astype(np.int64), start)
        count, good = rows["count"][keep].astype(np.int64), rows["good_count"][keep].astype(np.int64)
        return WindowColumns(start[keep], count, good, *(rows[n][keep] for n in names[2:]))

    def series(self, datastream: str, start_ns: int, end_ns: int, max_points: int = 1000) -> Series:
        """See ``Store.series``."""
        return chart_series(self, datastream, start_ns, end_ns, max_points)

    def transitions(self, start_ns: int, end_ns: int) -> list[AlarmRecord]:
        """See ``Store.transitions``."""
        fields = [f.name for f in schema.ALARM.fields]
        columns, values = self._rows(schema.ALARM, (*fields, *schema.ALARM.tags), start_ns, end_ns, {})
        found = [_alarm(dict(zip(columns, row, strict=True))) for row in values]
        return [r for r in found if r.state != AlarmState.WITHDRAWN]

    def pipeline(self, start_ns: int, end_ns: int) -> list[PipelineStatus]:
        """See ``Store.pipeline``."""
        fields = schema.PIPELINE.fields
        columns, values = self._rows(schema.PIPELINE, [f.name for f in fields], start_ns, end_ns, {})
        found = []
        for row in values:
            of = dict(zip(columns, row, strict=True))
            numbers = {f.name: of[f.name] or 0 for f in fields}
            found.append(PipelineStatus(at=of["time"], **numbers))
        return found

    def count_readings(self, start_ns: int, end_ns: int, datastream: str | None = None) -> int:
        """See ``Store.count_readings``."""
        tags = {} if datastream is None else {schema.DATASTREAM: datastream}
        where = _where(start_ns, end_ns, tags)
        series = self._query(f'SELECT count("flag") FROM {_identifier(schema.READING.name)} WHERE {where}')
        return int(series[0]["values"][0][1]) if series else 0

    def count_by_hour(self, start_ns: int, end_ns: int) -> HourCounts:
        """See ``Store.count_by_hour``."""
        name, tag = _identifier(schema.READING.name), _identifier(schema.DATASTREAM)
        streams: list[str] = []
        hours: list[int] = []
        counts: list[int] = []
        step = 30 * 24 * 3_600_000_000_000  # more buckets than a server gives at once are several queries
        first = self._query(f'SELECT first("flag") FROM {name} WHERE {_where(start_ns, end_ns, {})}')
        last = self._query(f'SELECT last("flag") FROM {name} WHERE {_where(start_ns, end_ns, {})}')
        if first and last:
            start_ns, end_ns = first[0]["values"][0][0], last[0]["values"][0][0] + 1
            for start in range(start_ns // step * step, end_ns, step):
                where = _where(max(start, start_ns), min(start + step, end_ns), {})
                query = f'SELECT count("flag") FROM {name} WHERE {where} GROUP BY time(1h), {tag} fill(none)'
                for series in self._query(query):
                    streams += [series["tags"][schema.DATASTREAM]] * len(series["values"])
                    hours += [row[0] for row in series["values"]]
                    counts += [row[1] for row in series["values"]]
        return HourCounts(streams, np.array(hours, np.int64), np.array(counts, np.int64))

    def account(self, start_ns: int, end_ns: int) -> list[AccountHour]:
        """See ``Store.account``."""
        fields = [f.name for f in schema.ACCOUNT.fields]
        columns, values = self._rows(schema.ACCOUNT, (*fields, schema.DEVICE), start_ns, end_ns, {})
        found = []
        for row in values:
            of = dict(zip(columns, row, strict=True))
            found.append(AccountHour(of[schema.DEVICE] or "", of["time"], **{f: of[f] for f in fields}))
        return sorted(found, key=lambda a: (a.at, a.device))

    # Looking after itself

    def check(self) -> str | None:
        """See ``Store.check``. Writes nothing but asks the write path as well, with a request that holds no row."""
        try:
            if self._settings.api == "v1" and self._database not in self._databases():
                self._create_database()
            reason = self._send(b"\n")
            if reason is not None and "not found" in reason:
                return self._explain(404, reason)
            self._query(f"SELECT * FROM {_identifier(schema.PIPELINE.name)} LIMIT 1")
        except StoreUnavailable as error:
            return str(error)
        return None

    def close(self) -> None:
        """See ``Store.close``."""
        if self._client is None:
            return
        with contextlib.suppress(Exception):
            # Undo the hook of v1: it keeps the client alive until the interpreter ends, and noisily so.
            vars(self._client.api_client).pop("request", None)
            self._write_api.close()
            self._client.close()
        self._client = self._write_api = None

    def _open(self) -> None:
        if self._client is None:
            raise StoreUnavailable(f"the store at {self._settings.url} is closed")

    def _databases(self) -> list[str]:
        series = self._query("SHOW DATABASES")
        return [row[0] for row in series[0].get("values", [])] if series else []

    def _select(
        self, measurement: schema.Measurement, fields: Sequence[str], start_ns: int, end_ns: int, tags: dict[str, str]
    ) -> dict[str, npt.NDArray[Any]]:
        """Columns of numbers; NaN where a row has no such field. Times stay exact integers."""
        columns, values = self._rows(measurement, fields, start_ns, end_ns, tags)
        if not values:
            return {name: np.empty(0, np.int64 if name == "time" else np.float64) for name in ("time", *fields)}
        by_column = dict(zip(columns, zip(*values, strict=True), strict=True))
        return {
            name: np.array(column, np.int64)
            if name == "time"
            else np.array([math.nan if v is None else v for v in column], np.float64)
            for name, column in by_column.items()
        }

    def _rows(
        self, measurement: schema.Measurement, names: Sequence[str], start_ns: int, end_ns: int, tags: dict[str, str]
    ) -> tuple[list[str], list[list[Any]]]:
        what = ", ".join(_identifier(n) for n in names)
        where = _where(start_ns, end_ns, tags)
        series = self._query(f"SELECT {what} FROM {_identifier(measurement.name)} WHERE {where}")
        if not series:
            return ["time", *names], []
        return series[0]["columns"], series[0]["values"]

    def _query(self, influxql: str, *, post: bool = False) -> list[dict[str, Any]]:
        """Run one InfluxQL statement; the series of its result."""
        self._open()
        url = self._settings.url.rstrip("/") + "/query"
        parameters = [("db", self._database), ("q", influxql), ("epoch", "ns")]
        if self._policy:
            parameters.append(("rp", self._policy))
        headers = {"Authorization": self._authorization} if self._authorization else {}
        try:
            answer = self._client.api_client.request(
                "POST" if post else "GET",
                url,
                query_params=parameters,
                headers=headers | ({"Content-Type": "application/x-www-form-urlencoded"} if post else {}),
            )
            results = msgspec.json.decode(answer.data)["results"]
            error = results[0].get("error")
        except ApiException as caught:
            raise StoreUnavailable(self._explain(caught.status, _reason(caught))) from caught
        except (msgspec.DecodeError, KeyError, IndexError, TypeError) as caught:
            raise StoreUnavailable(
                f"{self._settings.url} does not answer as InfluxDB does: check the address (store.url)"
            ) from caught
        except Exception as caught:
            raise StoreUnavailable(self._unreachable(caught)) from caught
        if error and self._settings.api == "v1" and "database not found" in error:
            return []  # the first write makes it
        if error:
            raise StoreUnavailable(self._explain(404 if "not found" in error else 400, error))
        series: list[dict[str, Any]] = results[0].get("series", [])
        return series

    def _explain(self, status: int | None, reason: str) -> str:
        """One sentence: what is wrong and what to do."""
        s = self._settings
        where = f"InfluxDB at {s.url}"
        if status == 401:
            which = "token" if s.api == "v2" else "user name or password"
            return f"{where} does not accept the {which}: {reason}"
        if status == 403:
            return (
                f"{where} does not allow it: give the token or user the right to read and write {s.bucket!r}: {reason}"
            )
        if status == 404:
            if "page not found" in reason:
                other = "v1" if s.api == "v2" else "v2"
                return f'{where} has no write path {s.api}: set api = "{other}" (store.api), or correct store.url'
            thing = "bucket" if s.api == "v2" else "database"
            return f"{where} has no {thing} {s.bucket!r}: make it there, or correct store.bucket: {reason}"
        if not status:
            return f"no secure connection to {where}: check the certificate or store.ca_file: {reason}"
        return f"{where} answers {status}: {reason}"

    def _unreachable(self, error: Exception) -> str:
        cause: BaseException = error
        while (inner := getattr(cause, "reason", None)) is not None and isinstance(inner, BaseException):
            cause = inner
        return (
            f"InfluxDB at {self._settings.url} does not answer: start it, or correct store.url "
            f"({type(cause).__name__}: {str(cause)[:200]})"
        )


def _use_v1_write(client: Any, authorization: str) -> None:
    """Let the client write to ``/write`` of InfluxDB 1.x; an undocumented hook of influxdb-client 1.50."""
    api = client.api_client
    inner: Callable[..., Any] = api.request

    def request(
        method: str, url: str, query_params: Any = None, headers: dict[str, str] | None = None, **kw: Any
    ) -> Any:
        if url.endswith("/api/v2/write"):
            asked = dict(query_params)
            database, _, policy = asked["bucket"].partition("/")
            url = url.removesuffix("/api/v2/write") + "/write"
            query_params = [("db", database), ("precision", _PRECISION[asked.get("precision", "ns")])]
            query_params += [("rp", policy)] if policy else []
            headers = (headers or {}) | ({"Authorization": authorization} if authorization else {})
        return inner(method, url, query_params=query_params, headers=headers, **kw)

    api.request = request


def _reason(error: ApiException) -> str:
    """What the server says, without headers."""
    body = error.body if isinstance(error.body, str) else ""
    with contextlib.suppress(msgspec.DecodeError):
        said = msgspec.json.decode(body)
        if isinstance(said, dict):
            text = str(said.get("error") or said.get("message") or body)
            details = said.get("data")
            return f"{text}: {str(details)[:500]}" if details else text
    return body.strip()[:500] or str(error.reason)


def _where(start_ns: int, end_ns: int, tags: dict[str, str]) -> str:
    start, end = max(start_ns, TIME_MIN), min(end_ns, TIME_MAX + 1)
    conditions = [f"{_identifier(name)} = {_literal(clean_tag(value))}" for name, value in tags.items()]
    return " AND ".join([*conditions, f"time >= {start}", f"time <= {end - 1}"])


def _identifier(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _alarm(row: dict[str, Any]) -> AlarmRecord:
    def number(name: str) -> float:
        return math.nan if row[name] is None else float(row[name])

    return AlarmRecord(
        **{t: row[t] or "" for t in schema.ALARM.tags},
        raised_at=int(row["raised_at"]),
        at=int(row["time"]),
        state=int(row["state"]),
        severity=int(row["severity"]),
        value=number("value"),
        threshold=number("threshold"),
        peak=number("peak"),
        peak_at=int(row["peak_at"]),
        label=row["label"] or "",
        directory_version=int(row["directory_version"]),
    )
