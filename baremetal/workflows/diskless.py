"""Ramdisk deploy: a machine that runs a kernel and a ramdisk from the network, at every boot. No disk is touched.

The image is of kind ramdisk with the property `use = "diskless"`.
"""

from __future__ import annotations

from baremetal.bmc.base import BootDevice
from baremetal.model.event import Kind
from baremetal.model.fault import Fault
from baremetal.model.node import Power
from baremetal.store import events
from baremetal.workflows import bootvia
from baremetal.workflows.machine import ensure_power
from baremetal.workflows.outcome import Done, Failed, Outcome
from baremetal.workflows.passes import Pass
from baremetal.workflows.release import off
from baremetal.workflows.site import Image
from baremetal.workflows.steps import step

USE = "diskless"
FETCH_S = 300.0
LOOK_S = 2.0


def is_diskless(image: Image) -> bool:
    """Does this image run from the network?"""
    return image.kind == "ramdisk" and image.properties.get("use") == USE


async def own_device(p: Pass) -> Outcome:
    """From now on the machine boots what is deployed on it: its disk, or the network."""
    device = BootDevice.PXE if p.node.image_id in p.site.netboot else BootDevice.DISK
    await bootvia.tidy(p)
    await p.boot_from(device, once=False)
    return Done(f"boot device: {'network' if device is BootDevice.PXE else 'disk'}, persistent")


@step("diskless.power_off", 100, "stop what runs")
async def power_off(p: Pass) -> Outcome:
    """From here on the boot plane answers with the image."""
    outcome = await off(p)
    if isinstance(outcome, Done):
        p.change(image_id=p.work["image"])
    return outcome


@step("diskless.boot_device", 60, "from now on the machine boots the network")
async def boot_device(p: Pass) -> Outcome:
    """Persistent, and read back."""
    return await own_device(p)


@step("diskless.power_on", 40, "power on into the image")
async def power_on(p: Pass) -> Outcome:
    """Ensure on; the time is noted, so that an older fetch does not count."""
    outcome = await ensure_power(p, Power.ON)
    if isinstance(outcome, Done):
        p.jot(on_at=p.now)
        p.event(Kind.POWER, "on", data={"for": "diskless"})
    return outcome


@step("diskless.fetched", 20, "the machine fetched kernel and ramdisk")
async def fetched(p: Pass) -> Outcome:
    """What can be seen from outside of a system that has no agent of ours."""
    since = float(p.work.get("on_at") or p.node.state_since)
    seen = p.world.store.read(lambda c: events.of_node(c, p.node.id, since=since, kinds=[str(Kind.KERNEL)]))
    names = {e.stage for e in seen}
    record = p.site.netboot.get(p.node.image_id or "")
    if record and {record.kernel, record.initrd} <= names:
        return Done("it runs from memory")
    waiting = p.wait("diskless", "the machine must fetch kernel and ramdisk", FETCH_S, look_s=LOOK_S)
    return waiting or Failed(
        Fault(
            "diskless-no-fetch",
            f"{p.node.name}: kernel and ramdisk were not fetched within {FETCH_S:.0f} s",
            detail=f"fetched since power-on: {', '.join(sorted(names)) or 'nothing'}",
            fix=f"baremetal boot explain {p.node.name}; look at its console",
            since=p.now,
        )
    )
