"""One rack for the lab ring: the demo builds it, every test of the ring uses it. Nothing may be left at the end."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from baremetal.agents import gpt
from baremetal.config import Settings
from baremetal.images.store import ImageStore
from baremetal.lab import namespace
from baremetal.lab.inside import spec_to_json
from baremetal.lab.site import CONFIG, config_text
from baremetal.lab.spec import RackSpec
from baremetal.serve.init import initialise

MIB = 1 << 20
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

    def lab(self, verb: str, *argv: str, timeout_s: float = 180) -> subprocess.CompletedProcess[str]:
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


def leftovers(lab_dir: Path, within_s: float = 90) -> list[str]:
    """Processes that mention the rack's directory, and mounts below it, once they had a moment to end."""
    deadline = time.monotonic() + within_s
    while (found := _left(lab_dir)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return found


def _left(lab_dir: Path) -> list[str]:
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


@pytest.fixture(scope="module")
def make_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Walked]]:
    """Makes racks with a server of their own: make(spec, fill, **settings); `fill(store)` adds images."""
    made: list[Path] = []

    def make(spec: RackSpec, fill: Callable[[ImageStore], None], **settings: Any) -> Walked:
        lab_dir = tmp_path_factory.mktemp("site")
        made.append(lab_dir)
        head = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
        (lab_dir / CONFIG).write_text(head + config_text(spec, lab_dir, lab_dir / "cache"))
        loaded = Settings.load(lab_dir / CONFIG)
        initialise(loaded)
        fill(ImageStore(loaded.images_dir, signing_key=loaded.keys_dir / "image-signing.pem"))
        (lab_dir / "spec.json").write_text(spec_to_json(spec))
        with (lab_dir / "lab.log").open("wb") as log:
            argv = namespace.python("baremetal.lab.site", str(lab_dir), str(lab_dir / "spec.json"))
            process = namespace.start(argv, detached=True, output=log)
        deadline = time.monotonic() + 300
        while not (lab_dir / "ready").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        assert (lab_dir / "ready").exists(), (lab_dir / "lab.log").read_text()[-3000:]
        return Walked(lab_dir, {})

    yield make
    for lab_dir in made:
        run("lab", "down", "--state-dir", str(lab_dir), timeout_s=300)
        assert leftovers(lab_dir) == []


@pytest.fixture(scope="session")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walked]:
    """The demo, run as a user runs it, its rack kept."""
    lab_dir = tmp_path_factory.mktemp("rack")
    try:
        done = run("lab", "demo", "--json", "--keep", "--state-dir", str(lab_dir), timeout_s=DEMO_S)
        assert done.returncode == 0, f"the demo failed (exit {done.returncode})\n{done.stdout}\n{done.stderr[-6000:]}"
        yield Walked(lab_dir, json.loads(done.stdout.splitlines()[-1]))
    finally:
        run("lab", "down", "--state-dir", str(lab_dir), timeout_s=300)
    assert leftovers(lab_dir) == []


@pytest.fixture(scope="session")
def golden() -> bytes:
    """A small disk without an agent, 64 MiB: GPT, one partition, 8 MiB that do not compress."""
    size = 64 * MIB
    disk = io.BytesIO(bytes(size))
    root = gpt.Partition(1, uuid.UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709"), uuid.uuid4(), 2048, 100_000, "root")
    gpt.write(disk, replace(gpt.empty(size), partitions=(root,)), size)
    gpt.write_protective_mbr(disk, size)
    disk.seek(2 * MIB)
    disk.write(random.Random(9).randbytes(8 * MIB))
    return disk.getvalue()


@pytest.fixture
def leftovers_of() -> Callable[[Path], list[str]]:
    """What a rack left behind: processes and mounts."""
    return leftovers
