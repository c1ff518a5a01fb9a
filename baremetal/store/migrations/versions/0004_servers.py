"""Several servers: the site, who lives, who drives which node; PostgreSQL tells all servers what changed.

Revision ID: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Rows of these tables make up what a boot plane is told. Payload: "n:<node id>", "s:<owner of a secret>".
# A heartbeat of an agent, or progress of an order, wakes nobody.
FUNCTION = """
CREATE FUNCTION baremetal_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE r jsonb;
BEGIN
  r := CASE WHEN TG_OP = 'DELETE' THEN to_jsonb(OLD) ELSE to_jsonb(NEW) END;
  PERFORM pg_notify('baremetal', TG_ARGV[0] || ':' || (r ->> TG_ARGV[1]));
  RETURN NULL;
END $$
"""
TRIGGERS = {  # table -> (when, what, column)
    "nodes": ("INSERT OR UPDATE OR DELETE", "n", "id"),
    "ports": ("INSERT OR UPDATE OR DELETE", "n", "node_id"),
    "boots": ("INSERT OR DELETE OR UPDATE OF token_sha256, nonce_key, hello_at, ended_at", "n", "node_id"),
    "orders": ("INSERT OR DELETE OR UPDATE OF outcome", "n", "node_id"),
    "metadata_documents": ("INSERT OR UPDATE OR DELETE", "n", "node_id"),
    "secrets": ("INSERT OR UPDATE OR DELETE", "s", "owner"),
}


def upgrade() -> None:
    op.create_table(
        "site",
        sa.Column("key", sa.String(40), primary_key=True),
        sa.Column("value", sa.Text(), nullable=False),
    )
    op.create_table(
        "servers",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("boot", sa.String(36), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(40), nullable=False),
        sa.Column("schema", sa.String(20), nullable=False),
        sa.Column("urls", sa.JSON(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("beat_at", sa.Float(), nullable=False),
        sa.Column("clock_off_s", sa.Float(), nullable=False),
        sa.Column("worker", sa.BigInteger()),
        sa.Column("holds", sa.JSON(), nullable=False),
        sa.Column("ended_at", sa.Float()),
        sa.Column("ended_by", sa.Text()),
    )
    op.create_index("servers_ended_at", "servers", ["ended_at"])
    op.create_table(
        "drivers",
        sa.Column("node_id", sa.String(36), sa.ForeignKey("nodes.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("server_id", sa.String(36), nullable=False),
        sa.Column("since", sa.Float(), nullable=False),
    )
    op.create_index("ix_drivers_server_id", "drivers", ["server_id"])
    if op.get_bind().dialect.name != "postgresql":
        return
    op.execute("ALTER TABLE events ALTER COLUMN duration_ms TYPE BIGINT")  # a month in milliseconds needs it
    op.execute(FUNCTION)
    for table, (when, what, column) in TRIGGERS.items():
        op.execute(
            f"CREATE TRIGGER {table}_changed AFTER {when} ON {table} "
            f"FOR EACH ROW EXECUTE FUNCTION baremetal_changed('{what}', '{column}')"
        )


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table in TRIGGERS:
            op.execute(f"DROP TRIGGER {table}_changed ON {table}")
        op.execute("DROP FUNCTION baremetal_changed")
    for table in ("drivers", "servers", "site"):
        op.drop_table(table)
