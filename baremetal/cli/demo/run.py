"""Runs the demo: images, rack and server, the acts, the page, the change, the sum.

The rack lives in namespaces of its own (lab/site.py); here is only the outer
side, which talks to it as any operator does: through the command line and the
API's unix socket.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from baremetal.cli.client import Client
from baremetal.cli.demo import images, result, script
from baremetal.cli.demo.view import View, view
from baremetal.errors import BaremetalError, MachineError, Refused, TimedOut
from baremetal.lab import child, control, launch, namespace
from baremetal.lab.inside import spec_to_json
from baremetal.lab.site import CONFIG, READY, config_text
from baremetal.lab.spec import RackSpec, machines

PAGE_TRIES_S = 120.0
READY_S = 180.0
LEAST_FREE = 1 << 30  # bytes


@dataclass(frozen=True)
class Options:
    """What the person asked for."""

    lab_dir: Path
    cache_dir: Path
    nodes: int = 2
    image: str = "demo"
    ramdisk: str = "deploy-ramdisk"
    as_json: bool = False
    keep: bool = False
    firmwares: tuple[str, ...] = ("bios", "uefi")


class ActFailed(BaremetalError):
    """One of the demo's commands failed; its own words are in the detail."""

    code = "demo-failed"


@dataclass
class Demo:
    """One run."""

    options: Options
    started: float = field(default_factory=time.monotonic)
    children: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def config(self) -> Path:
        return self.options.lab_dir / CONFIG

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """The rack as the API shows it; nothing while the server is away."""
        try:
            return list(self.client().get("/api/nodes")["nodes"])
        except BaremetalError:
            return ()

    def client(self) -> Client:
        return Client(socket_path=self.options.lab_dir / "run" / "api.sock")

    def run(self) -> int:
        """The whole demo; returns the exit code."""
        namespace.check()
        _room(self.options.lab_dir, self.options.cache_dir)
        images.known(self)
        spec = RackSpec(nodes=machines(self.options.nodes, self.options.firmwares))
        with namespace.alone(self.options.lab_dir, "demo.lock", "a demo already runs"):
            try:
                return self._story(spec)
            except KeyboardInterrupt:
                print("stopped; nothing is left running, images that were built are kept", file=sys.stderr)
                raise

    def _story(self, spec: RackSpec) -> int:
        self._clean_slate()
        with view(self.rows) as show:
            images.prepare(self, show)
            with self._rack(spec, show):
                results = self._acts([node.name for node in spec.nodes], show)
                show.begin("metadata changes, pages change")
                took = self._change(results)
                show.end(f"every page changed within {took:.2f} s of the command")
        self._sum_up(results, took)
        return 0

    def _clean_slate(self) -> None:
        """A lab that still runs (from --keep) is ended; its disks and database start anew, its images stay."""
        lab_dir = self.options.lab_dir
        if (lab_dir / "nodes").exists() and not self.config.exists():
            raise Refused(
                f"{lab_dir} holds the disks of a rack made with `baremetal lab up`",
                detail="the demo begins with blank disks",
                fix=f"choose another place: --state-dir; or give them up: rm -r {lab_dir}/nodes",
            )
        launch.down(lab_dir)
        (lab_dir / READY).unlink(missing_ok=True)  # of a lab that was killed
        site = lab_dir / "site"
        for stale in ("baremetal.db", "baremetal.db-wal", "baremetal.db-shm"):
            (site / stale).unlink(missing_ok=True)
        for stale_dir in (lab_dir / "nodes", site / "boot", site / "console"):
            images.remove_tree(stale_dir)

    @contextlib.contextmanager
    def _rack(self, spec: RackSpec, show: View) -> Iterator[None]:
        """Rack and server up; down at the end unless they are kept and all went well."""
        show.begin("rack and server: private network, virtual BMCs, baremetal serve")
        self.config.write_text(config_text(spec, self.options.lab_dir, self.options.cache_dir))
        spec_path = self.options.lab_dir / "spec.json"  # holds the BMCs' passwords: not for a command line
        spec_path.touch(mode=0o600)
        spec_path.write_text(spec_to_json(spec))
        log_path = self.options.lab_dir / "lab.log"
        with log_path.open("wb") as log:
            process = namespace.start(
                namespace.python("baremetal.lab.site", str(self.options.lab_dir), str(spec_path)),
                detached=self.options.keep,
                output=log,
            )
        kept = False
        try:
            self._wait_ready(process, log_path)
            show.end()
            yield
            kept = self.options.keep
        finally:
            if not kept:
                _end(process, self.options.lab_dir)

    def _wait_ready(self, process: subprocess.Popen[bytes], log_path: Path) -> None:
        ready = self.options.lab_dir / READY
        if not _until(lambda: ready.exists() or process.poll() is not None, READY_S) or process.poll() is not None:
            raise child.failure(log_path, "the rack did not start")

    def _acts(self, names: list[str], show: View) -> list[dict[str, Any]]:
        instackenv = str(self.options.lab_dir / "instackenv.json")
        for act in script.acts(names, instackenv, self.options.image, self._ssh_key()):
            self._act(act, show)
        show.begin("the nodes' pages, fetched from outside the nodes")
        pages = {name: self._page(name, script.FIRST_GREETING) for name in names}
        show.end()
        return [self._result(name, pages[name]) for name in names]

    def _ssh_key(self) -> str:
        """The public half of the key that `lab ssh` logs in with; made once."""
        key = self.options.lab_dir / "ssh" / "id_ed25519"
        if not key.exists():
            key.parent.mkdir(mode=0o700, exist_ok=True)
            make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(key)]
            subprocess.run(make, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        return key.with_suffix(".pub").read_text().strip()

    def _act(self, act: script.Act, show: View) -> None:
        """Run one command of ours, as its own process; the board goes on meanwhile."""
        show.begin(
            act.says, "baremetal " + shlex.join(word if len(word) < 60 else word[:40] + "…" for word in act.argv)
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "baremetal", *act.argv],
            env={**os.environ, "BAREMETAL_CONFIG": str(self.config), "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            out, err = process.communicate()
        except BaseException:
            process.kill()
            process.wait()
            raise
        if process.returncode:
            text = (out + err).decode(errors="replace").strip()
            raise ActFailed(
                f"baremetal {' '.join(act.argv[:2])} failed (exit {process.returncode})",
                detail="\n".join(text.splitlines()[-30:]) + self._explain(),
                fix=f"look closer with: {sys.argv[0]} lab demo --keep; logs are in {self.options.lab_dir}",
            )
        show.end()

    def _explain(self) -> str:
        """What `node explain` says of every node with a fault."""
        lines = []
        for node in self.rows():
            fault = node.get("fault")
            if fault:
                lines.append(f"{node['name']} ({node.get('ironic_state')}): {fault['brief']}")
                lines += [f"    {text}" for text in (fault.get("detail"), fault.get("fix")) if text]
        return "\n" + "\n".join(lines) if lines else ""

    def _page(self, name: str, wanted: str) -> str:
        """The node's web page, fetched inside the rack's network; waits until it shows `wanted`."""
        address = self._address(name)
        fetch = namespace.python("baremetal.lab.fetch", f"http://{address}/", wanted, str(PAGE_TRIES_S))
        done = subprocess.run(namespace.enter(self.options.lab_dir, fetch), capture_output=True, text=True, check=False)
        if done.returncode:
            raise TimedOut(
                f"{name}: its page at {address} does not show {wanted!r}",
                detail=(done.stdout + done.stderr).strip()[-1000:],
                fix=f"baremetal lab console {name}; baremetal node explain {name}",
            )
        return done.stdout.strip()

    def _address(self, name: str) -> str:
        """The node's address: the one fixed for a port of its, else that of its lease."""
        ports = self.client().get(f"/api/nodes/{name}").get("ports", [])
        leases = {lease["mac"]: lease["address"] for lease in self.client().get("/api/leases")["leases"]}
        for port in ports:
            address = port.get("address") or leases.get(port["mac"])
            if address:
                return str(address)
        raise MachineError(f"{name} has no address", detail="the server gave it none", fix="baremetal network leases")

    def _change(self, results: list[dict[str, Any]]) -> float:
        """Change the greeting; seconds until every page shows it."""
        start = time.monotonic()
        body = {"values": {script.GREETING_KEY: script.CHANGED_GREETING}, "mode": "merge"}
        self.client().put("/api/metadata/site", body)
        for row in results:
            row["page"] = self._page(row["name"], script.CHANGED_GREETING)
        return time.monotonic() - start

    def _result(self, name: str, page: str) -> dict[str, Any]:
        client = self.client()
        return result.node_result(
            client.get(f"/api/nodes/{name}"), client.get(f"/api/nodes/{name}/timeline", all="1"), page
        )

    def _sum_up(self, results: list[dict[str, Any]], change_s: float) -> None:
        total = time.monotonic() - self.started
        document = {"nodes": results, "change_s": round(change_s, 3), "total_s": round(total, 2)}
        if self.options.as_json:
            print(json.dumps(document), flush=True)
            return
        print("\n".join(result.stage_lines(results)))
        for row in results:
            print(f"\n{row['name']} says:\n  " + row["page"].replace("\n", "\n  "))
        print(f"\n{len(results)} nodes configured in {total:.0f} s; a change reached every page in {change_s:.2f} s")
        if self.options.keep:
            from baremetal.cli.lab import DEFAULT_STATE

            place = self.options.lab_dir
            at = "" if place == DEFAULT_STATE else f" --state-dir {shlex.quote(str(place))}"
            print(f"the rack stays up: baremetal lab status{at}, baremetal lab ssh{at} NODE, baremetal lab down{at}")


def _room(*places: Path) -> None:
    """Raise MachineError before minutes are spent where nothing could end well."""
    for place in places:
        there = next(parent for parent in (place, *place.absolute().parents) if parent.exists())
        free = shutil.disk_usage(there).free
        if free < LEAST_FREE:
            raise MachineError(
                f"{place}: {free >> 20} MiB free, the demo needs {LEAST_FREE >> 20} MiB at the very least",
                detail="images are built, stored and written to the machines' disks",
                fix="make room: baremetal image cache prune --limit 5GiB; or use other places: "
                "BAREMETAL_CACHE_DIR=DIR, --state-dir DIR",
            )


def run(options: Options) -> int:
    """Run it; Ctrl-C in any stage ends everything that was started."""
    signal.signal(signal.SIGTERM, _interrupt)
    return Demo(options).run()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _until(true: Any, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _end(process: subprocess.Popen[bytes], lab_dir: Path) -> None:
    """Ask the lab to go down; insist when it does not."""
    with contextlib.suppress(BaremetalError):
        control.ask(lab_dir, {"do": "down"})
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
