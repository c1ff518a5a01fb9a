"""The Redfish driver: the ten resources provisioning needs, read as tolerantly as real firmware demands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from baremetal.bmc import guid
from baremetal.bmc.base import BootDevice, BootPlan, Cap, ConsoleStream, Identity, LogRecord, PowerOp, Reading, User
from baremetal.bmc.faults import BmcError, BmcRefused, BmcUnsupported
from baremetal.bmc.quirks import Quirks
from baremetal.bmc.redfishhttp import Doc, RedfishHttp, link, need
from baremetal.bmc.url import BmcUrl
from baremetal.model.node import Power

# ResetType values in order of preference (DSP0268, Resource.ResetType).
RESET = {
    PowerOp.ON: ("On", "ForceOn"),
    PowerOp.OFF: ("ForceOff",),
    PowerOp.SOFT: ("GracefulShutdown",),
    PowerOp.RESET: ("ForceRestart", "PowerCycle"),
    PowerOp.CYCLE: ("PowerCycle", "ForceRestart"),
    PowerOp.DIAG: ("Nmi",),
}
TARGET = {
    BootDevice.NONE: "None",
    BootDevice.PXE: "Pxe",
    BootDevice.DISK: "Hdd",
    BootDevice.CDROM: "Cd",
    BootDevice.BIOS: "BiosSetup",
    BootDevice.FLOPPY: "Floppy",
    BootDevice.DIAG: "Diags",
    BootDevice.HTTP: "UefiHttp",
}
DEVICE = {target: device for device, target in TARGET.items()}
# On its way is not there yet.
POWER = {"On": Power.ON, "Off": Power.OFF, "PoweringOn": Power.OFF, "PoweringOff": Power.ON}


class RedfishDriver:
    """One system of one Redfish service."""

    caps = frozenset(
        {
            Cap.POWER,
            Cap.BOOT,
            Cap.SENSORS,
            Cap.LOG,
            Cap.LOCATE,
            Cap.RESET,
            Cap.USERS,
            Cap.VIRTUAL_MEDIA,
            Cap.HTTP_BOOT,
            Cap.BIOS,
            Cap.FIRMWARE,
            Cap.SECURE_BOOT,
            Cap.NICS,
        }
    )

    def __init__(self, url: BmcUrl, password: str, quirks: Quirks | None = None) -> None:
        self.host = url.netloc
        self.http = RedfishHttp(url, password)
        self.quirks = quirks or Quirks()
        self._wanted = url.path if url.path not in ("", "/redfish/v1") else url.options.get("system", "")
        self._path: str | None = None

    async def system(self) -> Doc:
        """The ComputerSystem this address means: the named one, or the only one."""
        if self._path is None:
            self._path = self._wanted if self._wanted.startswith("/") else await self._find_system()
        doc = await self.http.get(self._path)
        self.quirks = self.quirks.for_redfish(doc.get("Manufacturer"), doc.get("Model"), doc.get("BiosVersion"))
        return doc

    async def _find_system(self) -> str:
        root = await self.http.root()
        collection = need(self.host, link(root, "Systems"), "Systems")
        found = await self.http.get(collection)
        paths = [
            member["@odata.id"]
            for member in found.get("Members") or []
            if isinstance(member, dict) and "@odata.id" in member
        ]
        if self._wanted:
            paths = [path for path in paths if path.rstrip("/").rpartition("/")[2] == self._wanted]
        if len(paths) == 1:
            return str(paths[0])
        raise BmcRefused(
            f"{self.host}: {len(paths) or 'none'} of its systems fit, one is needed",
            detail=", ".join(map(str, paths))[:500],
            fix="name one in the address: redfish+https://user@host/redfish/v1/Systems/1",
            cause="system",
        )

    async def identify(self) -> Identity:
        """System, its manager and their network ports."""
        doc = await self.system()
        manager = await self._manager(doc)
        macs = await self._macs(link(doc, "EthernetInterfaces"))
        bmc_macs = await self._macs(link(manager, "EthernetInterfaces"))
        extra = {"bios": str(doc.get("BiosVersion") or ""), "sku": str(doc.get("SKU") or "")}
        if self.http.pin.sha256:
            extra["tls_sha256"] = self.http.pin.sha256
        return Identity(
            vendor=guid.present(doc.get("Manufacturer")),
            product=guid.present(doc.get("Model")),
            serial=guid.present(doc.get("SerialNumber")),
            uuid=guid.normal_uuid(doc.get("UUID")),
            firmware=manager.get("FirmwareVersion"),
            bmc_mac=bmc_macs[0] if bmc_macs else None,
            macs=macs,
            extra={key: value for key, value in extra.items() if value},
        )

    async def _manager(self, system: Doc) -> Doc:
        managed_by = (system.get("Links") or {}).get("ManagedBy") or []
        path = managed_by[0].get("@odata.id") if managed_by and isinstance(managed_by[0], dict) else None
        if path is None:
            collection = link(await self.http.root(), "Managers")
            async for manager in self.http.members(need(self.host, collection, "Managers")):
                return manager
        return await self.http.get(str(path)) if path else {}

    async def _macs(self, path: str | None) -> tuple[str, ...]:
        if path is None:
            return ()
        found = []
        try:
            async for nic in self.http.members(path):
                mac = str(nic.get("PermanentMACAddress") or nic.get("MACAddress") or "").lower().replace("-", ":")
                if len(mac) == 17 and mac not in found and set(mac) != set("0:"):
                    found.append(mac)
        except BmcUnsupported:
            pass
        return tuple(found)

    async def power(self) -> Power:
        return POWER.get(str((await self.system()).get("PowerState")), Power.UNKNOWN)

    async def set_power(self, op: PowerOp) -> None:
        """ComputerSystem.Reset with a value this BMC allows; nothing is sent when it is so already."""
        doc = await self.system()
        state = POWER.get(str(doc.get("PowerState")), Power.UNKNOWN)
        if (op is PowerOp.ON and state is Power.ON) or (op in (PowerOp.OFF, PowerOp.SOFT) and state is Power.OFF):
            return
        action = (doc.get("Actions") or {}).get("#ComputerSystem.Reset") or {}
        allowed = action.get("ResetType@Redfish.AllowableValues")
        values = [value for value in RESET[op] if not allowed or value in allowed]
        if not values:
            raise BmcUnsupported(f"{self.host}: BMC offers no way to power {op}", detail=f"it allows {allowed}")
        target = action.get("target") or f"{self._path}/Actions/ComputerSystem.Reset"
        await self.http.post(str(target), {"ResetType": values[0]})

    async def get_boot(self) -> BootPlan:
        return plan_of((await self.system()).get("Boot") or {})

    async def set_boot(
        self, device: BootDevice, *, once: bool = True, uefi: bool | None = None, url: str | None = None
    ) -> BootPlan:
        """Sets the override as this vendor wants it, and reads it back. `url`: the image of an HTTP boot."""
        doc = await self.system()
        boot = doc.get("Boot") or {}
        change = boot_change(boot, device, once, uefi, self.quirks)
        if url is not None:
            change["HttpBootUri"] = url
        if change:
            assert self._path is not None
            await self.http.patch(self._path, {"Boot": change}, current=doc)
        return await self.get_boot()

    async def sensors(self) -> Sequence[Reading]:
        from baremetal.bmc import redfishsensors

        return await redfishsensors.read(self.http, await self.system())

    async def events(self, since: str | None = None) -> Sequence[LogRecord]:
        from baremetal.bmc import redfishlog

        return await redfishlog.read(self.http, await self._log_holders(), since)

    async def clear_events(self) -> None:
        from baremetal.bmc import redfishlog

        await redfishlog.clear(self.http, await self._log_holders())

    async def _log_holders(self) -> list[Doc]:
        system = await self.system()
        return [system, await self._manager(system)]

    async def locate(self, on: bool, seconds: int | None = 15) -> None:
        """The identify light; Redfish has no timer for it."""
        doc = await self.system()
        assert self._path is not None
        if "LocationIndicatorActive" in doc:
            await self.http.patch(self._path, {"LocationIndicatorActive": on}, current=doc)
        else:
            await self.http.patch(self._path, {"IndicatorLED": "Blinking" if on else "Off"}, current=doc)

    async def _accounts(self) -> list[Doc]:
        service = await self.http.get(need(self.host, link(await self.http.root(), "AccountService"), "accounts"))
        return [doc async for doc in self.http.members(need(self.host, link(service, "Accounts"), "accounts"))]

    async def users(self) -> Sequence[User]:
        return [
            User(
                str(doc.get("Id", "")),
                str(doc["UserName"]),
                str(doc.get("RoleId", "")).lower(),
                bool(doc.get("Enabled", True)),
            )
            for doc in await self._accounts()
            if doc.get("UserName")
        ]

    async def set_password(self, user: str, password: bytes) -> None:
        for doc in await self._accounts():
            if doc.get("UserName") == user:
                await self.http.patch(
                    str(doc["@odata.id"]), {"Password": password.decode("utf-8", "surrogateescape")}, current=doc
                )
                return
        raise BmcRefused(f"{self.host}: no user of that name", fix="see: baremetal bmc users")

    async def reset_bmc(self) -> None:
        manager = await self._manager(await self.system())
        action = (manager.get("Actions") or {}).get("#Manager.Reset") or {}
        allowed = action.get("ResetType@Redfish.AllowableValues") or ["GracefulRestart"]
        value = next((kind for kind in ("GracefulRestart", "ForceRestart") if kind in allowed), str(allowed[0]))
        await self.http.post(
            need(self.host, action.get("target"), "reset of the BMC"), {"ResetType": value}, wait=False
        )

    async def console(self) -> ConsoleStream:
        raise BmcUnsupported(
            f"{self.host}: Redfish has no serial console of its own", fix="use its IPMI address for the console"
        )

    async def nics(self) -> tuple[str, ...]:
        """MACs of the system's network ports, known before the first boot."""
        return await self._macs(link(await self.system(), "EthernetInterfaces"))

    async def network_protocol(self) -> Doc:
        """The manager's network services (ManagerNetworkProtocol), {} where it has none."""
        path = link(await self._manager(await self.system()), "NetworkProtocol")
        return await self.http.get(path) if path else {}

    async def firmware(self) -> dict[str, str]:
        from baremetal.bmc import redfishextras

        return {name: version for name, version, _ in await redfishextras.firmware(self.http)}

    async def update_firmware(self, url: str) -> None:
        from baremetal.bmc import redfishextras

        await redfishextras.update_firmware(self.http, url)

    async def firmware_released(self) -> str | None:
        """When the manager's firmware was released, where the inventory tells (ReleaseDate)."""
        from baremetal.bmc import redfishextras

        ours = (await self._manager(await self.system())).get("FirmwareVersion")
        dates = [date for _, version, date in await redfishextras.firmware(self.http) if version == ours and date]
        return dates[0] if dates else None

    async def set_http_boot(self, url: str, *, once: bool = True) -> BootPlan:
        """UefiHttp with HttpBootUri: the firmware fetches this URL itself."""
        return await self.set_boot(BootDevice.HTTP, once=once, uefi=True, url=url)

    async def insert_media(self, url: str) -> None:
        from baremetal.bmc import redfishextras

        await redfishextras.insert_media(self.http, await self._media_holders(), url)

    async def eject_media(self) -> None:
        from baremetal.bmc import redfishextras

        await redfishextras.eject_media(self.http, await self._media_holders())

    async def _media_holders(self) -> list[Doc]:
        system = await self.system()
        return [system, await self._manager(system)]

    async def bios(self) -> dict[str, str | int | bool]:
        from baremetal.bmc import redfishextras

        return await redfishextras.bios(self.http, await self.system())

    async def set_bios(self, changes: dict[str, str | int | bool]) -> None:
        from baremetal.bmc import redfishextras

        await redfishextras.set_bios(self.http, await self.system(), changes)

    async def secure_boot(self) -> bool:
        from baremetal.bmc import redfishextras

        return await redfishextras.secure_boot(self.http, await self.system())

    async def set_secure_boot(self, on: bool) -> None:
        from baremetal.bmc import redfishextras

        await redfishextras.set_secure_boot(self.http, await self.system(), on)

    async def close(self) -> None:
        await self.http.close()


