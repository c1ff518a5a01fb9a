"""What Redfish can and IPMI cannot: virtual CDs, firmware settings, Secure Boot."""

from __future__ import annotations

from baremetal.bmc.faults import BmcLied, BmcRefused, BmcUnsupported
from baremetal.bmc.redfishhttp import Doc, RedfishHttp, link, need

CDS = {"CD", "DVD"}


async def _drive(http: RedfishHttp, holders: list[Doc]) -> Doc:
    """The virtual CD drive: of the system in newer services, of the manager in older ones."""
    for holder in holders:
        path = link(holder, "VirtualMedia")
        if path is None:
            continue
        async for drive in http.members(path):
            if CDS & set(drive.get("MediaTypes") or ["CD"]):
                return drive
    raise BmcUnsupported(f"{http.host}: this BMC has no virtual CD drive")


async def insert_media(http: RedfishHttp, holders: list[Doc], url: str) -> None:
    """By the action where there is one, else by PATCH; looks whether it is in."""
    drive = await _drive(http, holders)
    if drive.get("Inserted") and drive.get("Image") == url:
        return
    if drive.get("Inserted"):
        await _eject(http, drive)
        drive = await http.get(str(drive["@odata.id"]))
    action = link_target(drive, "#VirtualMedia.InsertMedia")
    if action:
        await http.post(action, {"Image": url})
    else:
        await http.patch(str(drive["@odata.id"]), {"Image": url, "Inserted": True}, current=drive)
    if not (await http.get(str(drive["@odata.id"]))).get("Inserted"):
        raise BmcLied(
            f"{http.host}: virtual CD accepted but not inserted",
            detail=url,
            cause="media",
            fix="can the BMC reach that URL?",
        )


async def eject_media(http: RedfishHttp, holders: list[Doc]) -> None:
    """Nothing is sent when the drive is empty."""
    drive = await _drive(http, holders)
    if drive.get("Inserted"):
        await _eject(http, drive)


async def _eject(http: RedfishHttp, drive: Doc) -> None:
    action = link_target(drive, "#VirtualMedia.EjectMedia")
    if action:
        await http.post(action, {})
    else:
        await http.patch(str(drive["@odata.id"]), {"Image": None, "Inserted": False}, current=drive)


def link_target(doc: Doc, action: str) -> str | None:
    """The target of an action, None when the resource has none."""
    found = ((doc.get("Actions") or {}).get(action) or {}).get("target")
    return found if isinstance(found, str) else None


async def bios(http: RedfishHttp, system: Doc) -> dict[str, str | int | bool]:
    """Attributes in force."""
    doc = await http.get(need(http.host, link(system, "Bios"), "firmware settings"))
    found = doc.get("Attributes") or {}
    return {str(key): value for key, value in found.items() if isinstance(value, (str, int, bool))}


async def set_bios(http: RedfishHttp, system: Doc, changes: dict[str, str | int | bool]) -> None:
    """Goes to the settings resource, in force after a restart. Unknown names are refused before anything is sent."""
    doc = await http.get(need(http.host, link(system, "Bios"), "firmware settings"))
    known = doc.get("Attributes") or {}
    unknown = sorted(set(changes) - set(known))
    if unknown:
        raise BmcRefused(
            f"{http.host}: no firmware setting named {', '.join(unknown)[:200]}", fix="names are the BMC's own"
        )
    wanted = {name: value for name, value in changes.items() if known[name] != value}
    if wanted:
        settings = link(doc, "@Redfish.Settings", "SettingsObject") or str(doc["@odata.id"])
        await http.patch(settings, {"Attributes": wanted})


async def secure_boot(http: RedfishHttp, system: Doc) -> bool:
    """SecureBootCurrentBoot: what the running boot did."""
    doc = await http.get(need(http.host, link(system, "SecureBoot"), "Secure Boot"))
    return doc.get("SecureBootCurrentBoot") == "Enabled" or bool(doc.get("SecureBootEnable"))


async def set_secure_boot(http: RedfishHttp, system: Doc, on: bool) -> None:
    doc = await http.get(need(http.host, link(system, "SecureBoot"), "Secure Boot"))
    if bool(doc.get("SecureBootEnable")) is not on:
        await http.patch(str(doc["@odata.id"]), {"SecureBootEnable": on}, current=doc)


async def firmware(http: RedfishHttp) -> list[tuple[str, str, str]]:
    """(name, version, release date or "") of the update service's inventory; [] where there is none."""
    service = link(await http.root(), "UpdateService")
    path = link(await http.get(service), "FirmwareInventory") if service else None
    if path is None:
        return []
    return [
        (str(doc.get("Name") or doc.get("Id") or "?"), str(doc["Version"]), str(doc.get("ReleaseDate") or ""))
        async for doc in http.members(path)
        if doc.get("Version")
    ]


async def update_firmware(http: RedfishHttp, url: str) -> None:
    """UpdateService.SimpleUpdate; waits for its task. The BMC may restart itself afterwards."""
    service = await http.get(need(http.host, link(await http.root(), "UpdateService"), "update service"))
    action = need(http.host, link_target(service, "#UpdateService.SimpleUpdate"), "update by URL")
    body: Doc = {"ImageURI": url}
    if url.startswith("https://"):
        body["TransferProtocol"] = "HTTPS"
    elif url.startswith("http://"):
        body["TransferProtocol"] = "HTTP"
    await http.post(action, body)
