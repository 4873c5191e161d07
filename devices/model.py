"""The tables of the registry. What they mean for the city is told in ``telemetry.directory`` and ``devices.entities``.

Dense indexes are primary keys that the registry gives out itself: 0, 1, 2, ... in order of first saving. Rows of
sites, devices and datastreams are never deleted, so an index is never given to another one. Times are ns since 1970
UTC. A change of the tables is a new file in ``devices/migrations/versions``.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    false,
    func,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SCHEMA_VERSION = 2
"""Written into the table ``registry``: the Pantau before migrations refuses any but its own, 1."""

REVISION = "0004"
"""The newest file in ``devices/migrations/versions``; the tables below are what it leads to."""


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


class DistrictRow(Table):
    """A part of the city."""

    __tablename__ = "districts"

    code: Mapped[str] = mapped_column(String(200), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    geojson: Mapped[str] = mapped_column(Text)


class SiteRow(Table):
    """A place."""

    __tablename__ = "sites"
    __table_args__ = (Index("sites_by_latitude", "latitude"),)

    dense_index: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    id: Mapped[str] = mapped_column(String(200), unique=True)
    name: Mapped[str] = mapped_column(Text)
    latitude: Mapped[float] = mapped_column(Float)
    longitude: Mapped[float] = mapped_column(Float)
    district: Mapped[str] = mapped_column(Text)
    """A district's code, or free text."""
    elevation_m: Mapped[float | None] = mapped_column(Float)
    datum: Mapped[str] = mapped_column(Text, server_default="")


class DeviceRow(Table):
    """A sensor station. Where it stands is told by its open installation."""

    __tablename__ = "devices"
    __table_args__ = (
        Index("devices_by_serial", "serial"),
        Index("devices_by_eui", "eui"),
    )

    dense_index: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    id: Mapped[str] = mapped_column(String(200), unique=True)
    model: Mapped[str] = mapped_column(Text)
    silence_after_s: Mapped[float] = mapped_column(Float)
    serial: Mapped[str] = mapped_column(Text, server_default="")
    eui: Mapped[str] = mapped_column(String(16), server_default="")
    firmware: Mapped[str] = mapped_column(Text, server_default="")
    state: Mapped[str] = mapped_column(String(20), server_default="active")
    alias: Mapped[str] = mapped_column(Text, server_default="")
    gateway: Mapped[bool] = mapped_column(Boolean, server_default=false())
    clock: Mapped[str] = mapped_column(String(10), server_default="utc")
    interval_s: Mapped[float | None] = mapped_column(Float)


# Messages call devices by names whose case does not matter.
Index("devices_by_small_id", func.lower(DeviceRow.id))
Index("devices_by_small_serial", func.lower(DeviceRow.serial))
Index("devices_by_small_alias", func.lower(DeviceRow.alias))


class DeviceSearchRow(Table):
    """What a device is found by, in small letters: id, serial, EUI, alias, its site's id and name. Made by us."""

    __tablename__ = "device_search"
    # PostgreSQL compares by the rules of a language unless told otherwise; a beginning is found by bytes only.
    __table_args__ = (Index("device_search_by_words", "words", postgresql_ops={"words": "text_pattern_ops"}),)

    device: Mapped[int] = mapped_column(ForeignKey("devices.dense_index"), primary_key=True, autoincrement=False)
    words: Mapped[str] = mapped_column(Text)


class InstallationRow(Table):
    """A device at a site for an interval of time. The one that is installed now has no ``removed_at``."""

    __tablename__ = "installations"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    device: Mapped[int] = mapped_column(ForeignKey("devices.dense_index"), index=True)
    site: Mapped[int] = mapped_column(ForeignKey("sites.dense_index"), index=True)
    installed_at: Mapped[int] = mapped_column(BigInteger)
    removed_at: Mapped[int | None] = mapped_column(BigInteger, index=True)


class DatastreamRow(Table):
    """One observed property at one site, and the device that feeds it now or, if none does, fed it last."""

    __tablename__ = "datastreams"

    dense_index: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    id: Mapped[str] = mapped_column(String(200), unique=True)
    site: Mapped[int] = mapped_column(ForeignKey("sites.dense_index"), index=True)
    device: Mapped[int] = mapped_column(ForeignKey("devices.dense_index"), index=True)
    property: Mapped[str] = mapped_column(String(100))
    label: Mapped[str] = mapped_column(Text, server_default="")


class FeedRow(Table):
    """A device feeds a datastream for an interval of time."""

    __tablename__ = "feeds"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    device: Mapped[int] = mapped_column(ForeignKey("devices.dense_index"), index=True)
    datastream: Mapped[int] = mapped_column(ForeignKey("datastreams.dense_index"), index=True)
    start_at: Mapped[int | None] = mapped_column(BigInteger)
    """NULL: from the beginning of time."""
    end_at: Mapped[int | None] = mapped_column(BigInteger)
    """NULL: it still does."""


class CalibrationRow(Table):
    """Scale and offset of one property of a device, from a time on."""

    __tablename__ = "calibrations"
    __table_args__ = (UniqueConstraint("device", "property", "valid_from"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    device: Mapped[int] = mapped_column(ForeignKey("devices.dense_index"))
    property: Mapped[str] = mapped_column(String(100))
    scale: Mapped[float] = mapped_column(Float)
    offset_value: Mapped[float] = mapped_column(Float)
    valid_from: Mapped[int] = mapped_column(BigInteger)


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


class JobRow(Table):
    """Something a technician is to do, or has done."""

    __tablename__ = "jobs"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    device: Mapped[int | None] = mapped_column(ForeignKey("devices.dense_index"), index=True)
    site: Mapped[int] = mapped_column(ForeignKey("sites.dense_index"), index=True)
    kind: Mapped[str] = mapped_column(String(100))
    text: Mapped[str] = mapped_column(Text)
    opened_at: Mapped[int] = mapped_column(BigInteger)
    opened_by: Mapped[str] = mapped_column(Text)
    due_at: Mapped[int | None] = mapped_column(BigInteger)
    closed_at: Mapped[int | None] = mapped_column(BigInteger, index=True)
    closed_by: Mapped[str] = mapped_column(Text)
    note: Mapped[str] = mapped_column(Text)
    has_photo: Mapped[bool] = mapped_column(Boolean)


class JobPhotoRow(Table):
    """The photo of a job, apart from it so that lists need not read it."""

    __tablename__ = "job_photos"

    job: Mapped[int] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    photo: Mapped[bytes] = mapped_column(LargeBinary)


class AuditRow(Table):
    """One change of one thing; never changed, never deleted."""

    __tablename__ = "registry_audit"
    __table_args__ = (
        Index("audit_by_subject", "kind", "subject"),
        Index("audit_by_version", "directory_version"),
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    at: Mapped[int] = mapped_column(BigInteger)
    changed_by: Mapped[str] = mapped_column(Text)
    action: Mapped[str] = mapped_column(String(100))
    kind: Mapped[str] = mapped_column(String(100))
    subject: Mapped[str] = mapped_column(Text)
    before_json: Mapped[str] = mapped_column(Text)
    after_json: Mapped[str] = mapped_column(Text)
    directory_version: Mapped[int] = mapped_column(Integer, server_default="0")
    """First version of the Directory with this change; 0: one that the Directory does not tell, or an old entry."""
