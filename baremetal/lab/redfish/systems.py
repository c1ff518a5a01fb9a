"""The machine itself: power, boot override, NICs, BIOS attributes, Secure Boot, event log; and its chassis."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from baremetal.bmc import sel
from baremetal.lab.redfish import boot
from baremetal.lab.redfish.http import ROOT, Doc, Problem, bad_value, collection, link, resource
from baremetal.wire.ipmi.codes import ChassisControl
from baremetal.wire.ipmi.commands.chassis import order_power
from baremetal.wire.ipmi.commands.context import Refuse

if TYPE_CHECKING:
    from baremetal.lab.redfish.face import Face

SYSTEM = f"{ROOT}/Systems/1"
CHASSIS = f"{ROOT}/Chassis/1"
MANAGER = f"{ROOT}/Managers/1"
_SEL = f"{SYSTEM}/LogServices/SEL"
_SEVERITY = {"info": "OK", "warning": "Warning", "critical": "Critical"}
_RESET = {
    "On": ChassisControl.ON,
    "ForceOff": ChassisControl.OFF,
    "GracefulShutdown": ChassisControl.SOFT,
    "ForceRestart": ChassisControl.RESET,
    "PowerCycle": ChassisControl.CYCLE,
    "Nmi": ChassisControl.DIAG,
}


def system(face: Face) -> Doc:
    """ComputerSystem."""
    bmc, me = face.bmc, face.bmc.identity
    actions = {
        "#ComputerSystem.Reset": {
            "target": f"{SYSTEM}/Actions/ComputerSystem.Reset",
            "ResetType@Redfish.AllowableValues": [*_RESET, "PushPowerButton"],
        }
    }
    return resource(
        SYSTEM,
        "ComputerSystem.v1_13_0.ComputerSystem",
        me.name,
        SystemType="Physical",
        Manufacturer=me.vendor,
        Model=me.product,
        SerialNumber=me.serial,
        UUID=str(me.uuid),
        HostName="",
        BiosVersion="1.0",
        PowerState="On" if bmc.chassis.powered() else "Off",
        Status={"State": "Enabled", "Health": "OK"},
        LocationIndicatorActive=bmc.identify_until > time.time(),
        IndicatorLED="Blinking" if bmc.identify_until > time.time() else "Off",
        Boot=boot.show(face, bmc.boot.peek(time.time())),
        ProcessorSummary={"Count": face.cpus, "Model": "virtual"},
        MemorySummary={"TotalSystemMemoryGiB": face.memory_mib / 1024},
        EthernetInterfaces=link(f"{SYSTEM}/EthernetInterfaces"),
        Bios=link(f"{SYSTEM}/Bios"),
        SecureBoot=link(f"{SYSTEM}/SecureBoot"),
        LogServices=link(f"{SYSTEM}/LogServices"),
        Links={"Chassis": [link(CHASSIS)], "ManagedBy": [link(MANAGER)]},
        Actions=actions,
    )


def reset(face: Face, body: Doc, now: float) -> None:
    """ComputerSystem.Reset."""
    kind = body.get("ResetType", "On")
    if kind == "PushPowerButton":
        kind = "GracefulShutdown" if face.bmc.chassis.powered() else "On"
    if kind not in _RESET:
        raise bad_value("ResetType", kind)
    if not face.bmc.chassis.powered() and face.bios_pending:
        face.bios.update(face.bios_pending)
        face.bios_pending.clear()
    try:
        order_power(face.bmc, _RESET[kind], now)
        if kind not in ("ForceOff", "GracefulShutdown", "Nmi"):
            face.powered_at = now
    except Refuse:
        raise Problem(
            409, "InvalidOperationForSystemState", f"{kind} makes no sense while the system is off."
        ) from None


def _interfaces(face: Face) -> Doc:
    members = [f"{SYSTEM}/EthernetInterfaces/NIC{number}" for number in range(1, len(face.macs) + 1)]
    return collection(f"{SYSTEM}/EthernetInterfaces", "EthernetInterfaceCollection", members)


def _bios(face: Face) -> Doc:
    actions = {"#Bios.ResetBios": {"target": f"{SYSTEM}/Bios/Actions/Bios.ResetBios"}}
    settings = {"@odata.type": "#Settings.v1_3_0.Settings", "SettingsObject": link(f"{SYSTEM}/Bios/Settings")}
    doc = resource(f"{SYSTEM}/Bios", "Bios.v1_1_1.Bios", "BIOS", Attributes=dict(face.bios), Actions=actions)
    return {**doc, "@Redfish.Settings": settings}


def _bios_settings(face: Face) -> Doc:
    pending = {**face.bios, **face.bios_pending}
    return resource(f"{SYSTEM}/Bios/Settings", "Bios.v1_1_1.Bios", "BIOS after the next start", Attributes=pending)


def _secure_boot(face: Face) -> Doc:
    state = "Enabled" if face.secure_boot else "Disabled"
    return resource(
        f"{SYSTEM}/SecureBoot",
        "SecureBoot.v1_1_0.SecureBoot",
        "UEFI Secure Boot",
        SecureBootEnable=face.secure_boot,
        SecureBootCurrentBoot=state,
        SecureBootMode="UserMode",
    )


def _log_service(_: Face) -> Doc:
    actions = {"#LogService.ClearLog": {"target": f"{_SEL}/Actions/LogService.ClearLog"}}
    more = {"LogEntryType": "SEL", "ServiceEnabled": True, "Entries": link(f"{_SEL}/Entries"), "Actions": actions}
    return resource(_SEL, "LogService.v1_2_0.LogService", "System Event Log", **more)


def _entries(face: Face) -> Doc:
    doc = collection(f"{_SEL}/Entries", "LogEntryCollection", [])
    members = [_entry(record) for record in face.bmc.sel.records]
    return {**doc, "Members": members, "Members@odata.count": len(members)}


def _entry(record: bytes) -> Doc:
    number, stamp = struct.unpack_from("<HxI", record)
    said = sel.decode(record)
    more = {
        "EntryType": "SEL",
        "EntryCode": "Assert" if said.asserted else "Deassert",
        "Created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(stamp)),
        "Severity": _SEVERITY[said.severity],
        "SensorType": said.kind,
        "SensorNumber": record[11],
        "Message": said.event or record.hex(" "),
    }
    return resource(f"{_SEL}/Entries/{number}", "LogEntry.v1_8_0.LogEntry", f"Log Entry {number}", **more)


def _clear_log(face: Face, _: Doc, now: float) -> None:
    face.bmc.sel.clear(int(now))


def _chassis(face: Face) -> Doc:
    me = face.bmc.identity
    return resource(
        CHASSIS,
        "Chassis.v1_14_0.Chassis",
        me.name,
        ChassisType="RackMount",
        Manufacturer=me.vendor,
        Model=me.product,
        SerialNumber=me.serial,
        PowerState="On" if face.bmc.chassis.powered() else "Off",
        Status={"State": "Enabled", "Health": "OK"},
        Thermal=link(f"{CHASSIS}/Thermal"),
        Power=link(f"{CHASSIS}/Power"),
        Links={"ComputerSystems": [link(SYSTEM)], "ManagedBy": [link(MANAGER)]},
    )


def _readings(face: Face, kind: int) -> list[Doc]:
    on = face.bmc.chassis.powered()
    out = []
    for sensor in (s for s in face.bmc.sensors if s.type == kind):
        here = on or not sensor.needs_power
        state = {"State": "Enabled", "Health": "OK"} if here else {"State": "UnavailableOffline"}
        value = sensor.raw * sensor.m * 10**sensor.exponent if here else None
        out.append({"Name": sensor.name, "MemberId": str(sensor.number), "Status": state, "value": value})
    return out


def _thermal(face: Face) -> Doc:
    degrees = [{**r, "ReadingCelsius": r.pop("value")} for r in _readings(face, 0x01)]
    fans = [{**r, "Reading": r.pop("value"), "ReadingUnits": "RPM"} for r in _readings(face, 0x04)]
    return resource(f"{CHASSIS}/Thermal", "Thermal.v1_7_0.Thermal", "Thermal", Temperatures=degrees, Fans=fans)


def _power(face: Face) -> Doc:
    volts = [{**r, "ReadingVolts": r.pop("value")} for r in _readings(face, 0x02)]
    watts = [{**r, "PowerConsumedWatts": r.pop("value")} for r in _readings(face, 0x0B)]
    return resource(f"{CHASSIS}/Power", "Power.v1_7_0.Power", "Power", Voltages=volts, PowerControl=watts)


def find(face: Face, path: str) -> Doc | None:
    """Members of collections."""
    number = path.removeprefix(f"{SYSTEM}/EthernetInterfaces/NIC")
    if number != path and number.isascii() and number.isdigit() and 1 <= int(number[:4]) <= len(face.macs):
        mac = face.macs[int(number) - 1]
        kind = "EthernetInterface.v1_6_3.EthernetInterface"
        status = {"State": "Enabled", "Health": "OK"}
        more: dict[str, Any] = {"MACAddress": mac, "PermanentMACAddress": mac, "LinkStatus": "LinkUp", "Status": status}
        return resource(path, kind, f"NIC {number}", SpeedMbps=10000, **more)
    for record in face.bmc.sel.records:
        if path == f"{_SEL}/Entries/{int.from_bytes(record[:2], 'little')}":
            return _entry(record)
    return None


def patch(face: Face, path: str, body: Doc, now: float) -> bool:
    """Change the system; False when the path is not ours."""
    if path == SYSTEM:
        if "Boot" in body:
            if not isinstance(body["Boot"], dict):
                raise bad_value("Boot", body["Boot"])
            boot.change(face, body["Boot"], now)
        if "LocationIndicatorActive" in body or "IndicatorLED" in body:
            lit = body.get("LocationIndicatorActive") or body.get("IndicatorLED") in ("Lit", "Blinking")
            face.bmc.identify_until = float("inf") if lit else 0.0
        return True
    if path == f"{SYSTEM}/Bios/Settings":
        attributes = body.get("Attributes")
        if not isinstance(attributes, dict) or not set(attributes) <= set(face.bios):
            raise Problem(400, "PropertyUnknown", "There is no such BIOS attribute.")
        face.bios_pending.update(attributes)
        return True
    if path == f"{SYSTEM}/SecureBoot":
        face.secure_boot = bool(body.get("SecureBootEnable", face.secure_boot))
        return True
    return False


RESOURCES: dict[str, Callable[[Face], Doc]] = {
    f"{ROOT}/Systems": lambda _: collection(f"{ROOT}/Systems", "ComputerSystemCollection", [SYSTEM]),
    f"{ROOT}/Chassis": lambda _: collection(f"{ROOT}/Chassis", "ChassisCollection", [CHASSIS]),
    SYSTEM: system,
    CHASSIS: _chassis,
    f"{CHASSIS}/Thermal": _thermal,
    f"{CHASSIS}/Power": _power,
    f"{SYSTEM}/EthernetInterfaces": _interfaces,
    f"{SYSTEM}/Bios": _bios,
    f"{SYSTEM}/Bios/Settings": _bios_settings,
    f"{SYSTEM}/SecureBoot": _secure_boot,
    f"{SYSTEM}/LogServices": lambda _: collection(f"{SYSTEM}/LogServices", "LogServiceCollection", [_SEL]),
    _SEL: _log_service,
    f"{_SEL}/Entries": _entries,
}
ACTIONS: dict[str, Callable[[Face, Doc, float], None]] = {
    f"{SYSTEM}/Actions/ComputerSystem.Reset": reset,
    f"{_SEL}/Actions/LogService.ClearLog": _clear_log,
}
