"""What a job's image carries about itself."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Jobs recorded before have none, and none is adopted for them."""
    op.add_column("jobs", sa.Column("stamp", sa.Text, nullable=False, server_default="{}"))
