"""The Redfish face as requests and answers: no sockets."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baremetal.lab.chassis import MemoryChassis, diskless_bmc
from baremetal.lab.profiles import profile
from baremetal.lab.redfish.face import Face
from baremetal.lab.redfish.http import ROOT, Answer, Request
from baremetal.lab.redfish.quirks import RedfishQuirks
from baremetal.wire.ipmi.codes import BootDevice
from baremetal.wire.ipmi.users import one_admin

NOW = 1_700_000_000.0
SYSTEM = f"{ROOT}/Systems/1"
RESET = f"{SYSTEM}/Actions/ComputerSystem.Reset"
CD = f"{ROOT}/Managers/1/VirtualMedia/Cd"


class Rig:
    def __init__(self) -> None:
        self.chassis = MemoryChassis()
        self.bmc = diskless_bmc(self.chassis, users=one_admin("admin", "secret"))
        self.face = Face(self.bmc, ("52:54:00:00:00:01", "52:54:00:00:00:02"))

    def ask(self, method: str, path: str, body: object = None, login: str = "admin:secret", **headers: str) -> Answer:
        if login:
            headers["authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return self.face.answer(Request(method, path, headers, raw, NOW))


@pytest.fixture
def rig() -> Rig:
    return Rig()


def links(document: object) -> set[str]:
    """Every link in a document."""
    if isinstance(document, dict):
        own = {document["@odata.id"]} if isinstance(document.get("@odata.id"), str) else set()
        return own.union(*map(links, document.values()))
    return set().union(*map(links, document)) if isinstance(document, list) else set()


def test_every_link_leads_somewhere_and_every_resource_has_its_names(rig):
    rig.bmc.sel.power(True, 1000)
    rig.ask("POST", f"{ROOT}/SessionService/Sessions", {"UserName": "admin", "Password": "secret"})
    todo, seen = {ROOT}, set()
    while todo:
        path = todo.pop()
        seen.add(path)
        answer = rig.ask("GET", path)
        assert answer.status == 200, path
        assert answer.document["@odata.id"] == path
        assert answer.document["@odata.type"].startswith("#")
        assert answer.document["Name"]
        todo |= links(answer.document) - seen
    assert len(seen) > 30


ACCESS = [  # login             method   path       status
    ("", "GET", ROOT, 200),
    ("", "GET", "/redfish", 200),
    ("", "GET", SYSTEM, 401),
    ("admin:wrong", "GET", SYSTEM, 401),
    ("nobody:secret", "GET", SYSTEM, 401),
    ("admin:secret", "GET", SYSTEM, 200),
    ("viewer:look", "GET", SYSTEM, 200),
    ("viewer:look", "POST", RESET, 403),
    ("viewer:look", "PATCH", SYSTEM, 403),
    ("admin:secret", "DELETE", SYSTEM, 405),
    ("admin:secret", "GET", f"{ROOT}/Systems/2", 404),
    ("admin:secret", "POST", f"{ROOT}/Nothing", 404),
    ("admin:secret", "POST", SYSTEM, 405),
    ("admin:secret", "PATCH", ROOT, 405),
]


@pytest.mark.parametrize(("login", "method", "path", "status"), ACCESS)
def test_access(rig, login, method, path, status):
    user = rig.bmc.users[3]
    user.name, user.password, user.privilege, user.enabled = b"viewer", b"look", 2, True
    assert rig.ask(method, path, {"ResetType": "On"} if method == "POST" else None, login).status == status


def test_sessions_by_token(rig):
    opened = rig.ask("POST", f"{ROOT}/SessionService/Sessions", {"UserName": "admin", "Password": "secret"}, login="")
    assert opened.status == 201
    token = {"x-auth-token": opened.headers["X-Auth-Token"]}
    ask = rig.face.answer
    assert ask(Request("GET", SYSTEM, token, now=NOW)).status == 200
    assert ask(Request("GET", SYSTEM, token, now=NOW + 1801)).status == 401
    assert ask(Request("DELETE", opened.headers["Location"], token, now=NOW + 1)).status == 204
    assert ask(Request("GET", SYSTEM, token, now=NOW + 2)).status == 401
    wrong = rig.ask("POST", f"{ROOT}/SessionService/Sessions", {"UserName": "admin", "Password": "x"}, login="")
    assert wrong.status == 401


POWER = [  # before  order               status  after
    (False, "On", 204, True),
    (True, "On", 204, True),
    (True, "ForceOff", 204, False),
    (True, "GracefulShutdown", 204, False),
    (True, "ForceRestart", 204, True),
    (False, "ForceRestart", 409, False),
    (False, "PowerCycle", 409, False),
    (False, "PushPowerButton", 204, True),
    (True, "PushPowerButton", 204, False),
    (True, "Explode", 400, True),
]


@pytest.mark.parametrize(("before", "order", "status", "after"), POWER)
def test_power(rig, before, order, status, after):
    rig.chassis.on = before
    assert rig.ask("POST", RESET, {"ResetType": order}).status == status
    assert rig.ask("GET", SYSTEM).document["PowerState"] == ("On" if after else "Off")


BOOT = [  # what is set, and what the IPMI face then shows in its five bytes
    ({"BootSourceOverrideTarget": "Pxe"}, "a004000000"),
    ({"BootSourceOverrideTarget": "Pxe", "BootSourceOverrideMode": "Legacy"}, "8004000000"),
    ({"BootSourceOverrideTarget": "Hdd", "BootSourceOverrideEnabled": "Continuous"}, "e008000000"),
    ({"BootSourceOverrideTarget": "Cd", "BootSourceOverrideEnabled": "Once"}, "a014000000"),
    ({"BootSourceOverrideTarget": "UefiHttp", "BootSourceOverrideEnabled": "Once"}, "a004000000"),
    ({"BootSourceOverrideEnabled": "Disabled"}, "2000000000"),
]


@pytest.mark.parametrize(("change", "flags"), BOOT)
def test_boot_override_is_the_one_ipmi_shows(rig, change, flags):
    assert rig.ask("PATCH", SYSTEM, {"Boot": change}).status == 200
    shown = rig.bmc.boot.get(5, NOW)
    assert shown[1:] == bytes.fromhex(flags)[1:]
    assert not shown[0] & 0x80 or shown[0] == bytes.fromhex(flags)[0]


def test_once_is_used_up_by_power_on(rig):
    rig.ask("PATCH", SYSTEM, {"Boot": {"BootSourceOverrideTarget": "UefiHttp", "HttpBootUri": "http://s/x.efi"}})
    boot = rig.ask("GET", SYSTEM).document["Boot"]
    assert (boot["BootSourceOverrideTarget"], boot["HttpBootUri"]) == ("UefiHttp", "http://s/x.efi")
    rig.ask("POST", RESET, {"ResetType": "On"})
    assert (rig.chassis.boots[-1].device, rig.chassis.boots[-1].url) == (BootDevice.PXE, "http://s/x.efi")
    assert rig.ask("GET", SYSTEM).document["Boot"]["BootSourceOverrideEnabled"] == "Disabled"


@pytest.mark.parametrize(
    "boot",
    [
        {"BootSourceOverrideTarget": "Moon"},
        {"BootSourceOverrideEnabled": "Maybe"},
        {"BootSourceOverrideMode": 7},
        {"BootSourceOverrideTarget": "UefiHttp", "BootSourceOverrideMode": "Legacy"},
        [],
    ],
)
def test_wrong_boot_values(rig, boot):
    assert rig.ask("PATCH", SYSTEM, {"Boot": boot}).status == 400


def test_etags(rig):
    tag = rig.ask("GET", SYSTEM).headers["ETag"]
    change = {"Boot": {"BootSourceOverrideTarget": "Pxe"}}
    assert rig.ask("PATCH", SYSTEM, change, **{"if-match": '"other"'}).status == 412
    assert rig.ask("PATCH", SYSTEM, change, **{"if-match": tag}).status == 200
    assert rig.ask("GET", SYSTEM).headers["ETag"] != tag
    rig.face.quirks.etag_required = True
    assert rig.ask("PATCH", SYSTEM, change).status == 428


FULL = {
    "BootSourceOverrideTarget": "Pxe",
    "BootSourceOverrideEnabled": "Once",
    "BootSourceOverrideMode": "UEFI",
}
VENDORS = [  # profile      what is set                                              status
    ("supermicro", {"BootSourceOverrideTarget": "Pxe"}, 400),
    ("supermicro", {"BootSourceOverrideTarget": "Pxe", "BootSourceOverrideEnabled": "Once"}, 200),
    ("ami", {"BootSourceOverrideTarget": "Pxe", "BootSourceOverrideEnabled": "Once"}, 400),
    ("ami", FULL, 200),
    ("hpe", FULL, 200),
]


@pytest.mark.parametrize(("name", "boot", "status"), VENDORS)
def test_vendors_want_their_own_words(rig, name, boot, status):
    rig.face.quirks = RedfishQuirks(**profile(name).redfish)
    assert rig.ask("PATCH", SYSTEM, {"Boot": boot}, **{"if-match": "*"}).status == status


def test_no_boot_change_during_post(rig):
    rig.face.quirks = RedfishQuirks(**profile("hpe").redfish)
    rig.ask("POST", RESET, {"ResetType": "On"})
    refused = rig.ask("PATCH", SYSTEM, {"Boot": FULL})
    assert refused.status == 400
    assert "UnableToModifyDuringSystemPOST" in refused.document["error"]["code"]
    rig.face.powered_at -= 21
    assert rig.ask("PATCH", SYSTEM, {"Boot": FULL}).status == 200


def test_virtual_cd(rig):
    told = []
    rig.face.media.on_change = told.append
    insert, eject = f"{CD}/Actions/VirtualMedia.InsertMedia", f"{CD}/Actions/VirtualMedia.EjectMedia"
    assert rig.ask("POST", insert, {"Image": "/etc/passwd"}).status == 400
    assert rig.ask("POST", insert, {"Image": "http://s/a.iso"}).status == 204
    assert rig.ask("POST", insert, {"Image": "http://s/b.iso"}).status == 409
    assert rig.ask("GET", CD).document["ImageName"] == "a.iso"
    assert rig.ask("POST", eject, {}).status == 204
    assert told == ["http://s/a.iso", ""]


def test_accounts_are_ipmi_s(rig):
    account = f"{ROOT}/AccountService/Accounts/2"
    assert rig.ask("GET", account).document["UserName"] == "admin"
    assert rig.ask("PATCH", account, {"Password": "x" * 21}).status == 400
    assert rig.ask("PATCH", account, {"Password": "new"}).status == 200
    assert rig.bmc.users[2].password == b"new"
    assert rig.ask("GET", account, login="admin:new").document["Password"] is None
    assert rig.ask("PATCH", account, {"RoleId": "King"}, login="admin:new").status == 400


def test_bios_settings_wait_for_the_next_start(rig):
    assert rig.ask("PATCH", f"{SYSTEM}/Bios/Settings", {"Attributes": {"BootMode": "Bios"}}).status == 200
    assert rig.ask("GET", f"{SYSTEM}/Bios").document["Attributes"]["BootMode"] == "Uefi"
    rig.ask("POST", RESET, {"ResetType": "On"})
    assert rig.ask("GET", f"{SYSTEM}/Bios").document["Attributes"]["BootMode"] == "Bios"
    assert rig.ask("PATCH", f"{SYSTEM}/Bios/Settings", {"Attributes": {"Nonsense": 1}}).status == 400


PATHS = st.sampled_from([SYSTEM, RESET, CD, f"{CD}/Actions/VirtualMedia.InsertMedia", f"{SYSTEM}/Bios/Settings",
                         f"{ROOT}/AccountService/Accounts/2", f"{ROOT}/SessionService/Sessions"])  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["Boot", "ResetType", "Image", "Attributes", "Password", "UserName", "RoleId", "Enabled",
                         "BootSourceOverrideTarget", "BootSourceOverrideEnabled"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@given(
    st.sampled_from(["GET", "POST", "PATCH", "DELETE", "PUT"]),
    PATHS | st.text(max_size=30),
    JSON | st.binary(max_size=20),
)
@settings(max_examples=150, deadline=None)
def test_anything_gets_an_answer(method, path, body):
    answer = Rig().ask(method, path, body)
    assert 200 <= answer.status < 500
    json.dumps(answer.document)


@pytest.mark.parametrize("body", [b"[" * 200_000, b'{"a":' * 200_000, b"1" * 5000, b"{", b"\xff"])
def test_a_body_that_is_no_json_is_told(rig: Rig, body: bytes) -> None:
    assert rig.ask("PATCH", SYSTEM, body).status == 400
