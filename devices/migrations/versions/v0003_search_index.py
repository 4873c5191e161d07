"""What begins with the words typed is found by an index."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index."""
    op.create_index("device_search_by_words", "device_search", ["words"], postgresql_ops={"words": "text_pattern_ops"})
