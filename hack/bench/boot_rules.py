"""CPU time of the DHCP rules and of TFTP blocks, without sockets: is it flat in nodes and leases?

hack/bench/boot-rules [--json]: for 10, 1,000, 10,000 and 100,000 known nodes and
as many leases, microseconds for DISCOVER + REQUEST of known and of new machines.
The kernel's part (sockets, journal) is not in it: hack/boot-fixture and a load
generator measure that.
"""

from __future__ import annotations

import functools
import gc
import json
import sys
import time

from baremetal.boot.decide import Urls, decide
from baremetal.model.boot import BootRecord, Purpose
from baremetal.model.network import Mode, Network
from baremetal.serve.loaders import read_loaders
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
        address((1 << 23) + 2 * nodes + 4 * SAMPLE),
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
    rows = []
    for nodes in (10, 1000, 10_000, 100_000):
        server = rig(nodes)
        gc.collect()
        gc.freeze()
        best = {
            "known": min(lease_cost(server, 1, nodes) for _ in range(3)),
            "new": min(lease_cost(server, kind, nodes) for kind in (2, 4, 5)),
        }
        rows.append({"nodes": nodes, "leases": nodes, **{f"{k}_us": round(v, 1) for k, v in best.items()}})
    blocks = {f"window_{w}_us": round(block_cost(w), 2) for w in (1, 4, 16)}
    if "--json" in sys.argv:
        print(json.dumps({"dhcp": rows, "tftp": blocks}))
        return
    print(f"{'nodes = leases':>15} {'known, µs/lease':>16} {'new, µs/lease':>15}")
    for row in rows:
        print(f"{row['nodes']:>15,} {row['known_us']:>16} {row['new_us']:>15}")
    print("TFTP, µs per ACK and the window after it:", blocks)


if __name__ == "__main__":
    main()
