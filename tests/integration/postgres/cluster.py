"""A PostgreSQL cluster of our own: Debian's binaries, an unprivileged user, a unix socket and loopback."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

BIN = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/nonexistent"))
FAST = {"shared_buffers": "64MB", "max_connections": "300", "fsync": "on", "log_min_messages": "warning"}


def free_port() -> int:
    """A TCP port of loopback that nobody has now, below those that the kernel gives to connections.

    A server that is stopped and started again finds it free.
    """
    for port in random.sample(range(20_000, 32_000), 100):
        with contextlib.suppress(OSError), socket.socket() as sock:
            sock.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("a hundred ports of loopback are taken")


class Cluster:
    """start(), stop(), kill(); `url` for database `name`. `listen`: further addresses."""

    def __init__(
        self, directory: Path, listen: str = "127.0.0.1", port: int = 0, netns: str = "", **settings: str
    ) -> None:
        if not (BIN / "initdb").exists():
            raise RuntimeError("PostgreSQL is not installed: apt-get install postgresql")
        self.directory, self.listen, self.port = directory, listen, port or free_port()
        self.data, self.settings = directory / "data", {**FAST, **settings}
        self._netns = ["ip", "netns", "exec", netns] if netns else []
        self._process: subprocess.Popen[bytes] | None = None

    def create(self) -> Cluster:
        """initdb."""
        self._own(self.directory)
        self._run("initdb", "-D", str(self.data), "-U", "bm", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        with (self.data / "pg_hba.conf").open("a") as hba:
            hba.write("host all all 10.0.0.0/8 trust\nhost replication all 10.0.0.0/8 trust\n")
        return self

    def start(self, wait: bool = True) -> Cluster:
        """Run it in the foreground as our child."""
        options = {
            "listen_addresses": self.listen,
            "port": str(self.port),
            "unix_socket_directories": str(self.directory),
        }
        arguments = [f"-c{key}={value}" for key, value in (options | self.settings).items()]
        log = (self.directory / "log").open("ab")
        self._process = subprocess.Popen(
            self._netns + self._as_postgres([str(BIN / "postgres"), "-D", str(self.data), *arguments]),
            stdout=log,
            stderr=log,
        )
        log.close()
        if wait:
            self.wait()
        return self

    def wait(self, seconds: float = 120.0) -> None:
        """Until it takes connections."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            done = subprocess.run(
                [BIN / "pg_isready", "-q", "-h", str(self.directory), "-p", str(self.port)], check=False
            )
            if done.returncode == 0:
                return
            if self._process and self._process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError((self.directory / "log").read_text()[-2000:])

    def stop(self, how: int = signal.SIGINT) -> None:
        """Fast shutdown (SIGQUIT: as if it had crashed)."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(how)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def url(self, name: str = "postgres", host: str = "127.0.0.1") -> str:
        return f"postgresql://bm@{host}:{self.port}/{name}"

    def sql(self, text: str, name: str = "postgres") -> str:
        """Run it with psql; its bare output."""
        command = [
            BIN / "psql",
            "-h",
            self.directory,
            "-p",
            str(self.port),
            "-U",
            "bm",
            "-d",
            name,
            "-qAtX",
            "-c",
            text,
        ]
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout.strip()

    def standby(self, directory: Path, listen: str = "127.0.0.1") -> Cluster:
        """A streaming standby of this cluster, not started."""
        other = Cluster(directory, listen, netns=self._netns[-1] if self._netns else "", **self.settings)
        other._own(directory)
        self._run(
            "pg_basebackup",
            "-D",
            str(other.data),
            "-h",
            str(self.directory),
            "-p",
            str(self.port),
            "-U",
            "bm",
            "-R",
            "-X",
            "stream",
        )
        return other

    def promote(self) -> None:
        self._run("pg_ctl", "promote", "-D", str(self.data), "-W")

    def destroy(self) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _own(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            shutil.chown(directory, "postgres", "postgres")
            directory.chmod(0o755)

    def _as_postgres(self, command: list[str]) -> list[str]:
        """postgres refuses to be root."""
        if os.geteuid() != 0:
            return command
        return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *command]

    def _run(self, program: str, *arguments: str) -> None:
        command = self._as_postgres([str(BIN / program), *arguments])
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stderr or done.stdout}")
