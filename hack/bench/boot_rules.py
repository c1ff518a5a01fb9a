"""CPU time of the DHCP rules and of TFTP blocks, without sockets: is it flat in nodes and leases?

hack/bench/boot-rules [--json] [--svg FILE]: for 10, 1,000, 10,000 and 100,000 known
nodes and as many leases, microseconds for DISCOVER + REQUEST of known and of new
machines, and of one boot script; the best of several rounds, the others being
the neighbours'. --svg draws them.
The kernel's part (sockets, journal) is not in it: hack/boot-fixture and a load
generator measure that.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import math
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from baremetal.boot.decide import Urls, decide
from baremetal.bootplane.firmware import Firmware
from baremetal.bootplane.state import State
from baremetal.model.boot import BootRecord, Purpose
from baremetal.model.network import Mode, Network
from baremetal.protocol.plane import Snapshot
from baremetal.serve.loaders import read_loaders, read_templates
from baremetal.wire.dhcp4 import packet as p
from baremetal.wire.dhcp4.server import Server
from baremetal.wire.tftp import packet as t
from baremetal.wire.tftp.blocks import Blocks, PageCache
from baremetal.wire.tftp.transfer import Terms, Transfer

PXE = {
    53: b"\1", 55: bytes((1, 3, 6, 12, 15, 43, 51, 54, 58, 59, 60, 66, 67, 97)), 57: b"\5\xb8", 97: bytes(16) + b"\1",
    93: b"\0\7", 94: b"\1\3\x10", 60: b"PXEClient:Arch:00007:UNDI:003016",
}  # fmt: skip
SAMPLE = 2000


def address(n: int) -> str:
    return f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}"


def mac(n: int, kind: int) -> str:
    return f"02:{kind:02x}:" + n.to_bytes(4, "big").hex(":")


def rig(nodes: int) -> Server:
    net = Network(
        "n",
        "eth0",
        "10.0.0.0/8",
        "10.255.255.1",
        address(1 << 23),
        address((1 << 23) + 2 * nodes + 8 * SAMPLE),
        mode=Mode.ANYBODY,
    )
    server = Server(
        [net], functools.partial(decide, urls=Urls(http="http://10.255.255.1:8080", loaders=read_loaders()))
    )
    record = functools.partial(BootRecord, uuid=None, purpose=Purpose.RAMDISK, because="inspecting")
    server.update(
        record(node_id=str(n), name=f"n{n}", macs=(mac(n, 1),), address=address(n + 256)) for n in range(nodes)
    )
    for n in range(nodes):
        lease = server.scopes[0].leases.offer(bytes.fromhex(mac(n, 3).replace(":", "")), 0.0)
        assert lease is not None
        server.scopes[0].leases.bind(lease.key, lease.ip, 1e6)
    return server


def lease_cost(server: Server, kind: int, among: int) -> float:
    """Microseconds of CPU for one machine's DISCOVER and REQUEST."""
    macs = [mac(n % among if kind == 1 else n, kind) for n in range(SAMPLE)]
    asked = [p.build(p.Packet(1, 1, n, m, broadcast=True, options=PXE)) for n, m in enumerate(macs)]
    spent = -time.process_time()
    offers = [server.receive(data, 1.0) for data in asked]
    spent += time.process_time()
    taken = []
    for n, (m, offer) in enumerate(zip(macs, offers, strict=True)):
        assert offer is not None
        options = {**PXE, 53: b"\3", 50: offer[0][16:20], 54: p.packed("10.255.255.1")}
        taken.append(p.build(p.Packet(1, 1, n, m, broadcast=True, options=options)))
    spent -= time.process_time()
    for data in taken:
        server.receive(data, 2.0)
    spent += time.process_time()
    server.events.clear()
    server.bound.clear()
    return spent / SAMPLE * 1e6


