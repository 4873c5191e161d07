"""Districts, serial numbers and states, feeds by time, calibrations, jobs, audit trail, search.

A device that feeds a datastream in a database of version 1 has done so from the beginning of time, as far as that
version knows: whatever time a reading had, it went there.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add tables and columns; nothing is taken away."""
    op.create_table(
        "districts",
        sa.Column("code", sa.String(200), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("geojson", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("code"),
    )
    op.add_column("sites", sa.Column("elevation_m", sa.Float(), nullable=True))
    op.add_column("sites", sa.Column("datum", sa.Text(), nullable=False, server_default=""))
    op.create_index("sites_by_latitude", "sites", ["latitude"])

    op.add_column("devices", sa.Column("serial", sa.Text(), nullable=False, server_default=""))
    op.add_column("devices", sa.Column("eui", sa.String(16), nullable=False, server_default=""))
    op.add_column("devices", sa.Column("firmware", sa.Text(), nullable=False, server_default=""))
    op.add_column("devices", sa.Column("state", sa.String(20), nullable=False, server_default="active"))
    op.create_index("devices_by_serial", "devices", ["serial"])
    op.create_index("devices_by_eui", "devices", ["eui"])

    op.create_index("ix_installations_site", "installations", ["site"])
    op.add_column("datastreams", sa.Column("label", sa.Text(), nullable=False, server_default=""))
    op.create_index("ix_datastreams_site", "datastreams", ["site"])
    op.create_index("ix_datastreams_device", "datastreams", ["device"])

    op.create_table(
        "feeds",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("device", sa.Integer(), nullable=False),
        sa.Column("datastream", sa.Integer(), nullable=False),
        sa.Column("start_at", sa.BigInteger(), nullable=True),
        sa.Column("end_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["device"], ["devices.dense_index"]),
        sa.ForeignKeyConstraint(["datastream"], ["datastreams.dense_index"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_feeds_device", "feeds", ["device"])
    op.create_index("ix_feeds_datastream", "feeds", ["datastream"])
    op.execute(
        "INSERT INTO feeds (device, datastream) SELECT device, dense_index FROM datastreams ORDER BY dense_index"
    )

    op.create_table(
        "calibrations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("device", sa.Integer(), nullable=False),
        sa.Column("property", sa.String(100), nullable=False),
        sa.Column("scale", sa.Float(), nullable=False),
        sa.Column("offset_value", sa.Float(), nullable=False),
        sa.Column("valid_from", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.dense_index"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("device", "property", "valid_from"),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("device", sa.Integer(), nullable=True),
        sa.Column("site", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(100), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("opened_by", sa.Text(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.Column("closed_by", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("has_photo", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.dense_index"]),
        sa.ForeignKeyConstraint(["site"], ["sites.dense_index"]),
        sa.PrimaryKeyConstraint("id"),
    )
    for column in ("device", "site", "closed_at"):
        op.create_index(f"ix_jobs_{column}", "jobs", [column])
    op.create_table(
        "job_photos",
        sa.Column("job", sa.Integer(), nullable=False),
        sa.Column("photo", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"]),
        sa.PrimaryKeyConstraint("job"),
    )
    op.create_table(
        "registry_audit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.Column("action", sa.String(100), nullable=False),
        sa.Column("kind", sa.String(100), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("before_json", sa.Text(), nullable=False),
        sa.Column("after_json", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("audit_by_subject", "registry_audit", ["kind", "subject"])
    op.create_table(
        "device_search",
        sa.Column("device", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.dense_index"]),
        sa.PrimaryKeyConstraint("device"),
    )
    _fill_search()
    op.execute("UPDATE registry SET schema_version = 2")


def _fill_search() -> None:
    # In Python, since SQLite's lower() knows ASCII only.
    connection = op.get_bind()
    found = connection.execute(
        sa.text(
            "SELECT d.dense_index, d.id, s.id, s.name FROM devices d "
            "JOIN installations i ON i.device = d.dense_index AND i.removed_at IS NULL "
            "JOIN sites s ON s.dense_index = i.site"
        )
    ).all()
    rows = [{"device": index, "words": " ".join(words).casefold()} for index, *words in found]
    if rows:
        connection.execute(sa.text("INSERT INTO device_search (device, words) VALUES (:device, :words)"), rows)
