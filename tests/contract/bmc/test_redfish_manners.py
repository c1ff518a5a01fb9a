"""What Redfish services do to their clients, and what the driver makes of it."""

import datetime
import json
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from baremetal.bmc.base import (
    BmcAuth,
    BmcBusy,
    BmcProtocol,
    BmcRefused,
    BmcTls,
    BmcUnreachable,
    BmcUnsupported,
    BootDevice,
    Power,
    PowerOp,
)
from baremetal.bmc.quirks import Quirks
from baremetal.bmc.redfish import RedfishDriver, boot_change
from baremetal.bmc.url import BmcUrl

S = "/redfish/v1/Systems/1"


def driver(port, password="right", options="timeout_s=2", scheme="redfish+http"):
    return RedfishDriver(BmcUrl.parse(f"{scheme}://admin@127.0.0.1:{port}?{options}"), password)


async def test_one_login_serves_many_requests_and_is_given_back(redfish_server):
    async with redfish_server() as (peer, port):
        bmc = driver(port)
        await bmc.power()
        await bmc.power()
        assert len(peer.sessions) == 1
        await bmc.close()
        assert peer.sessions == {}


async def test_a_forgotten_session_is_opened_again(redfish_server):
    async with redfish_server() as (peer, port):
        bmc = driver(port)
        await bmc.power()
        peer.sessions.clear()
        assert await bmc.power() is Power.OFF
        await bmc.close()


async def test_basic_authentication_where_there_are_no_sessions(redfish_server):
    async with redfish_server() as (peer, port):
        peer.has_sessions = False
        bmc = driver(port)
        assert await bmc.power() is Power.OFF
        await bmc.close()


async def test_wrong_password_is_tried_once(redfish_server):
    async with redfish_server() as (peer, port):
        bmc = driver(port, "wrong")
        with pytest.raises(BmcAuth):
            await bmc.power()
        assert len([line for line in peer.requests if line.startswith("POST")]) == 1
        await bmc.close()


async def test_answers_by_task_are_waited_for(redfish_server):
    async with redfish_server() as (peer, port):
        peer.tasks = True
        bmc = driver(port)
        await bmc.set_power(PowerOp.ON)
        assert "GET /redfish/v1/TaskService/Tasks/1" in peer.requests
        await bmc.close()


async def test_pages_are_followed_and_events_incremental(redfish_server):
    async with redfish_server() as (_, port):
        bmc = driver(port)
        records = await bmc.events()
        assert [record.event for record in records] == ["Fan 1 failed", "Fan 1 is back"]
        assert [record.event for record in await bmc.events(since=records[0].id)] == ["Fan 1 is back"]
        await bmc.close()


async def test_a_machine_in_post_is_busy_not_broken(redfish_server):
    async with redfish_server() as (peer, port):
        peer.post = True
        bmc = driver(port)
        with pytest.raises(BmcBusy) as caught:
            await bmc.set_boot(BootDevice.PXE)
        assert caught.value.cause == "post"
        await bmc.close()


async def test_http_boot_carries_its_url(redfish_server):
    async with redfish_server() as (_, port):
        bmc = driver(port)
        plan = await bmc.set_boot(BootDevice.HTTP, uefi=True, url="http://10.0.0.1/ipxe.efi")
        assert (plan.device, plan.url) == (BootDevice.HTTP, "http://10.0.0.1/ipxe.efi")
        await bmc.close()


async def test_power_on_of_a_machine_that_is_on_sends_nothing(redfish_server):
    async with redfish_server() as (peer, port):
        peer.on = True
        bmc = driver(port)
        await bmc.set_power(PowerOp.ON)
        assert not [line for line in peer.requests if "Reset" in line]
        await bmc.close()


ODD = [  # what the system resource answers, error
    ({"text": "<html>login</html>", "content_type": "text/html"}, BmcProtocol),
    ({"text": '{"a": '}, BmcProtocol),
    ({"text": "[1]"}, BmcProtocol),
    ({"text": "[" * 200000}, BmcProtocol),
    ({"body": b"x" * (9 * 1024 * 1024)}, BmcProtocol),
    ({"status": 500, "text": "oops"}, BmcProtocol),
    ({"status": 503}, BmcBusy),
    ({"status": 409}, BmcRefused),
    ({"status": 404}, BmcUnsupported),
    ({"status": 400, "text": '{"error": {"@Message.ExtendedInfo": 17}}'}, BmcRefused),
]


