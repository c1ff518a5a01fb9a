"""Alembic's entry: runs the revisions on the connection that schema.upgrade hands over."""

from __future__ import annotations

from alembic import context

from baremetal.store.tables import meta

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=meta, render_as_batch=True, compare_type=True)
with context.begin_transaction():
    context.run_migrations()
