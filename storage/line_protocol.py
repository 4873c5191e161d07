"""Line protocol, column-wise: batches of results to the lines that every InfluxDB version takes.

No loop over readings: tags and their escapes are made once for each datastream of a directory, and the numbers are
turned to text by polars. A float that is NaN or infinite is left out, since InfluxDB has no such value. Sending is
left to ``influx``.

References
----------
https://docs.influxdata.com/influxdb/v1/write_protocols/line_protocol_reference/ ; escapes were tried on a running
InfluxDB 1.6.7 (tests/storage/test_line_protocol.py).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from storage import schema
from storage.store import AccountHour, AlarmRecord, PipelineStatus, StoredBatch, alarm_records, last_of_each
from telemetry.directory import Directory
from telemetry.observations import Observations
from telemetry.results import Transitions, Windows

_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


def clean_tag(value: str) -> str:
    r"""A tag value as it is stored: control characters become spaces, backslashes at the end are dropped.

    Line protocol can't carry them there.

    Examples
    --------
    >>> print(clean_tag("a\tb\\"))
    a b
    """
    return _CONTROL.sub(" ", value).rstrip("\\")


def escape_tag(value: str) -> str:
    r"""A tag value, cleaned, as it must stand in a line.

    Examples
    --------
    >>> print(escape_tag("Kec. Satu, RW=5"), escape_tag("a\nb"), escape_tag("c\\"))
    Kec.\ Satu\,\ RW\=5 a\ b c
    """
    return clean_tag(value).replace(",", "\\,").replace("=", "\\=").replace(" ", "\\ ")


def quote_field(value: str) -> str:
    r"""A string field as it must stand in a line; control characters become spaces.

    Examples
    --------
    >>> print(quote_field('Siaga "2"'))
    "Siaga \"2\""
    """
    escaped = _CONTROL.sub(" ", value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


class LineEncoder:
    """Encodes batches; keeps the tags of the directory that it met last."""

    def __init__(self) -> None:
        self._of: Directory | None = None
        self._tags = pl.Series(dtype=pl.String)

    def lines(self, batches: Sequence[StoredBatch]) -> pl.Series:
        """All rows of ``batches`` as lines without newlines; of rows with one identity only the last.

        Identity is within one directory: another one may give a datastream other tags, which is another series.
        """
        parts = [pl.Series(dtype=pl.String)]
        for same in _runs(batches):
            directory = same[0].directory
            parts.append(self.readings(directory, Observations.concat([b.readings for b in same])))
            parts.append(self.windows(directory, Windows.concat([b.windows for b in same])))
            alarms = alarm_records(directory, Transitions.concat([b.transitions for b in same]))
            parts.append(pl.Series([alarm_line(a) for a in alarms], dtype=pl.String))
            statuses = [s for b in same for s in b.pipeline]
            parts.append(pl.Series([pipeline_line(directory, s) for s in statuses], dtype=pl.String))
            hours = {(a.device, a.at): a for b in same for a in b.account}
            parts.append(pl.Series([account_line(directory, a) for a in hours.values()], dtype=pl.String))
        return pl.concat(parts)

    def readings(self, directory: Directory, rows: Observations) -> pl.Series:
        """Lines of the measurement ``reading``."""
        keep = last_of_each(np.zeros(len(rows), np.int64), rows.datastream, rows.observed_at)
        frame = pl.DataFrame(
            {
                "tags": self._tags_at(directory, rows.datastream[keep], rows.observed_at[keep]),
                "value": rows.value[keep],
                "flag": rows.flag[keep],
                "remark": rows.remark[keep],
                "time": rows.observed_at[keep],
            }
        )
        return frame.select(
            pl.concat_str(
                pl.lit(schema.READING.name),
                "tags",
                pl.when(pl.col("value").is_finite())
                .then(pl.concat_str(pl.lit(" value="), pl.col("value").cast(pl.String), pl.lit(",flag=")))
                .otherwise(pl.lit(" flag=")),
                pl.col("flag").cast(pl.String),
                pl.when(pl.col("remark") > 0)
                .then(pl.concat_str(pl.lit("i,remark="), pl.col("remark").cast(pl.String), pl.lit("i ")))
                .otherwise(pl.lit("i ")),
                pl.col("time").cast(pl.String),
            ).alias("line")
        )["line"]

    def windows(self, directory: Directory, rows: Windows) -> pl.Series:
        """Lines of the measurement ``window``."""
        keep = last_of_each(np.zeros(len(rows), np.int64), rows.width_s, rows.datastream, rows.start)
        widths = np.unique(rows.width_s[keep])
        names = pl.Series([escape_tag(schema.window_name(int(w))) for w in widths], dtype=pl.String)
        frame = pl.DataFrame(
            {
                "tags": self._tags_at(directory, rows.datastream[keep], rows.start[keep]),
                "width": names.gather(np.searchsorted(widths, rows.width_s[keep]).astype(np.uint32)),
                "count": rows.count[keep],
                "good_count": rows.good_count[keep],
                "min": rows.minimum[keep],
                "max": rows.maximum[keep],
                "mean": rows.mean[keep],
                "last": rows.last[keep],
                "sum": rows.total[keep],
                "deviation": rows.deviation[keep],
                "time": rows.start[keep],
            }
        )
        floats = [
            pl.when(pl.col(name).is_finite())
            .then(pl.concat_str(pl.lit(f",{name}="), pl.col(name).cast(pl.String)))
            .otherwise(pl.lit(""))
            for name in ("min", "max", "mean", "last", "sum", "deviation")
        ]
        return frame.select(
            pl.concat_str(
                pl.lit(schema.WINDOW.name),
                "tags",
                pl.lit(f",{schema.WIDTH}="),
                "width",
                pl.lit(" count="),
                pl.col("count").cast(pl.String),
                pl.lit("i,good_count="),
                pl.col("good_count").cast(pl.String),
                pl.lit("i"),
                *floats,
                pl.lit(" "),
                pl.col("time").cast(pl.String),
            ).alias("line")
        )["line"]

    def _tags_at(self, directory: Directory, datastream: npt.NDArray[np.int32], at: npt.NDArray[np.int64]) -> pl.Series:
        """The tags of each row, with the device that fed its datastream at the time: so a swap moves no old row."""
        tags, index = self._datastream_tags(directory), datastream.astype(np.uint32)
        device = directory.installed.device_at(datastream, at)
        other = np.flatnonzero(device != directory.device_of[datastream])
        if other.size:
            pairs, inverse = np.unique(
                np.stack([datastream[other], device[other]], axis=1), axis=0, return_inverse=True
            )
            index[other] = len(tags) + inverse.reshape(-1)
            former = [tag_text(schema.datastream_tags(directory, stream, device)) for stream, device in pairs.tolist()]
            tags = pl.concat([tags, pl.Series(former, dtype=pl.String)])
        return tags.gather(index)

    def _datastream_tags(self, directory: Directory) -> pl.Series:
        if self._of is not directory:
            indexes = range(len(directory.datastreams))
            self._tags = pl.Series([tag_text(schema.datastream_tags(directory, i)) for i in indexes], dtype=pl.String)
            self._of = directory
        return self._tags


def tag_text(tags: dict[str, str]) -> str:
    r"""Tags as they follow the measurement, sorted by name, without those that are empty.

    Examples
    --------
    >>> print(tag_text({"site": "s 1", "city": "bandung", "district": ""}))
    ,city=bandung,site=s\ 1
    """
    escaped = {name: escape_tag(value) for name, value in sorted(tags.items())}
    return "".join(f",{name}={value}" for name, value in escaped.items() if value)


def alarm_line(record: AlarmRecord) -> str:
    """A line of the measurement ``alarm``."""
    fields = []
    for field in schema.ALARM.fields:
        value = getattr(record, field.name)
        if field.type is schema.FieldType.INTEGER:
            fields.append(f"{field.name}={value}i")
        elif field.type is schema.FieldType.STRING:
            fields += [f"{field.name}={quote_field(value)}"] if value else []
        elif math.isfinite(value):
            fields.append(f"{field.name}={value!r}")
    tags = tag_text({tag: getattr(record, tag) for tag in schema.ALARM.tags})
    return f"{schema.ALARM.name}{tags} {','.join(fields)} {record.at}"


def pipeline_line(directory: Directory, status: PipelineStatus) -> str:
    """A line of the measurement ``pipeline``."""
    fields = []
    for field in schema.PIPELINE.fields:
        value = getattr(status, field.name)
        if field.type is schema.FieldType.INTEGER:
            fields.append(f"{field.name}={int(value)}i")
        elif math.isfinite(value):
            fields.append(f"{field.name}={float(value)!r}")
    return f"{schema.PIPELINE.name}{tag_text({schema.CITY: directory.city})} {','.join(fields)} {status.at}"


def account_line(directory: Directory, hour: AccountHour) -> str:
    """A line of the measurement ``account``."""
    fields = []
    for field in schema.ACCOUNT.fields:
        value = getattr(hour, field.name)
        integer = field.type is schema.FieldType.INTEGER
        fields.append(f"{field.name}={int(value)}i" if integer else f"{field.name}={float(value)!r}")
    tags = tag_text({schema.CITY: directory.city, schema.DEVICE: hour.device})
    return f"{schema.ACCOUNT.name}{tags} {','.join(fields)} {hour.at}"


def joined(lines: pl.Series) -> bytes:
    """Lines with newlines between them, as they are sent."""
    if lines.is_empty():
        return b""
    text: str = lines.str.join("\n").item()
    return text.encode()


def _runs(batches: Sequence[StoredBatch]) -> list[list[StoredBatch]]:
    """Neighbours with the same directory together."""
    runs: list[list[StoredBatch]] = []
    for batch in batches:
        if runs and runs[-1][0].directory is batch.directory:
            runs[-1].append(batch)
        else:
            runs.append([batch])
    return runs
