"""Where a boot stopped, and what that usually means: a table, most advanced sight first.

Pure: takes what was seen, returns the likely cause. Used for faults and by
explain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from baremetal.model.event import Event, Kind
from baremetal.store.boots import Boot
from baremetal.workflows.telltales import NODE


@dataclass(frozen=True)
class Cause:
    """`stage` is the last thing seen; `brief` what did not follow; `fix` what to look at, in order."""

    code: str
    stage: str
    brief: str
    detail: str
    fix: str
    hopeless: bool = False  # the next boot will end as this one did


SAID = "said"  # stage of a console event: a line that tells why the boot ended (telltales.py)
UNSEEN = "power"  # the stage of a boot of which nothing was seen
# A machine can ask the network before the pass that started it has stored that it did.
SLACK_S = 10.0

# (code, last stage seen, what did not follow, why that happens, what to do)
TABLE: tuple[tuple[str, Kind | None, str, str, str], ...] = (
    (
        "boot-no-hello",
        Kind.KERNEL,
        "kernel and ramdisk were fetched, but the ramdisk did not say hello",
        "the kernel did not start, has no driver for the NIC, or cannot reach the HTTPS port",
        "look at the console (baremetal node console): kernel panic? NIC found? memory enough? "
        "Is port 8443 open towards the node?",
    ),
    (
        "boot-no-kernel",
        Kind.SCRIPT,
        "the boot script was fetched, but kernel and ramdisk were not",
        "iPXE could not fetch over HTTP: wrong NIC, MTU, a firewall, or the script was refused",
        "look at the console for an iPXE error code; check port 8080 towards the node and the MTU of the path",
    ),
    (
        "boot-no-script",
        Kind.LOADER,
        "the boot loader was fetched, but iPXE did not ask for its script",
        "iPXE started without network (a NIC it has no driver for), or secure boot refused to start it",
        "look at the console for iPXE's banner: no interfaces? try the snponly loader; "
        "secure boot on? use the signed loader",
    ),
    (
        "boot-no-loader",
        Kind.DHCP,
        "DHCP was answered, but no boot loader was fetched",
        "TFTP is blocked (firewall, relay without TFTP helper), or another DHCP server's answer won",
        "run baremetal doctor: it fetches the loader over TFTP and looks for a rival DHCP server; "
        "check UDP 69 and the data ports",
    ),
    (
        "boot-no-dhcp",
        None,
        "no DHCP request was seen from its MAC addresses",
        "it did not boot from the network, the cable or VLAN is wrong, or the MAC is not the one of the booting NIC",
        "check cable and VLAN of the PXE NIC, that network boot is enabled in the firmware, "
        "and the MAC: baremetal node show",
    ),
)


def last_stage(seen: Sequence[Event]) -> Kind | None:
    """The most advanced stage among the events of one boot."""
    kinds = {event.kind for event in seen}
    return next((stage for _, stage, *_ in TABLE if stage in kinds), None)


def boot_stopped(boot: Boot, seen: Sequence[Event], macs: Sequence[str]) -> Cause:
    """Where this boot stopped. `seen`: the node's events since the boot was minted."""
    ours = [e for e in seen if e.time >= boot.created_at]
    refused = [e for e in ours if e.kind is Kind.SECURITY]
    if refused:
        why = str(refused[-1].data.get("why", "")) or refused[-1].stage
        return Cause(
            "boot-hello-refused",
            "hello",
            f"it said hello and was refused: {why}",
            f"{len(refused)} refusals, the last from {refused[-1].data.get('source', 'an unknown address')}",
            str(refused[-1].data.get("fix") or "a replayed or outdated boot script: power it off, then ask again"),
        )
    stage = last_stage(ours)
    code, _, brief, why, fix = next(row for row in TABLE if row[1] is stage)
    said = [e for e in ours if e.kind is Kind.CONSOLE and e.stage == SAID]
    if said:
        brief = f"{brief}: {said[0].data.get('because', '')}"
        why = " ".join(dict.fromkeys(f"On its console: {e.data.get('because', '')}." for e in said[:3])).rstrip(".")
        fix = str(said[0].data.get("fix") or fix)
    detail = f"{why}. Known MACs: {', '.join(macs) or 'none'}. " + _sights(ours)
    hopeless = any(e.data.get("over") == NODE for e in said)
    return Cause(code, str(stage) if stage else UNSEEN, brief, detail.strip(), fix, hopeless)


def _sights(seen: Sequence[Event]) -> str:
    kinds = (Kind.DHCP, Kind.LOADER, Kind.SCRIPT, Kind.KERNEL)
    told = [f"{e.kind} {e.stage}" for e in seen if e.kind in kinds]
    return f"Seen: {', '.join(told[-6:])}." if told else "Nothing was seen from it since power on."


def first_boot_detail(boot: Boot | None, seen: Sequence[Event]) -> str:
    """What was seen of a deployed system's first boot."""
    if boot is None or boot.powered_at is None:
        return "It was never powered on for its first boot."
    if boot.hello_at:
        return "It said hello, then nothing more was reported: a configuration script may hang."
    later = [e for e in seen if e.time >= boot.powered_at - SLACK_S]
    if any(
        e.kind in (Kind.LOADER, Kind.SCRIPT, Kind.DHCP) and e.data.get("loader") not in (None, "none") for e in later
    ):
        return "It asked the network for a boot loader: it does not boot from its disk."
    if any(e.kind is Kind.DHCP for e in later):
        return "It asked for an address, so a system runs; its agent does not reach us."
    return "Nothing was seen from it on the provisioning network since power on."
