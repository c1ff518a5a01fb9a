"""Every table, for SQLite and PostgreSQL alike. Changes here need a migration beside them.

Times are Unix seconds (float). `sealed` columns hold AES-GCM text (seal.py).
"""

from __future__ import annotations

import sqlalchemy as sa

meta = sa.MetaData()

nodes = sa.Table(
    "nodes",
    meta,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("name", sa.String(255), nullable=False, unique=True),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("wanted", sa.String(20)),
    sa.Column("wanted_args", sa.JSON, nullable=False),
    sa.Column("wanted_by", sa.String(255)),
    sa.Column("wanted_since", sa.Float, nullable=False),
    sa.Column("step", sa.String(80)),
    sa.Column("wait_because", sa.Text),
    sa.Column("wait_until", sa.Float),
    sa.Column("wait_since", sa.Float),
    sa.Column("wake_at", sa.Float),
    sa.Column("fault", sa.JSON(none_as_null=True)),
    sa.Column("fence", sa.Integer, nullable=False),
    sa.Column("evidence", sa.Integer, nullable=False),
    sa.Column("held", sa.Text),
    sa.Column("work", sa.JSON, nullable=False),
    sa.Column("boot_id", sa.String(36)),
    sa.Column("bmc_url", sa.Text, nullable=False),
    sa.Column("power", sa.String(10), nullable=False),
    sa.Column("power_wanted", sa.String(10)),
    sa.Column("power_seen_at", sa.Float, nullable=False),
    sa.Column("firmware", sa.String(10), nullable=False),
    sa.Column("arch", sa.String(20), nullable=False),
    sa.Column("system_uuid", sa.String(36), index=True),
    sa.Column("serial", sa.String(255)),
    sa.Column("resource_class", sa.String(80), nullable=False),
    sa.Column("traits", sa.JSON, nullable=False),
    sa.Column("labels", sa.JSON, nullable=False),
    sa.Column("properties", sa.JSON, nullable=False),
    sa.Column("root_device", sa.JSON, nullable=False),
    sa.Column("image_id", sa.String(80)),
    sa.Column("config", sa.JSON, nullable=False),
    sa.Column("extra", sa.JSON, nullable=False, server_default="{}"),
    sa.Column("maintenance", sa.Text),
    sa.Column("protected", sa.Boolean, nullable=False),
    sa.Column("retired", sa.Boolean, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("updated_at", sa.Float, nullable=False),
    sa.Column("state_since", sa.Float, nullable=False),
    sa.Index("nodes_wake_at", "wake_at"),
    sa.Index("nodes_state", "state"),
)


def _node_column(**more: object) -> sa.Column[str]:
    return sa.Column("node_id", sa.String(36), sa.ForeignKey("nodes.id", ondelete="CASCADE"), **more)  # type: ignore[arg-type]


ports = sa.Table(
    "ports",
    meta,
    sa.Column("mac", sa.String(17), primary_key=True),
    _node_column(nullable=False, index=True),
    sa.Column("pxe_enabled", sa.Boolean, nullable=False),
    sa.Column("address", sa.String(45)),
    sa.Column("physical_network", sa.String(255)),
    sa.Column("name", sa.String(255)),
    sa.Column("extra", sa.JSON, nullable=False, server_default="{}"),
)

# One row a boot that carries a nonce: a network boot of the ramdisk, or the first boot of a deployed system.
boots = sa.Table(
    "boots",
    meta,
    sa.Column("id", sa.String(36), primary_key=True),
    _node_column(nullable=False, index=True),
    sa.Column("purpose", sa.String(20), nullable=False),
    sa.Column("stage", sa.String(20), nullable=False),
    sa.Column("nonce_key", sa.Text),  # sealed; NULL once used
    sa.Column("nonce_serial", sa.BigInteger),  # milliseconds; the greatest one handed out
    sa.Column("token_sha256", sa.String(64), index=True),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("powered_at", sa.Float),
    sa.Column("hello_at", sa.Float),
    sa.Column("last_beat", sa.Float),
    sa.Column("ended_at", sa.Float),
    sa.Column("facts", sa.JSON, nullable=False),
)

orders = sa.Table(
    "orders",
    meta,
    sa.Column("id", sa.String(36), primary_key=True),
    _node_column(nullable=False, index=True),
    sa.Column("boot_id", sa.String(36), nullable=False),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("args", sa.JSON, nullable=False),
    sa.Column("issued_at", sa.Float, nullable=False),
    sa.Column("outcome", sa.String(20)),
    sa.Column("data", sa.JSON, nullable=False),
    sa.Column("fault", sa.JSON(none_as_null=True)),
    sa.Column("progress", sa.JSON(none_as_null=True)),
    sa.Column("progress_at", sa.Float),
    sa.Column("finished_at", sa.Float),
)

events = sa.Table(
    "events",
    meta,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(80), nullable=False, unique=True),
    sa.Column("time", sa.Float, nullable=False),
    sa.Column("node_id", sa.String(36)),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("stage", sa.Text, nullable=False),
    sa.Column("source", sa.String(40), nullable=False),
    sa.Column("outcome", sa.String(20), nullable=False),
    sa.Column("boot_id", sa.String(36)),
    sa.Column("fence", sa.Integer),
    sa.Column("duration_ms", sa.BigInteger().with_variant(sa.Integer, "sqlite")),
    sa.Column("fault_code", sa.String(80)),
    sa.Column("data", sa.JSON, nullable=False),
    sa.Index("events_node_seq", "node_id", "seq"),
    sqlite_autoincrement=True,
)