def script_cost(nodes: int) -> float:
    """Microseconds of CPU for the look-up and the text of one node's boot script, nonce and message included."""
    state, told = State(), []
    boot = {"uuid": None, "purpose": "ramdisk", "because": "inspecting", "kernel": "k", "initrd": "i", "boot_id": "b"}
    views = [
        {
            "node": str(n),
            "name": f"n{n}",
            "nonce_key": "00" * 32,
            "boot": {**boot, "node_id": str(n), "name": f"n{n}", "macs": [mac(n, 1)]},
        }
        for n in range(nodes)
    ]
    state.load(1, Snapshot(nodes=views))
    link: Any = SimpleNamespace(synced=True, note=lambda *args: told.append(args))
    firmware = Firmware(state, link, read_templates(), {}, 8443)
    wire: Any = SimpleNamespace(get_extra_info=lambda name: ("10.255.255.1", 8080))
    paths = [f"/boot/{mac(n % nodes, 1).replace(':', '-')}.ipxe" for n in range(0, SAMPLE * 7, 7)]
    spent = -time.process_time()
    for path in paths:
        firmware.quick(path, wire)
    spent += time.process_time()
    assert len(told) == SAMPLE
    return spent / SAMPLE * 1e6


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Lines over a logarithmic axis of nodes."""
    width, height, left, top = 560, 260, 50, 20
    series = {"known_us": "a known node's lease", "new_us": "a new machine's lease", "script_us": "a boot script"}
    most = max(row[key] for row in rows for key in series) * 1.2

    def at(nodes: int, value: float) -> tuple[float, float]:
        return left + (math.log10(nodes) - 1) / 4 * (width - left - 150), top + (1 - value / most) * (height - 60)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        'font-size="11">'
    ]
    parts.append(f'<rect width="{width}" height="{height}" fill="white"/><text x="4" y="14">µs of CPU</text>')
    for value in range(0, int(most) + 1, 10):
        y = at(10, value)[1]
        parts.append(
            f'<path d="M{left} {y:.0f}H{width - 150}" stroke="#ddd"/><text x="24" y="{y + 4:.0f}">{value}</text>'
        )
    for row in rows:
        parts.append(f'<text x="{at(row["nodes"], 0)[0] - 12:.0f}" y="{height - 24}">{row["nodes"]:,}</text>')
    parts.append(f'<text x="{left + 60}" y="{height - 6}">known nodes, and as many leases</text>')
    for (key, name), colour in zip(series.items(), ("#1f5faa", "#c0392b", "#2e8b57"), strict=True):
        points = " ".join(f"{x:.0f},{y:.0f}" for x, y in (at(row["nodes"], row[key]) for row in rows))
        x, y = at(rows[-1]["nodes"], rows[-1][key])
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{x + 8:.0f}" y="{y + 4:.0f}" fill="{colour}">{name}</text>')
    path.write_text("\n".join([*parts, "</svg>", ""]))


def block_cost(window: int) -> float:
    """Microseconds of CPU for one ACK and the window that answers it."""
    content = bytes(8 << 20)
    blocks = Blocks("f", len(content), 1468, lambda o, n: content[o : o + n], PageCache())
    spent, acks = 0.0, 0
    for _ in range(3):
        run = Transfer(blocks, Terms(1468, window, 0.0, {}), 0.0)
        run.first()
        spent -= time.process_time()
        while run.outcome is None:
            run.receive(t.ack(run.sent), 1.0)
            acks += 1
        spent += time.process_time()
    return spent / acks * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the curves")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for nodes in (10, 1000, 10_000, 100_000):
        server = rig(nodes)
        gc.collect()
        gc.freeze()
        best = {
            "known": min(lease_cost(server, 1, nodes) for _ in range(5)),
            "new": min(lease_cost(server, kind, nodes) for kind in (2, 4, 5, 6, 7)),
        }
        del server
        gc.collect()
        best["script"] = min(script_cost(nodes) for _ in range(3))
        rows.append({"nodes": nodes, "leases": nodes, **{f"{k}_us": round(v, 1) for k, v in best.items()}})
    if options.svg:
        draw(rows, options.svg)
    blocks = {f"window_{w}_us": round(block_cost(w), 2) for w in (1, 4, 16)}
    if options.json:
        print(json.dumps({"dhcp": rows, "tftp": blocks}))
        return
    print(f"{'nodes = leases':>15} {'known, µs/lease':>16} {'new, µs/lease':>15} {'µs/script':>10}")
    for row in rows:
        print(f"{row['nodes']:>15,} {row['known_us']:>16} {row['new_us']:>15} {row['script_us']:>10}")
    print("TFTP, µs per ACK and the window after it:", blocks)


if __name__ == "__main__":
    main()
