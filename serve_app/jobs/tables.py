"""The tables of the SQL store; `migrations/` makes them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

METADATA: Final = MetaData()

JOBS: Final = Table(
    "sotto_jobs",
    METADATA,
    Column("job_id", String(36), primary_key=True),
    Column("owner", String(128), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("parameters", Text, nullable=False),
    Column("created_s", Float(53), nullable=False),
    Column("audio", String(512), nullable=False),
    Column("url", Text, nullable=False),
    Column("webhook_url", Text, nullable=False),
    Column("webhook_method", String(8), nullable=False),
    Column("idempotency_key", String(255)),
    Column("fingerprint", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("progress", Float(53), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_s", Float(53), nullable=False),
    Column("lease_token", String(64), nullable=False),
    Column("lease_until_s", Float(53), nullable=False),
    Column("started_s", Float(53)),
    Column("ended_s", Float(53)),
    Column("expires_s", Float(53)),
    Column("error_code", String(64), nullable=False),
    Column("error", Text, nullable=False),
    Column("address", String(64), nullable=False),
    Column("result", LargeBinary),
    UniqueConstraint("owner", "idempotency_key", name="sotto_jobs_idempotency"),
    Index("sotto_jobs_by_state", "state", "due_s"),
    Index("sotto_jobs_by_owner", "owner", "created_s"),
)

PARTS: Final = Table(
    "sotto_job_parts",
    METADATA,
    Column("job_id", String(36), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("body", LargeBinary, nullable=False),
)

TURNS: Final = Table(
    "sotto_job_turns",
    METADATA,
    Column("owner", String(128), primary_key=True),
    Column("turn", BigInteger, nullable=False),
)
"""When each owner was served last. The row of `CLOCK_OWNER` counts the turns; claims wait for its lock."""

CLOCK_OWNER: Final = "*clock"

DELIVERIES: Final = Table(
    "sotto_webhooks",
    METADATA,
    Column("delivery_id", String(64), primary_key=True),
    Column("job_id", String(36), nullable=False),
    Column("owner", String(128), nullable=False),
    Column("url", Text, nullable=False),
    Column("method", String(8), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("created_s", Float(53), nullable=False),
    Column("due_s", Float(53), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("error", Text, nullable=False),
    Index("sotto_webhooks_due", "state", "due_s"),
    Index("sotto_webhooks_by_job", "job_id"),
)
