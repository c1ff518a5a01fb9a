"""One rack for the lab ring: the demo builds it, every test of the ring uses it. Nothing may be left at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

DEMO_S = 1500  # images cold (package downloads) and a slow machine: the budget times four


@dataclass(frozen=True)
class Walked:
    """The kept rack of a demo that went through. `cli` runs our command line against its server."""

    lab_dir: Path
    document: dict[str, Any]

    def cli(self, *argv: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        return run(*argv, lab_dir=self.lab_dir, timeout_s=timeout_s)

    def ok(self, *argv: str, timeout_s: float = 300) -> str:
        """Run it; it must succeed."""
        done = self.cli(*argv, timeout_s=timeout_s)
        assert done.returncode == 0, f"{argv}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def lab(self, verb: str, *argv: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        return run("lab", verb, "--state-dir", str(self.lab_dir), *argv, lab_dir=self.lab_dir, timeout_s=timeout_s)

    def node(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ok("node", "show", name, "--json"))
        return found


def run(*argv: str, lab_dir: Path | None = None, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "NO_COLOR": "1"}
    if lab_dir is not None:
        env["BAREMETAL_CONFIG"] = str(lab_dir / "baremetal.toml")
    return subprocess.run(
        [sys.executable, "-m", "baremetal", *argv],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def leftovers(lab_dir: Path) -> list[str]:
    """Processes that mention the rack's directory, and mounts below it."""
    found = []
    for proc in Path("/proc").iterdir():
        if not proc.name.isdecimal() or int(proc.name) == os.getpid():
            continue
        try:
            words = (proc / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(lab_dir) in words and "pytest" not in words:
            found.append(f"process {proc.name}: {words[:200]}")
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if str(lab_dir) in line]
    return found


@pytest.fixture(scope="session")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walked]:
    """The demo, run as a user runs it, its rack kept."""
    lab_dir = tmp_path_factory.mktemp("rack")
    try:
        done = run("lab", "demo", "--json", "--keep", "--state-dir", str(lab_dir), timeout_s=DEMO_S)
        assert done.returncode == 0, f"the demo failed (exit {done.returncode})\n{done.stdout}\n{done.stderr[-6000:]}"
        yield Walked(lab_dir, json.loads(done.stdout.splitlines()[-1]))
    finally:
        run("lab", "down", "--state-dir", str(lab_dir), timeout_s=60)
    assert leftovers(lab_dir) == []


@pytest.fixture
def leftovers_of() -> Callable[[Path], list[str]]:
    """What a rack left behind: processes and mounts."""
    return leftovers