def plan_of(boot: Doc) -> BootPlan:
    """The `Boot` object as a plan; a disabled override is none."""
    mode = boot.get("BootSourceOverrideMode")
    uefi = None if mode is None else mode == "UEFI"
    enabled = boot.get("BootSourceOverrideEnabled")
    device = DEVICE.get(str(boot.get("BootSourceOverrideTarget") or "None"), BootDevice.OTHER)
    if enabled == "Disabled" or device is BootDevice.NONE:
        return BootPlan(BootDevice.NONE, once=False, uefi=uefi)
    return BootPlan(device, once=enabled != "Continuous", uefi=uefi, url=boot.get("HttpBootUri") or None)


def boot_change(boot: Doc, device: BootDevice, once: bool, uefi: bool | None, quirks: Quirks) -> Doc:
    """What to PATCH into `Boot`: only what changes, unless this vendor wants more."""
    target = TARGET.get(device)
    allowed = boot.get("BootSourceOverrideTarget@Redfish.AllowableValues")
    if target is None or (allowed and target not in allowed and device is not BootDevice.NONE):
        raise BmcUnsupported(f"BMC cannot boot from {device}", detail=f"it allows {allowed}")
    enabled = "Disabled" if device is BootDevice.NONE else "Once" if once else "Continuous"
    kinds = boot.get("BootSourceOverrideEnabled@Redfish.AllowableValues")
    if enabled == "Continuous" and (quirks.no_continuous or (kinds and "Continuous" not in kinds)):
        enabled = "Once"  # gone from newer schemas: whoever wants it lasting sets it before every start
    full = {"BootSourceOverrideTarget": target, "BootSourceOverrideEnabled": enabled}
    if uefi is not None and "BootSourceOverrideMode" in boot:
        full["BootSourceOverrideMode"] = "UEFI" if uefi else "Legacy"
    elif quirks.full_boot_object and boot.get("BootSourceOverrideMode"):
        full["BootSourceOverrideMode"] = boot["BootSourceOverrideMode"]
    if quirks.full_boot_object:
        return full
    always = {"BootSourceOverrideTarget"} | ({"BootSourceOverrideEnabled"} if quirks.sends_boot_enabled else set())
    # A one-shot override is sent even when it reads the same: it may be the rest of the last one.
    always |= {"BootSourceOverrideEnabled"} if enabled == "Once" else set()
    change: dict[str, Any] = {key: value for key, value in full.items() if key in always or boot.get(key) != value}
    return change


__all__ = ["BmcError", "RedfishDriver", "boot_change", "plan_of"]
