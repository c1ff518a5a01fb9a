"""`baremetal serve` in a network namespace of its own, with a veth as provisioning interface."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

ADDRESS = "192.168.91.1"
CONFIG = """
state_dir = "{root}/state"
run_dir = "{root}/run"
cache_dir = "{root}/cache"
power_sync_s = 0
{more}
[[network]]
name = "prov"
interface = "prov0"
cidr = "192.168.91.0/24"
server = "{address}"
"""


class Site:
    """One namespace, one configuration, at most one server."""

    def __init__(self, root: Path, more: str = "") -> None:
        self.root, self.netns = root, f"bm-serve-{os.getpid()}-{root.name[-6:]}"
        self.config = root / "baremetal.toml"
        self.config.write_text(CONFIG.format(root=root, more=more, address=ADDRESS))
        self.env = {**os.environ, "BAREMETAL_CONFIG": str(self.config)}
        self.server: subprocess.Popen | None = None
        self.log = root / "serve.log"
        self.run("ip", "netns", "add", self.netns, inside=False)
        for words in (
            "link set lo up",
            "link add prov0 type veth peer name node0",
            f"addr add {ADDRESS}/24 dev prov0",
            "link set prov0 up",
            "link set node0 up",
        ):
            self.run("ip", "-n", self.netns, *words.split(), inside=False)

    def command(self, *words: str) -> list[str]:
        return ["ip", "netns", "exec", self.netns, *words]

    def run(self, *words: str, inside: bool = True, check: bool = True, **kw) -> subprocess.CompletedProcess:
        argv = self.command(*words) if inside else list(words)
        done = subprocess.run(argv, env=getattr(self, "env", None), capture_output=True, text=True, timeout=180, **kw)
        assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done

    def cli(self, *words: str, check: bool = True, **kw) -> subprocess.CompletedProcess:
        return self.run(sys.executable, "-m", "baremetal", *words, check=check, **kw)

    def serve(self, *prefix: str) -> None:
        """Start the server and wait until both processes serve."""
        self.start(*prefix)
        self.until(self.up)

    def start(self, *prefix: str) -> None:
        argv = self.command(*prefix, sys.executable, "-m", "baremetal", "serve")
        self.server = subprocess.Popen(argv, env=self.env, stderr=self.log.open("w"), stdout=subprocess.DEVNULL)

    def up(self) -> bool:
        assert self.server.poll() is None, self.log.read_text()
        return bool(self.status().get("planes", {}).get("boot", {}).get("connected"))

    def status(self) -> dict:
        done = self.run(
            "curl", "-s", "--max-time", "20", "--unix-socket", f"{self.root}/run/api.sock", "http://x/api/status",
            check=False,
        )  # fmt: skip
        return json.loads(done.stdout) if done.returncode == 0 and done.stdout else {}

    def curl(self, *words: str) -> subprocess.CompletedProcess:
        return self.run("curl", "-s", "--max-time", "60", *words, check=False)

    def pid(self, module: str) -> int:
        """The newest process of this server that runs `module`."""
        found = [p for p in self.pids() if module in cmdline(p)]
        return max(found, default=0)

    def pids(self) -> list[int]:
        """All processes inside the namespace."""
        listed = self.run("ip", "netns", "pids", self.netns, inside=False).stdout.split()
        return [int(pid) for pid in listed]

    @staticmethod
    def until(condition, seconds: float = 120.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "did not become true in time"
            time.sleep(0.05)

    def stop(self) -> int:
        self.server.send_signal(signal.SIGTERM)
        code = self.server.wait(60)
        self.server = None
        return code

    def close(self) -> None:
        if self.server is not None and self.server.poll() is None:
            self.server.terminate()
            self.server.wait(60)
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)
        self.run("ip", "netns", "del", self.netns, inside=False)


def cmdline(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


@pytest.fixture
def make_site():
    """A factory; every site is torn down with its processes and its namespace."""
    sites, roots = [], []

    def make(more: str = "", *, init: bool = True) -> Site:
        # Not pytest's tmp_path: other users' processes must be able to walk into it.
        root = Path(tempfile.mkdtemp(prefix="bm-serve-"))
        root.chmod(0o755)
        roots.append(root)
        site = Site(root, more)
        sites.append(site)
        if init:
            site.cli("init")
        return site

    yield make
    for site in sites:
        site.close()
    for root in roots:
        shutil.rmtree(root)


@pytest.fixture
def site(make_site):
    return make_site()


@pytest.fixture(scope="module")
def shared_site():
    """One site for a whole file, with the TCP API on loopback."""
    root = Path(tempfile.mkdtemp(prefix="bm-serve-"))
    root.chmod(0o755)
    site = Site(root, 'api_listen = "127.0.0.1:6385"')
    try:
        site.cli("init")
        site.serve()
        yield site
    finally:
        site.close()
        shutil.rmtree(root)
