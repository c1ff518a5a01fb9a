"""Deploying: image to disk, config drive, disk boot, first boot. Ironic's step names and priorities."""

from __future__ import annotations

import contextlib
import secrets as stdlib_secrets
from typing import Any

from baremetal.bmc.base import BootDevice
from baremetal.errors import BaremetalError, NotFound
from baremetal.model.event import Kind
from baremetal.model.fault import Fault
from baremetal.model.node import Power
from baremetal.protocol import agent
from baremetal.store import boots, events
from baremetal.store.boots import Boot
from baremetal.store.orders import OrderRow
from baremetal.workflows import bootvia, causes, configdrive, faults, ids, raid
from baremetal.workflows.cleaning import own
from baremetal.workflows.diskless import is_diskless
from baremetal.workflows.imagehere import need
from baremetal.workflows.machine import ensure_power
from baremetal.workflows.outcome import Again, Done, Failed, Outcome
from baremetal.workflows.passes import Pass
from baremetal.workflows.ramdisk import agent_up, in_ramdisk
from baremetal.workflows.site import Image, image_key
from baremetal.workflows.steps import step

APPLIED = ("applied", "unchanged")


@step("deploy.deploy", 100, "boot the ramdisk, or keep the one that runs")
async def deploy(p: Pass) -> Outcome:
    """The image must still be there, then the agent must answer."""
    image_of(p)
    return await agent_up(p)


@step(
    "deploy.write_image",
    80,
    "stream the image to the root disk, verified chunk by chunk, and the config drive behind it",
)
async def write_image(p: Pass) -> Outcome:
    """One order; its arguments hold the config drive with a fresh single-use nonce."""
    order = p.order
    if order is not None and p.ramdisk and order.boot_id == p.ramdisk.id:
        answer = await in_ramdisk(p, agent.WRITE_IMAGE, order.args, p.policy.write_s)
    else:
        up = await agent_up(p)
        if not isinstance(up, Done):
            return up
        answer = await in_ramdisk(p, agent.WRITE_IMAGE, _order(p), p.policy.write_s)
    if not isinstance(answer, OrderRow):
        return answer
    p.change(image_id=p.work["image"])
    p.event(Kind.STEP, "written", source="agent", data=_written(answer.data))
    own(p, [{"serial": answer.data.get("serial"), "wwn": answer.data.get("wwn"), "name": answer.data.get("disk")}])
    return Done(_in_words(answer.data))


@step("deploy.prepare_instance_boot", 60, "from now on the machine boots its disk")
async def prepare_instance_boot(p: Pass) -> Outcome:
    """Persistent, and read back."""
    await bootvia.tidy(p)
    await p.boot_from(BootDevice.DISK, once=False)
    return Done("boot device: disk, persistent")


@step("deploy.tear_down_agent", 40, "end the ramdisk: its token is dead, the machine is off")
async def tear_down_agent(p: Pass) -> Outcome:
    """The disk was synced by the agent before it reported."""
    if p.ramdisk:
        p.end_boot(boots.RAMDISK)
    return await ensure_power(p, Power.OFF)


@step("deploy.boot_instance", 20, "power on into the deployed system")
async def boot_instance(p: Pass) -> Outcome:
    """Ensure on."""
    outcome = await ensure_power(p, Power.ON)
    if isinstance(outcome, Done):
        p.event(Kind.POWER, "on", data={"for": "instance"})
        if p.instance:
            p.change_boot(p.instance, stage="on", powered_at=p.now)
    return outcome


@step("deploy.first_boot", 10, "the deployed system's agent reports that it is configured")
async def first_boot(p: Pass) -> Outcome:
    """Images without our agent are active as soon as they are on."""
    image = image_of(p)
    if not has_agent(image):
        return Done("the image has no agent of ours: active without a configuration report")
    config = p.node.config
    fresh = config.get("at", 0) >= p.node.wanted_since and config.get("boot_id") == (p.instance and p.instance.id)
    if fresh and config.get("outcome") in APPLIED:
        return Done(f"configured, metadata generation {config.get('generation')}")
    if fresh and config.get("outcome") == "failed":
        return Failed(_config_failed(p, config))
    said = "said hello, its configuration runs" if p.instance and p.instance.hello_at else "must say hello"
    if p.here.get("restarting"):
        return await restart(p)
    waiting = p.wait("first boot", f"the deployed system {said}", p.policy.first_boot_s, look_s=30.0)
    return waiting or await _no_first_boot(p)


def _written(data: dict[str, Any]) -> dict[str, Any]:
    """What the agent says of the writing: how much, how fast, what was kept, the boot entry."""
    kept = ("disk", "serial", "bytes", "received", "resumed", "seconds", "peak_rss_kib", "preserved", "boot_entry")
    seconds = float(data.get("seconds") or 0)
    rate = {"bytes_per_s": round(int(data.get("bytes") or 0) / seconds)} if seconds else {}
    return {k: data[k] for k in kept if data.get(k) is not None} | rate


def _in_words(data: dict[str, Any]) -> str:
    """Where to, how much, how fast."""
    size, seconds = int(data.get("bytes") or 0), float(data.get("seconds") or 0)
    amount = f": {size >> 20} MiB in {seconds:.1f} s, {(size >> 20) / seconds:.0f} MiB/s" if size and seconds else ""
    return f"written to {data.get('disk', 'disk')}{amount}"


