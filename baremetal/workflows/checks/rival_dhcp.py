"""Another DHCP server on the wire wins some boots and loses them."""

from __future__ import annotations

from baremetal.workflows import probes
from baremetal.workflows.checks import Facts, Verdict, check, failed, passed, skipped


@check("rival-dhcp", "pre-enroll", "pre-deploy")
async def rival_dhcp(f: Facts) -> Verdict:
    """As the boot plane heard it, which asks every five minutes; `baremetal doctor` asks at once."""
    if not f.world.site.networks:
        return skipped("no network is served")
    if all(network.proxy for network in f.world.site.networks):
        return passed("another server is expected: every network has proxy = true")
    heard = f.world.store.read(lambda c: probes.rivals_heard(c, f.world.now()))
    if heard:
        return failed(heard[-1], "switch it off there, or serve beside it: proxy = true")
    return passed("nobody else answered lately")
