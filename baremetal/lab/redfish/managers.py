"""The BMC as Redfish's Manager: firmware version, reset, virtual media."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from baremetal.lab.redfish.http import ROOT, Doc, Problem, collection, link, resource
from baremetal.lab.redfish.systems import MANAGER, SYSTEM

if TYPE_CHECKING:
    from baremetal.lab.redfish.face import Face

_CD = f"{MANAGER}/VirtualMedia/Cd"


def manager(face: Face) -> Doc:
    """Manager."""
    major, minor = face.bmc.identity.firmware
    actions = {
        "#Manager.Reset": {
            "target": f"{MANAGER}/Actions/Manager.Reset",
            "ResetType@Redfish.AllowableValues": ["GracefulRestart", "ForceRestart"],
        }
    }
    return resource(
        MANAGER,
        "Manager.v1_10_0.Manager",
        "BMC",
        ManagerType="BMC",
        FirmwareVersion=f"{major}.{minor:02x}",
        UUID=str(face.bmc.identity.uuid),
        Status={"State": "Enabled", "Health": "OK"},
        EthernetInterfaces=link(f"{MANAGER}/EthernetInterfaces"),
        VirtualMedia=link(f"{MANAGER}/VirtualMedia"),
        Links={"ManagerForServers": [link(SYSTEM)]},
        Actions=actions,
    )


def _reset(face: Face, _: Doc, __: float) -> None:
    face.bmc.resets += 1
    face.sessions.clear()


def _cd(face: Face) -> Doc:
    media = face.media
    inserted = bool(media.image)
    actions = {
        "#VirtualMedia.InsertMedia": {"target": f"{_CD}/Actions/VirtualMedia.InsertMedia"},
        "#VirtualMedia.EjectMedia": {"target": f"{_CD}/Actions/VirtualMedia.EjectMedia"},
    }
    return resource(
        _CD,
        "VirtualMedia.v1_3_2.VirtualMedia",
        "Virtual CD",
        MediaTypes=["CD", "DVD"],
        Image=media.image or None,
        ImageName=media.image.rsplit("/", 1)[-1] or None,
        Inserted=inserted,
        WriteProtected=media.write_protected,
        ConnectedVia="URI" if inserted else "NotConnected",
        Actions=actions,
    )


def _insert(face: Face, body: Doc, _: float) -> None:
    image = body.get("Image")
    if not isinstance(image, str) or not image.startswith(("http://", "https://")):
        raise Problem(400, "PropertyValueFormatError", "Image must be a http or https URL.")
    if face.media.image:
        raise Problem(409, "ResourceInUse", "A medium is inserted already.")
    face.media.image = image
    face.media.write_protected = bool(body.get("WriteProtected", True))
    face.media.on_change(image)


def _eject(face: Face, _: Doc, __: float) -> None:
    face.media.image = ""
    face.media.on_change("")


def _lan(face: Face) -> Doc:
    lan = face.bmc.lan
    path = f"{MANAGER}/EthernetInterfaces/eth0"
    kind = "EthernetInterface.v1_6_3.EthernetInterface"
    return resource(path, kind, "BMC LAN", MACAddress=face.bmc.identity.mac, IPv4Addresses=[{"Address": lan.address}])


def find(_: Face, __: str) -> Doc | None:
    """Nothing more than RESOURCES."""
    return None


RESOURCES: dict[str, Callable[[Face], Doc]] = {
    f"{ROOT}/Managers": lambda _: collection(f"{ROOT}/Managers", "ManagerCollection", [MANAGER]),
    MANAGER: manager,
    f"{MANAGER}/VirtualMedia": lambda _: collection(f"{MANAGER}/VirtualMedia", "VirtualMediaCollection", [_CD]),
    _CD: _cd,
    f"{MANAGER}/EthernetInterfaces": lambda _: collection(
        f"{MANAGER}/EthernetInterfaces", "EthernetInterfaceCollection", [f"{MANAGER}/EthernetInterfaces/eth0"]
    ),
    f"{MANAGER}/EthernetInterfaces/eth0": _lan,
}
ACTIONS: dict[str, Callable[[Face, Doc, float], None]] = {
    f"{MANAGER}/Actions/Manager.Reset": _reset,
    f"{_CD}/Actions/VirtualMedia.InsertMedia": _insert,
    f"{_CD}/Actions/VirtualMedia.EjectMedia": _eject,
}