@pytest.mark.parametrize(("answer", "error"), ODD)
async def test_odd_answers_are_errors_with_a_name(redfish_server, answer, error):
    async with redfish_server() as (peer, port):
        peer.answers[S] = answer
        bmc = driver(port)
        with pytest.raises(error):
            await bmc.power()
        await bmc.close()


async def test_links_to_another_host_are_not_followed(redfish_server):
    async with redfish_server() as (peer, port):
        stranger = {"Members": [{"@odata.id": "http://198.51.100.1/steal"}]}
        peer.answers["/redfish/v1/Systems"] = {"text": json.dumps(stranger)}
        bmc = driver(port)
        with pytest.raises(BmcProtocol, match="another host"):
            await bmc.power()
        await bmc.close()


async def test_several_systems_want_one_named(redfish_server):
    async with redfish_server() as (peer, port):
        both = {"Members": [{"@odata.id": S}, {"@odata.id": "/redfish/v1/Systems/2"}]}
        peer.answers["/redfish/v1/Systems"] = {"text": json.dumps(both)}
        bmc = driver(port)
        with pytest.raises(BmcRefused, match="2 of its systems fit"):
            await bmc.power()
        named = driver(port, options="system=1&timeout_s=2")
        assert await named.power() is Power.OFF
        await bmc.close()
        await named.close()


async def test_nothing_there_is_unreachable():
    bmc = driver(1)
    with pytest.raises(BmcUnreachable):
        await bmc.power()
    await bmc.close()


def tls(tmp_path, name):
    """A server context with a fresh self-signed certificate, and its SHA-256."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / f"{name}.pem"
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    file.write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context, certificate.fingerprint(hashes.SHA256()).hex(), file


async def test_the_certificate_is_learnt_and_told(redfish_server, tmp_path):
    context, sha256, _ = tls(tmp_path, "bmc")
    async with redfish_server(context) as (_, port):
        bmc = driver(port, scheme="redfish+https")
        assert (await bmc.identify()).extra["tls_sha256"] == sha256
        await bmc.close()


async def test_another_certificate_stops_before_the_password_is_sent(redfish_server, tmp_path):
    context, _, _ = tls(tmp_path, "bmc")
    async with redfish_server(context) as (peer, port):
        bmc = driver(port, options=f"verify=sha256:{'0' * 64}", scheme="redfish+https")
        with pytest.raises(BmcTls) as caught:
            await bmc.power()
        assert caught.value.cause == "pin"
        assert peer.requests == []
        await bmc.close()


async def test_a_ca_that_did_not_sign_stops_too(redfish_server, tmp_path):
    context, _, _ = tls(tmp_path, "bmc")
    _, _, other = tls(tmp_path, "other")
    async with redfish_server(context) as (peer, port):
        bmc = driver(port, options=f"verify={other}", scheme="redfish+https")
        with pytest.raises(BmcTls):
            await bmc.power()
        assert peer.requests == []
        await bmc.close()


NOW = {"BootSourceOverrideTarget": "None", "BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideMode": "UEFI"}
VENDORS = [  # quirks, boot object, device, once, uefi, what is sent
    (Quirks(), NOW, "pxe", True, None, {"BootSourceOverrideTarget": "Pxe", "BootSourceOverrideEnabled": "Once"}),
    (
        Quirks(full_boot_object=True),
        NOW,
        "pxe",
        True,
        None,
        {"BootSourceOverrideTarget": "Pxe", "BootSourceOverrideEnabled": "Once", "BootSourceOverrideMode": "UEFI"},
    ),
    (
        Quirks(),
        {**NOW, "BootSourceOverrideTarget": "Hdd", "BootSourceOverrideEnabled": "Continuous"},
        "disk",
        False,
        True,
        {"BootSourceOverrideTarget": "Hdd"},
    ),
    (
        Quirks(sends_boot_enabled=True),
        {**NOW, "BootSourceOverrideTarget": "Hdd", "BootSourceOverrideEnabled": "Continuous"},
        "disk",
        False,
        None,
        {"BootSourceOverrideTarget": "Hdd", "BootSourceOverrideEnabled": "Continuous"},
    ),
    (
        Quirks(),
        {**NOW, "BootSourceOverrideEnabled@Redfish.AllowableValues": ["Once", "Disabled"]},
        "disk",
        False,
        None,
        {"BootSourceOverrideTarget": "Hdd", "BootSourceOverrideEnabled": "Once"},
    ),
]


@pytest.mark.parametrize(("quirks", "boot", "device", "once", "uefi", "sent"), VENDORS)
def test_boot_change_by_vendor(quirks, boot, device, once, uefi, sent):
    assert boot_change(boot, BootDevice(device), once, uefi, quirks) == sent
