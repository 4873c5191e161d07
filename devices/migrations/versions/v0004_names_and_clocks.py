"""What messages call a device besides its id, whether it speaks for others, its clock, and how often it sends.

The audit trail says from which version of the Directory on a change is told: one can ask for what changed since.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns and indexes; every device stays as it is."""
    op.add_column("devices", sa.Column("alias", sa.Text(), nullable=False, server_default=""))
    op.add_column("devices", sa.Column("gateway", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("devices", sa.Column("clock", sa.String(10), nullable=False, server_default="utc"))
    op.add_column("devices", sa.Column("interval_s", sa.Float(), nullable=True))
    for name in ("id", "serial", "alias"):
        op.create_index(f"devices_by_small_{name}", "devices", [sa.text(f"lower({name})")])
    op.add_column("registry_audit", sa.Column("directory_version", sa.Integer(), nullable=False, server_default="0"))
    op.create_index("audit_by_version", "registry_audit", ["directory_version"])