def image_of(p: Pass) -> Image:
    """The image asked for, fixed by id when the deploy began. ImageElsewhere while this server has to fetch it."""
    image = p.world.images.get(p.work.get("image") or p.node.image_id or "")
    need(p.world.images, image)
    return image


def has_agent(image: Image) -> bool:
    """Does the image report its configuration? (property agent=baremetal)"""
    return image.properties.get("agent") == "baremetal"


def _order(p: Pass) -> dict[str, Any]:
    """Arguments of write_image; the config drive is sealed while it rests in the store."""
    image = image_of(p)
    base = f"/images/{image_key(image.id)}"
    arrays = raid.wanted(p.node)
    drive = None
    if p.node.wanted_args.get("config_drive", True) is not False:
        drive = p.world.metadata.seal(configdrive.pack(p, _instance_boot(p), image), p.node.id, "config-drive")
    return {
        "image_id": image.id,
        "manifest_url": f"{p.site.https_url}{base}/manifest.json",
        "signature_url": f"{p.site.https_url}{base}/manifest.sig",
        "image_url": f"{p.site.http_url}{base}/image.zst",
        **_other_places(p, base),
        "root_device": p.node.wanted_args.get("root_device") or p.node.root_device or (raid.ROOT if arrays else {}),
        "config_drive": drive,
        **({"raid": True} if arrays else {}),
        **{k: p.node.wanted_args[k] for k in ("preserve", "data_partition") if p.node.wanted_args.get(k)},
    }


def _other_places(p: Pass, base: str) -> dict[str, list[str]]:
    """All servers' addresses of the three files, where there are several: what breaks off here goes on there."""
    if not p.site.peers:
        return {}
    return {
        "manifest_urls": p.site.everywhere(f"{base}/manifest.json", tls=True),
        "signature_urls": p.site.everywhere(f"{base}/manifest.sig", tls=True),
        "image_urls": p.site.everywhere(f"{base}/image.zst", tls=False),
    }


def _instance_boot(p: Pass) -> tuple[str, str]:
    """(boot id, nonce key) of the first boot of this deployment."""
    key = stdlib_secrets.token_hex(32)
    boot_id = ids.boot_id()
    sealed = p.world.operator.seal(key, boot_id, "nonce-key")
    p.begin_boot(Boot(boot_id, p.node.id, boots.INSTANCE, nonce_key=sealed, created_at=p.now))
    return boot_id, key


def _config_failed(p: Pass, config: dict[str, Any]) -> Fault:
    told = config.get("fault")
    if told:
        return faults.from_agent(told, p.now, "configuration")
    script = next((s for s in config.get("scripts") or [] if s.get("exit")), None)
    if script:
        return Fault(
            "config-script-failed",
            f"{p.node.name}: script {script.get('name')} ({script.get('phase')}) ended with {script.get('exit')}",
            detail=str(script.get("tail", ""))[-1500:],
            fix=f"correct the element or the metadata, then: baremetal node rebuild {p.node.name}",
            since=p.now,
        )
    return faults.from_agent(None, p.now, "the configuration run")


async def _no_first_boot(p: Pass) -> Outcome:
    """The ladder: is it on at all? restart it once; then fail with what was seen."""
    tries = int(p.here.get("first_boot_tries", 1))
    boot = p.instance
    seen = p.world.store.read(lambda c: events.of_node(c, p.node.id, since=boot.created_at if boot else 0.0))
    said = boot is not None and boot.hello_at is not None
    fault = Fault(
        "first-boot-no-report" if said else "first-boot-no-hello",
        f"{p.node.name}: no configuration report within {p.policy.first_boot_s:.0f} s"
        if said
        else f"{p.node.name}: the deployed system did not say hello within {p.policy.first_boot_s:.0f} s",
        detail=causes.first_boot_detail(boot, seen),
        fix="look at the console (baremetal node console): did the system boot from disk? does it have its network?",
        since=p.now,
        evidence={"tries": tries, "power": str(p.node.power)},
    )
    if tries >= p.policy.first_boot_tries or said:
        return Failed(fault)
    p.note(first_boot_tries=tries + 1, restarting="off")
    return Again(0.0, "no hello from the deployed system: restarting it once", fault)


async def restart(p: Pass) -> Outcome:
    """Ensure off, then ensure on; which half we are in is written down between."""
    half = Power.OFF if p.here.get("restarting") == "off" else Power.ON
    outcome = await ensure_power(p, half)
    if not isinstance(outcome, Done):
        return outcome
    p.note(restarting="on" if half is Power.OFF else None)
    return Again(0.0, f"power is {half}")


def image_first(p: Pass) -> None:
    """ImageElsewhere when another server has the image and this one has to fetch it before the deploy may begin."""
    with contextlib.suppress(NotFound):
        need(p.world.images, p.world.images.get(str(p.node.wanted_args.get("image") or p.node.image_id or "")))


def check_image(p: Pass) -> None:
    """Fix the image by id; raises when it does not exist."""
    image = p.world.images.get(str(p.node.wanted_args.get("image") or p.node.image_id or ""))
    if image.kind != "disk" and not is_diskless(image):
        raise BaremetalError(f"image {image.name} is a {image.kind}, not a disk image", fix="baremetal image list")
    p.jot(image=image.id)
