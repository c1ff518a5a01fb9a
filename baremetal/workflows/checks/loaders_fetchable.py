"""The first file of every boot, fetched as firmware fetches it."""

from __future__ import annotations

import asyncio

from baremetal.workflows import probes
from baremetal.workflows.bootvia import EFI
from baremetal.workflows.checks import Facts, Verdict, check, failed, passed, skipped

LEAST_BYTES = 10_000  # the smallest iPXE


@check("loaders-fetchable", "pre-enroll", "pre-deploy")
async def loaders_fetchable(f: Facts) -> Verdict:
    """By TFTP from this server, under the name this node's firmware is given."""
    if not f.world.site.networks:
        return skipped("no network is served")
    name = EFI.get(f.node.arch, EFI["x86_64"]) if str(f.node.firmware) == "uefi" else "undionly.kpxe"
    server, port = f.world.site.networks[0].server, f.world.site.tftp_port
    data, seconds = await asyncio.to_thread(probes.fetch_by_tftp, server, port, name)
    if data is None or len(data) < LEAST_BYTES:
        fix = "is the boot plane up? baremetal status; a firewall on UDP 69? baremetal doctor"
        return failed(f"{name} does not come from {server}:{port} by TFTP", fix)
    return passed(f"{name}, {len(data)} bytes in {seconds * 1000:.0f} ms from {server}")