secrets = sa.Table(
    "secrets",
    meta,
    sa.Column("owner", sa.String(80), primary_key=True),
    sa.Column("field", sa.String(80), primary_key=True),
    sa.Column("sealed", sa.Text, nullable=False),
    sa.Column("updated_at", sa.Float, nullable=False),
)

inventories = sa.Table(
    "inventories",
    meta,
    _node_column(primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("data", sa.JSON, nullable=False),
)

metadata_layers = sa.Table(
    "metadata_layers",
    meta,
    sa.Column("layer", sa.String(20), primary_key=True),
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("sealed", sa.Text, nullable=False),
    sa.Column("updated_at", sa.Float, nullable=False),
)

metadata_documents = sa.Table(
    "metadata_documents",
    meta,
    _node_column(primary_key=True),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("sealed", sa.Text, nullable=False),
    sa.Column("signature", sa.Text, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("made_at", sa.Float, nullable=False),
)

# A layer's values after each change of it; the newest are the layer's own.
metadata_changes = sa.Table(
    "metadata_changes",
    meta,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("layer", sa.String(20), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("sealed", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("by", sa.String(255), nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Index("metadata_changes_layer", "layer", "name", "id"),
    sqlite_autoincrement=True,
)

# The documents a node had before, a few of them.
metadata_past = sa.Table(
    "metadata_past",
    meta,
    _node_column(primary_key=True),
    sa.Column("generation", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("sealed", sa.Text, nullable=False),
    sa.Column("made_at", sa.Float, nullable=False),
)

# What values are allowed: of every node (layer site), of the nodes of a role.
metadata_schemas = sa.Table(
    "metadata_schemas",
    meta,
    sa.Column("layer", sa.String(20), primary_key=True),
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("schema", sa.JSON, nullable=False),
    sa.Column("updated_at", sa.Float, nullable=False),
)

# Changes on their way, group by group. `sealed`: the layer's values before, for those who do not have it yet.
metadata_rollouts = sa.Table(
    "metadata_rollouts",
    meta,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("layer", sa.String(20), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("sealed", sa.Text, nullable=False),
    sa.Column("canary", sa.Integer, nullable=False),
    sa.Column("batch", sa.Integer, nullable=False),
    sa.Column("patience_s", sa.Float, nullable=False),
    sa.Column("nodes", sa.JSON, nullable=False),
    sa.Column("given", sa.JSON, nullable=False),
    sa.Column("because", sa.Text, nullable=False),
    sa.Column("by", sa.String(255), nullable=False),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("updated_at", sa.Float, nullable=False),
    sqlite_autoincrement=True,
)

leases = sa.Table(
    "leases",
    meta,
    sa.Column("mac", sa.String(17), primary_key=True),
    sa.Column("address", sa.String(45), nullable=False),
    sa.Column("network", sa.String(255), nullable=False),
    sa.Column("expires", sa.Float, nullable=False),
    sa.Column("seen_at", sa.Float, nullable=False),
)

strangers = sa.Table(
    "strangers",
    meta,
    sa.Column("mac", sa.String(17), primary_key=True),
    sa.Column("uuid", sa.String(36)),
    sa.Column("arch", sa.String(20)),
    sa.Column("loader", sa.String(20)),
    sa.Column("network", sa.String(255)),
    sa.Column("first_seen", sa.Float, nullable=False),
    sa.Column("last_seen", sa.Float, nullable=False),
    sa.Column("seen", sa.Integer, nullable=False),
)

allocations = sa.Table(
    "allocations",
    meta,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("name", sa.String(255), unique=True),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("node_id", sa.String(36), sa.ForeignKey("nodes.id", ondelete="SET NULL"), unique=True),
    sa.Column("asked", sa.JSON, nullable=False),
    sa.Column("excluded", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("updated_at", sa.Float, nullable=False),
)

# Small documents that APIs keep, by kind: deploy templates, webhooks …
records = sa.Table(
    "records",
    meta,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("kind", sa.String(40), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("doc", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("updated_at", sa.Float, nullable=False),
    sa.UniqueConstraint("kind", "name", name="records_kind_name"),
)
