"""The first schema.

Revision ID: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "events",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=80), nullable=False),
        sa.Column("time", sa.Float(), nullable=False),
        sa.Column("node_id", sa.String(length=36), nullable=True),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("source", sa.String(length=40), nullable=False),
        sa.Column("outcome", sa.String(length=20), nullable=False),
        sa.Column("boot_id", sa.String(length=36), nullable=True),
        sa.Column("fence", sa.Integer(), nullable=True),
        sa.Column("duration_ms", sa.Integer(), nullable=True),
        sa.Column("fault_code", sa.String(length=80), nullable=True),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("events_node_seq", "events", ["node_id", "seq"], unique=False)
    op.create_table(
        "leases",
        sa.Column("mac", sa.String(length=17), nullable=False),
        sa.Column("address", sa.String(length=45), nullable=False),
        sa.Column("network", sa.String(length=255), nullable=False),
        sa.Column("expires", sa.Float(), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("mac"),
    )
    op.create_table(
        "metadata_layers",
        sa.Column("layer", sa.String(length=20), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("layer", "name"),
    )
    op.create_table(
        "nodes",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("wanted", sa.String(length=20), nullable=True),
        sa.Column("wanted_args", sa.JSON(), nullable=False),
        sa.Column("wanted_by", sa.String(length=255), nullable=True),
        sa.Column("wanted_since", sa.Float(), nullable=False),
        sa.Column("step", sa.String(length=80), nullable=True),
        sa.Column("wait_because", sa.Text(), nullable=True),
        sa.Column("wait_until", sa.Float(), nullable=True),
        sa.Column("wait_since", sa.Float(), nullable=True),
        sa.Column("wake_at", sa.Float(), nullable=True),
        sa.Column("fault", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("evidence", sa.Integer(), nullable=False),
        sa.Column("held", sa.Text(), nullable=True),
        sa.Column("work", sa.JSON(), nullable=False),
        sa.Column("boot_id", sa.String(length=36), nullable=True),
        sa.Column("bmc_url", sa.Text(), nullable=False),
        sa.Column("power", sa.String(length=10), nullable=False),
        sa.Column("power_wanted", sa.String(length=10), nullable=True),
        sa.Column("power_seen_at", sa.Float(), nullable=False),
        sa.Column("firmware", sa.String(length=10), nullable=False),
        sa.Column("arch", sa.String(length=20), nullable=False),
        sa.Column("system_uuid", sa.String(length=36), nullable=True),
        sa.Column("serial", sa.String(length=255), nullable=True),
        sa.Column("resource_class", sa.String(length=80), nullable=False),
        sa.Column("traits", sa.JSON(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("properties", sa.JSON(), nullable=False),
        sa.Column("root_device", sa.JSON(), nullable=False),
        sa.Column("image_id", sa.String(length=80), nullable=True),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("maintenance", sa.Text(), nullable=True),
        sa.Column("protected", sa.Boolean(), nullable=False),
        sa.Column("retired", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.Column("state_since", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_index(op.f("ix_nodes_system_uuid"), "nodes", ["system_uuid"], unique=False)
    op.create_index("nodes_state", "nodes", ["state"], unique=False)
    op.create_index("nodes_wake_at", "nodes", ["wake_at"], unique=False)
    op.create_table(
        "secrets",
        sa.Column("owner", sa.String(length=80), nullable=False),
        sa.Column("field", sa.String(length=80), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "field"),
    )
    op.create_table(
        "strangers",
        sa.Column("mac", sa.String(length=17), nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=True),
        sa.Column("arch", sa.String(length=20), nullable=True),
        sa.Column("loader", sa.String(length=20), nullable=True),
        sa.Column("network", sa.String(length=255), nullable=True),
        sa.Column("first_seen", sa.Float(), nullable=False),
        sa.Column("last_seen", sa.Float(), nullable=False),
        sa.Column("seen", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("mac"),
    )
    op.create_table(
        "allocations",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("node_id", sa.String(length=36), nullable=True),
        sa.Column("asked", sa.JSON(), nullable=False),
        sa.Column("excluded", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
        sa.UniqueConstraint("node_id"),
    )
    op.create_table(
        "boots",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("node_id", sa.String(length=36), nullable=False),
        sa.Column("purpose", sa.String(length=20), nullable=False),
        sa.Column("stage", sa.String(length=20), nullable=False),
        sa.Column("nonce_key", sa.Text(), nullable=True),
        sa.Column("nonce_serial", sa.BigInteger(), nullable=True),
        sa.Column("token_sha256", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("powered_at", sa.Float(), nullable=True),
        sa.Column("hello_at", sa.Float(), nullable=True),
        sa.Column("last_beat", sa.Float(), nullable=True),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_boots_node_id"), "boots", ["node_id"], unique=False)
    op.create_index(op.f("ix_boots_token_sha256"), "boots", ["token_sha256"], unique=False)
    op.create_table(
        "inventories",
        sa.Column("node_id", sa.String(length=36), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("node_id"),
    )
    op.create_table(
        "metadata_documents",
        sa.Column("node_id", sa.String(length=36), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("made_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("node_id"),
    )
    op.create_table(
        "orders",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("node_id", sa.String(length=36), nullable=False),
        sa.Column("boot_id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("args", sa.JSON(), nullable=False),
        sa.Column("issued_at", sa.Float(), nullable=False),
        sa.Column("outcome", sa.String(length=20), nullable=True),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("fault", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("progress", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("progress_at", sa.Float(), nullable=True),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_orders_node_id"), "orders", ["node_id"], unique=False)
    op.create_table(
        "ports",
        sa.Column("mac", sa.String(length=17), nullable=False),
        sa.Column("node_id", sa.String(length=36), nullable=False),
        sa.Column("pxe_enabled", sa.Boolean(), nullable=False),
        sa.Column("address", sa.String(length=45), nullable=True),
        sa.Column("physical_network", sa.String(length=255), nullable=True),
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("mac"),
    )
    op.create_index(op.f("ix_ports_node_id"), "ports", ["node_id"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_ports_node_id"), table_name="ports")
    op.drop_table("ports")
    op.drop_index(op.f("ix_orders_node_id"), table_name="orders")
    op.drop_table("orders")
    op.drop_table("metadata_documents")
    op.drop_table("inventories")
    op.drop_index(op.f("ix_boots_token_sha256"), table_name="boots")
    op.drop_index(op.f("ix_boots_node_id"), table_name="boots")
    op.drop_table("boots")
    op.drop_table("allocations")
    op.drop_table("strangers")
    op.drop_table("secrets")
    op.drop_index("nodes_wake_at", table_name="nodes")
    op.drop_index("nodes_state", table_name="nodes")
    op.drop_index(op.f("ix_nodes_system_uuid"), table_name="nodes")
    op.drop_table("nodes")
    op.drop_table("metadata_layers")
    op.drop_table("leases")
    op.drop_index("events_node_seq", table_name="events")
    op.drop_table("events")
