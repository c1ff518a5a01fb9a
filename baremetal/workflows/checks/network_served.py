"""Somebody answers its DHCP request."""

from __future__ import annotations

from baremetal.workflows.checks import Facts, Verdict, check, failed, passed


@check("network-served", "pre-enroll", "pre-deploy")
async def network_served(f: Facts) -> Verdict:
    """Somebody answers its DHCP request."""
    if not f.world.site.networks:
        return failed("no provisioning network is configured", "add a [[network]] to the configuration: baremetal init")
    return passed(", ".join(f"{n.name} {n.cidr} on {n.interface}" for n in f.world.site.networks))
