"""Jobs, their finished parts, turns of owners, and webhooks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "sotto_jobs",
        sa.Column("job_id", sa.String(36), primary_key=True),
        sa.Column("owner", sa.String(128), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("parameters", sa.Text, nullable=False),
        sa.Column("created_s", sa.Float(53), nullable=False),
        sa.Column("audio", sa.String(512), nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("webhook_url", sa.Text, nullable=False),
        sa.Column("webhook_method", sa.String(8), nullable=False),
        sa.Column("idempotency_key", sa.String(255)),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("progress", sa.Float(53), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due_s", sa.Float(53), nullable=False),
        sa.Column("lease_token", sa.String(64), nullable=False),
        sa.Column("lease_until_s", sa.Float(53), nullable=False),
        sa.Column("started_s", sa.Float(53)),
        sa.Column("ended_s", sa.Float(53)),
        sa.Column("expires_s", sa.Float(53)),
        sa.Column("error_code", sa.String(64), nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("result", sa.LargeBinary),
        sa.UniqueConstraint("owner", "idempotency_key", name="sotto_jobs_idempotency"),
    )
    op.create_index("sotto_jobs_by_state", "sotto_jobs", ["state", "due_s"])
    op.create_index("sotto_jobs_by_owner", "sotto_jobs", ["owner", "created_s"])
    op.create_table(
        "sotto_job_parts",
        sa.Column("job_id", sa.String(36), primary_key=True),
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    turns = op.create_table(
        "sotto_job_turns",
        sa.Column("owner", sa.String(128), primary_key=True),
        sa.Column("turn", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(turns, [{"owner": "*clock", "turn": 0}])
    op.create_table(
        "sotto_webhooks",
        sa.Column("delivery_id", sa.String(64), primary_key=True),
        sa.Column("job_id", sa.String(36), nullable=False),
        sa.Column("owner", sa.String(128), nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("method", sa.String(8), nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("created_s", sa.Float(53), nullable=False),
        sa.Column("due_s", sa.Float(53), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
    )
    op.create_index("sotto_webhooks_due", "sotto_webhooks", ["state", "due_s"])
    op.create_index("sotto_webhooks_by_job", "sotto_webhooks", ["job_id"])


def downgrade() -> None:
    for table in ("sotto_webhooks", "sotto_job_turns", "sotto_job_parts", "sotto_jobs"):
        op.drop_table(table)
