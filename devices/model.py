"""The tables of the registry. What they mean for the city is told in ``telemetry.directory``.

Dense indexes are primary keys that the registry gives out itself: 0, 1, 2, ... in order of first saving. Rows are
never deleted, so an index is never given to another datastream or device. Times are ns since 1970 UTC.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Float, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SCHEMA_VERSION = 1
"""Raised with every change of the tables below."""


class Table(DeclarativeBase):
    """Base of all tables."""


class RegistryRow(Table):
    """One row: which schema the tables have, and the version of their content."""

    __tablename__ = "registry"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    schema_version: Mapped[int] = mapped_column(Integer)
    version: Mapped[int] = mapped_column(Integer)
    """Version of the Directory; 0 while no city has been saved."""


class CityRow(Table):
    """The city; one for each registry."""

    __tablename__ = "city"

    id: Mapped[str] = mapped_column(String(200), primary_key=True)
    utc_offset_h: Mapped[float] = mapped_column(Float)


class SiteRow(Table):
    """A place."""

    __tablename__ = "sites"

    dense_index: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    id: Mapped[str] = mapped_column(String(200), unique=True)
    name: Mapped[str] = mapped_column(Text)
    latitude: Mapped[float] = mapped_column(Float)
    longitude: Mapped[float] = mapped_column(Float)
    district: Mapped[str] = mapped_column(Text)


class DeviceRow(Table):
    """A sensor station. Where it stands is told by its open installation."""

    __tablename__ = "devices"

    dense_index: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    id: Mapped[str] = mapped_column(String(200), unique=True)
    model: Mapped[str] = mapped_column(Text)
    silence_after_s: Mapped[float] = mapped_column(Float)


class InstallationRow(Table):
    """A device at a site for an interval of time. The one that is installed now has no ``removed_at``."""

    __tablename__ = "installations"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    device: Mapped[int] = mapped_column(ForeignKey("devices.dense_index"), index=True)
    site: Mapped[int] = mapped_column(ForeignKey("sites.dense_index"))
    installed_at: Mapped[int] = mapped_column(BigInteger)
    removed_at: Mapped[int | None] = mapped_column(BigInteger, index=True)


class DatastreamRow(Table):
    """One observed property at one site, and the device that feeds it now."""

    __tablename__ = "datastreams"

    dense_index: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    id: Mapped[str] = mapped_column(String(200), unique=True)
    site: Mapped[int] = mapped_column(ForeignKey("sites.dense_index"))
    device: Mapped[int] = mapped_column(ForeignKey("devices.dense_index"))
    property: Mapped[str] = mapped_column(String(100))


class LimitsRow(Table):
    """Limits of a datastream; none if all are at their defaults. Columns as in ``telemetry.directory.Limits``."""

    __tablename__ = "limits"

    datastream: Mapped[int] = mapped_column(ForeignKey("datastreams.dense_index"), primary_key=True)
    fail_min: Mapped[float | None] = mapped_column(Float)
    fail_max: Mapped[float | None] = mapped_column(Float)
    suspect_min: Mapped[float | None] = mapped_column(Float)
    suspect_max: Mapped[float | None] = mapped_column(Float)
    rate_max_per_s: Mapped[float | None] = mapped_column(Float)
    flat_tolerance: Mapped[float] = mapped_column(Float)
    flat_suspect_s: Mapped[float | None] = mapped_column(Float)
    flat_fail_s: Mapped[float | None] = mapped_column(Float)


class ThresholdRow(Table):
    """One version of a datastream's ladder; that with the highest ``number`` is in force."""

    __tablename__ = "threshold_versions"
    __table_args__ = (
        UniqueConstraint("datastream", "number"),
        Index("threshold_versions_by_directory_version", "directory_version"),
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    datastream: Mapped[int] = mapped_column(ForeignKey("datastreams.dense_index"))
    number: Mapped[int] = mapped_column(Integer)
    """1, 2, 3, ... for each datastream."""
    directory_version: Mapped[int] = mapped_column(Integer)
    """First version of the Directory with this ladder; alarms name the version that raised them."""
    valid_from: Mapped[int] = mapped_column(BigInteger)
    author: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    direction: Mapped[int] = mapped_column(Integer)
    deadband: Mapped[float] = mapped_column(Float)
    on_delay_s: Mapped[float] = mapped_column(Float)
    off_delay_s: Mapped[float] = mapped_column(Float)
    gate: Mapped[int] = mapped_column(Integer)
    steps: Mapped[str] = mapped_column(Text)
    """JSON: a list of {value, severity, label}, from the mildest to the worst."""
