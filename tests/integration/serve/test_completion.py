"""Completion in a real bash: nouns, names of nodes, states and images, asked of a running server."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    child = subprocess.Popen([ROOT / "hack/api-fixture", str(port)], stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    for _ in range(900):
        try:
            urllib.request.urlopen(url, timeout=5).close()
            break
        except OSError:
            time.sleep(0.1)
    for name in ("r1-u01", "r1-u02", "r2-u01"):
        body = json.dumps({"name": name, "bmc_url": f"fake://{name}", "manage": False}).encode()
        request = urllib.request.Request(f"{url}/api/nodes", body, {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=10).close()
    yield url
    child.terminate()
    child.wait()


def completed(server: str, words: str) -> list[str]:
    """What bash offers after these words."""
    script = f"""
        PATH={ROOT}/.venv/bin:$PATH
        eval "$(_BAREMETAL_COMPLETE=source_bash baremetal)"
        COMP_WORDS=({words} "") COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        $(complete -p baremetal | sed 's/.*-F \\([^ ]*\\).*/\\1/') baremetal
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    env = {**os.environ, "BAREMETAL_SERVER": server}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


CASES = [
    ("baremetal", {"node", "image", "metadata", "webhook"}),
    ("baremetal node show", {"r1-u01", "r1-u02", "r2-u01"}),
    ("baremetal node deploy r1-u01 --image", set()),
    ("baremetal node list --state", {"available", "manageable", "active"}),
    ("baremetal node validate r1-u01 --group", {"pre-enroll", "pre-deploy", "post-deploy", "pre-upgrade"}),
    ("baremetal webhook add chat https://x --kind", {"fault", "server"}),
    ("baremetal bmc audit --driver", {"rmcp", "pyghmi"}),
    ("baremetal lab up --disk", {"virtio", "ahci", "nvme", "scsi"}),
    ("baremetal serve --log-level", {"debug", "info", "warning", "error"}),
]


@pytest.mark.parametrize(("words", "offered"), CASES, ids=[c[0] for c in CASES])
def test_bash_offers(server: str, words: str, offered: set[str]) -> None:
    assert offered <= set(completed(server, words))


def test_the_groups_offered_are_those_there_are() -> None:
    from baremetal.cli.nodelook import GROUPS
    from baremetal.workflows import checks

    assert set(GROUPS) == set(checks.GROUPS)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_every_shell(shell: str) -> None:
    env = {**os.environ, "_BAREMETAL_COMPLETE": f"source_{shell}"}
    done = subprocess.run([ROOT / ".venv/bin/baremetal"], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0
    assert "baremetal" in done.stdout
