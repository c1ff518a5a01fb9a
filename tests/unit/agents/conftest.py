"""Fixtures of the configuration agents; the parts are in conftest_agents.py, so that tests can name them."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from conftest_agents import Machine, Server


@pytest.fixture
def server(tmp_path):
    directory = tmp_path / "server"
    directory.mkdir()
    server = Server(directory)
    yield server
    server.stop()


@pytest.fixture
def machine(tmp_path):
    directory = tmp_path / "node"
    directory.mkdir()
    machine = Machine(directory)
    yield machine
    machine.stop(9)
