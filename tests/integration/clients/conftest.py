"""Unmodified python-ironicclient, openstacksdk and metalsmith against a running server on simulated machines.

They live in a virtual environment of their own (python-ironicclient installs a
`baremetal` command too): BAREMETAL_PEERS_VENV names one that has them, else one
is made with pip in .cache/ (a minute, once).
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
CLIENTS = ("python-ironicclient", "openstacksdk", "metalsmith")
# The client's own entry point, called again and again in one process: starting it anew takes a second of imports each.
SHELL = """
import contextlib, io, json, sys
from ironicclient.shell import main
for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(json.loads(line))
        except SystemExit as exc:
            code = exc.code
    print(json.dumps([code, out.getvalue(), err.getvalue()]), file=sys.__stdout__, flush=True)
"""


def environment(name: str, packages: tuple[str, ...]) -> Path:
    """A virtual environment with these packages, made once in .cache/."""
    made = ROOT / ".cache" / f"{name}-{sys.version_info[0]}.{sys.version_info[1]}"
    if not (made / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", made], check=True)
        subprocess.run([made / "bin/pip", "install", "-q", "--disable-pip-version-check", *packages], check=True)
        (made / "complete").touch()
    return made


@pytest.fixture(scope="session")
def venv() -> Path:
    given = os.environ.get("BAREMETAL_PEERS_VENV")
    return Path(given) if given else environment("ironic-clients", CLIENTS)


@pytest.fixture(scope="session")
def schemathesis() -> Path:
    given = os.environ.get("BAREMETAL_SCHEMATHESIS_VENV")
    return Path(given) if given else environment("schemathesis", ("schemathesis",))


@pytest.fixture(scope="session")
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
            assert child.poll() is None, "hack/api-fixture ended"
            time.sleep(0.1)
    yield url
    child.terminate()
    child.wait()


class Ironic:
    """The client's command line: `ironic("node", "list")` gives what it prints, parsed when it is JSON."""

    def __init__(self, venv: Path, server: str) -> None:
        self._common = ["--os-auth-type", "none", "--os-endpoint", server]
        self._child = subprocess.Popen(
            [venv / "bin/python", "-W", "ignore", "-c", SHELL],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={k: v for k, v in os.environ.items() if not k.startswith("OS_")},
        )

    def run(self, *words: str) -> tuple[int, str, str]:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps([*self._common, *words]) + "\n")
        self._child.stdin.flush()
        code, out, err = json.loads(self._child.stdout.readline())
        return int(code or 0), out, err

    def __call__(self, *words: str) -> Any:
        code, out, err = self.run(*words)
        assert code == 0, f"baremetal {' '.join(words)}: {err or out}"
        return json.loads(out) if out.startswith(("{", "[")) else out

    def fails(self, *words: str) -> str:
        code, out, err = self.run(*words)
        assert code != 0, f"baremetal {' '.join(words)} succeeded: {out}"
        return err

    def close(self) -> None:
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait()


@pytest.fixture(scope="session")
def ironic(venv: Path, server: str) -> Iterator[Ironic]:
    shell = Ironic(venv, server)
    yield shell
    shell.close()
