"""Which schema a database has, and bringing it up to ours (alembic, imported only when needed)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from baremetal.errors import MachineError

# The revision this program works with; migrations/versions/ ends there.
HEAD = "0005"
# The advisory lock of who migrates.
MIGRATING = 7_270_001
MIGRATIONS = Path(__file__).parent / "migrations"


def current(engine: Engine) -> str | None:
    """The revision of the database, None when it is empty."""
    with engine.connect() as conn:
        if not sa.inspect(conn).has_table("alembic_version"):
            return None
        row = conn.execute(sa.text("SELECT version_num FROM alembic_version")).first()
        return str(row[0]) if row else None


def floor(engine: Engine) -> str:
    """The oldest revision whose programs can still work with this database ("9999" when it does not say)."""
    with engine.connect() as conn:
        if not sa.inspect(conn).has_table("site"):
            return "9999"
        row = conn.execute(sa.text("SELECT value FROM site WHERE key = 'schema-floor'")).first()
        return str(row[0]) if row else "9999"


def upgrade(engine: Engine, url: str, to: str = HEAD) -> None:
    """Bring the database to `to`; refuse one that is newer than this program."""
    have = current(engine)
    if have == to:
        return
    if have is not None and have > to and floor(engine) <= to:
        return  # a newer program only added to it: both work on it while servers are upgraded one by one
    from alembic import command
    from alembic.script import ScriptDirectory

    config = alembic_config(url)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if have is not None and have not in known:
        raise MachineError(
            f"the database has schema {have}, which this program does not know (it knows up to {HEAD})",
            fix="run the newer baremetal that wrote it, or restore a backup made by this version",
        )
    with engine.connect() as conn:
        if conn.dialect.name == "postgresql":  # one server migrates, the others wait and find it done
            conn.exec_driver_sql("SET LOCAL statement_timeout = 0")
            conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATING})")
        config.attributes["connection"] = conn
        command.upgrade(config, to)
        if conn.in_transaction():
            conn.commit()


def alembic_config(url: str) -> Any:
    """Alembic's configuration, made here: there is no alembic.ini."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return config
