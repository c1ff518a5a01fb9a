"""Without a MAC its network boot is not recognised."""

from __future__ import annotations

from baremetal.workflows.checks import Facts, Verdict, check, failed, passed


@check("ports-known", "pre-enroll", "pre-deploy")
async def ports_known(f: Facts) -> Verdict:
    """Without a MAC its network boot is not recognised."""
    bootable = [port.mac for port in f.ports if port.pxe_enabled]
    if bootable:
        return passed(", ".join(bootable))
    if f.node.system_uuid:
        return passed("no MAC, but its UUID is known: recognised by that where firmware sends it")
    return failed("no MAC address known", f"baremetal node set {f.node.name} --mac 52:54:00:…")
