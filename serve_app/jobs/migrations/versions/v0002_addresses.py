"""The client's address of a job, where addresses have limits of audio."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("sotto_jobs", sa.Column("address", sa.String(64), nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("sotto_jobs", "address")
