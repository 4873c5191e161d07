"""The tables of the first version, which made them without migrations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables, and the one row of ``registry``."""
    op.create_table(
        "registry",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("schema_version", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "city",
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("utc_offset_h", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "sites",
        sa.Column("dense_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("latitude", sa.Float(), nullable=False),
        sa.Column("longitude", sa.Float(), nullable=False),
        sa.Column("district", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("dense_index"),
        sa.UniqueConstraint("id"),
    )
    op.create_table(
        "devices",
        sa.Column("dense_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("silence_after_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("dense_index"),
        sa.UniqueConstraint("id"),
    )
    op.create_table(
        "installations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("device", sa.Integer(), nullable=False),
        sa.Column("site", sa.Integer(), nullable=False),
        sa.Column("installed_at", sa.BigInteger(), nullable=False),
        sa.Column("removed_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["device"], ["devices.dense_index"]),
        sa.ForeignKeyConstraint(["site"], ["sites.dense_index"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_installations_device", "installations", ["device"])
    op.create_index("ix_installations_removed_at", "installations", ["removed_at"])
    op.create_table(
        "datastreams",
        sa.Column("dense_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("site", sa.Integer(), nullable=False),
        sa.Column("device", sa.Integer(), nullable=False),
        sa.Column("property", sa.String(100), nullable=False),
        sa.ForeignKeyConstraint(["site"], ["sites.dense_index"]),
        sa.ForeignKeyConstraint(["device"], ["devices.dense_index"]),
        sa.PrimaryKeyConstraint("dense_index"),
        sa.UniqueConstraint("id"),
    )
    op.create_table(
        "limits",
        sa.Column("datastream", sa.Integer(), nullable=False),
        sa.Column("fail_min", sa.Float(), nullable=True),
        sa.Column("fail_max", sa.Float(), nullable=True),
        sa.Column("suspect_min", sa.Float(), nullable=True),
        sa.Column("suspect_max", sa.Float(), nullable=True),
        sa.Column("rate_max_per_s", sa.Float(), nullable=True),
        sa.Column("flat_tolerance", sa.Float(), nullable=False),
        sa.Column("flat_suspect_s", sa.Float(), nullable=True),
        sa.Column("flat_fail_s", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["datastream"], ["datastreams.dense_index"]),
        sa.PrimaryKeyConstraint("datastream"),
    )
    op.create_table(
        "threshold_versions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("datastream", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("directory_version", sa.Integer(), nullable=False),
        sa.Column("valid_from", sa.BigInteger(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("direction", sa.Integer(), nullable=False),
        sa.Column("deadband", sa.Float(), nullable=False),
        sa.Column("on_delay_s", sa.Float(), nullable=False),
        sa.Column("off_delay_s", sa.Float(), nullable=False),
        sa.Column("gate", sa.Integer(), nullable=False),
        sa.Column("steps", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["datastream"], ["datastreams.dense_index"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("datastream", "number"),
    )
    op.create_index("threshold_versions_by_directory_version", "threshold_versions", ["directory_version"])
    op.execute("INSERT INTO registry (id, schema_version, version) VALUES (1, 1, 0)")
