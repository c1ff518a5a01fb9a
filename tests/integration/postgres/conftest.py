"""One PostgreSQL cluster for the run; each test gets a database of its own."""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fleet_import import pg_cluster

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """Started once. pytest's own directories are closed to the postgres user, again and again."""
    with tempfile.TemporaryDirectory(prefix="baremetal-pg-", ignore_cleanup_errors=True) as directory:
        one = pg_cluster.Cluster(Path(directory)).create().start()
        yield one
        one.stop()


@pytest.fixture(scope="session")
def template(cluster: Any) -> str:
    """A migrated, empty database."""
    from baremetal.store import Store

    cluster.sql("CREATE DATABASE blank")
    Store.open(cluster.url("blank")).close()
    return "blank"


@pytest.fixture
def database(cluster: Any, template: str) -> Iterator[str]:
    """The URL of a fresh migrated database."""
    name = f"t{next(_numbers)}"
    cluster.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
    yield cluster.url(name)
    cluster.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def empty(cluster: Any) -> Iterator[str]:
    """The URL of a database with nothing in it."""
    name = f"e{next(_numbers)}"
    cluster.sql(f"CREATE DATABASE {name}")
    yield cluster.url(name)
    cluster.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


Make = Callable[..., Any]
