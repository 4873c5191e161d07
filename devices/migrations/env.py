"""Alembic's entry: it migrates on the connection that it is given, inside the caller's transaction."""

from __future__ import annotations

from alembic import context

from devices.model import Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    version_table="registry_revision",
)
context.run_migrations()
