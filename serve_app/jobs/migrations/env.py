"""Alembic's entry: runs the versions on the connection that `sql_store.migrate` hands over."""

from __future__ import annotations

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table="sotto_jobs_version",
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
