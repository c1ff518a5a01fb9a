"""How a node's next boot comes from the network: PXE, UEFI HTTP boot, or a virtual CD that holds iPXE.

Chosen per node by the property `boot_via`. HTTP boot and CD need a Redfish BMC
(`redfish+https://` or `auto://`) and spare the firmware DHCP options and TFTP; all three
end in the same iPXE script with the same one-time nonce.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from baremetal.bmc.base import BootDevice, BootPlan
from baremetal.bmc.faults import BmcError, BmcLied, BmcUnsupported
from baremetal.errors import UsageError
from baremetal.model.event import Kind
from baremetal.workflows.passes import Pass

PROPERTY = "boot_via"
# Loaders of pxe/loaders.toml, served below /loaders/.
EFI = {"x86_64": "snponly.efi", "aarch64": "snponly-arm64.efi"}
CD = "ipxe.iso"


class Via(StrEnum):
    """The ways there are."""

    PXE = "pxe"
    HTTP = "http"
    MEDIA = "media"


def via_of(properties: dict[str, Any]) -> Via:
    """The way chosen for a node; UsageError for one that is none."""
    text = str(properties.get(PROPERTY) or Via.PXE)
    try:
        return Via(text)
    except ValueError:
        raise UsageError(f"{PROPERTY}={text[:40]!r} is no way to boot", fix=", ".join(Via)) from None


async def next_boot(p: Pass) -> str:
    """Arrange that the next boot is the network's; what was arranged, in words."""
    match via_of(p.node.properties):
        case Via.HTTP:
            url = f"{p.site.http_url}/loaders/{EFI.get(p.node.arch, EFI['x86_64'])}"
            plan = await _optional(p, "set_http_boot", url, once=True)
            _check(p, plan, BootDevice.HTTP)
            return f"next boot: HTTP, once, {url}"
        case Via.MEDIA:
            url = f"{p.site.http_url}/loaders/{CD}"
            await _optional(p, "insert_media", url)
            await p.boot_from(BootDevice.CDROM, once=True)
            return f"next boot: virtual CD, once, {url}"
        case _:
            await p.boot_from(BootDevice.PXE, once=True)
            return "next boot: network, once"


async def tidy(p: Pass) -> None:
    """Take the virtual CD out again; that it stays in stops nothing."""
    if p.node.properties.get(PROPERTY) != Via.MEDIA:
        return
    try:
        await _optional(p, "eject_media")
    except BmcError as exc:
        p.event(Kind.BMC, "eject", source="bmc", outcome="failed", fault_code=exc.code, data={"brief": exc.brief})


async def _optional(p: Pass, op: str, *args: Any, **kwargs: Any) -> Any:
    """An optional capability of this BMC, with ownership checked first."""
    p.store_first()
    p.touch()
    call = getattr(p.driver(), "optional", None)
    if call is None:
        raise BmcUnsupported(f"{p.node.name}: its BMC cannot {op.replace('_', ' ')}", fix=f"set {PROPERTY}=pxe")
    return await p._ask(op.replace("_", "-"), lambda _: call(op, *args, **kwargs))


def _check(p: Pass, plan: BootPlan, device: BootDevice) -> None:
    if plan.device is not device:
        raise BmcLied(
            f"{p.node.name}: the BMC took boot device {device} and shows {plan.device}",
            detail=repr(plan),
            fix=f"its firmware may lack HTTP boot: baremetal node set {p.node.name} -p {PROPERTY}=pxe",
            cause="boot",
        )
