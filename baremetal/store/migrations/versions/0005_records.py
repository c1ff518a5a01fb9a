"""Ports keep what other tools' APIs put beside them; APIs keep small documents.

Revision ID: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("ports") as ports:
        ports.add_column(sa.Column("extra", sa.JSON(), nullable=False, server_default="{}"))
    op.create_table(
        "records",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("doc", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.UniqueConstraint("kind", "name", name="records_kind_name"),
    )


def downgrade() -> None:
    op.drop_table("records")
    with op.batch_alter_table("ports") as ports:
        ports.drop_column("extra")
