"""Ironic's driver and driver_info to a BMC URL with its password apart, and back."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, urlsplit

from baremetal.api.ironic.version import Refusal
from baremetal.bmc.url import BmcUrl

MASK = "******"
# driver name -> its interfaces, as `GET /v1/drivers` tells them.
DRIVERS = {
    "ipmi": ("ipmitool", "ipxe"),
    "redfish": ("redfish", "ipxe"),
    "manual-management": ("noop", "ipxe"),
    "fake-hardware": ("fake", "fake"),
}
PASSWORDS = ("ipmi_password", "redfish_password")
_SECRET = re.compile("password|secret|token|hex_kg_key|community|key_contents", re.IGNORECASE)
IPMI = {"ipmi_cipher_suite": "cipher", "ipmi_priv_level": "privilege"}


def bmc_of(driver: str, info: dict[str, Any], node_id: str) -> tuple[str, str | None]:
    """(BMC URL, password). An address that is missing gives "": the node can be enrolled, not managed."""
    if driver not in DRIVERS:
        raise Refusal(400, f"Driver {driver[:80]} could not be found: no such driver. Known: {', '.join(DRIVERS)}")
    if driver == "fake-hardware":
        return f"fake://{node_id}", None
    if driver == "manual-management":
        return f"manual://{node_id}", None
    if driver == "redfish":
        return _redfish(info)
    return _ipmi(info)


def _ipmi(info: dict[str, Any]) -> tuple[str, str | None]:
    password = _password(info, "ipmi_password")
    if not info.get("ipmi_address"):
        return "", password
    options = "&".join(
        f"{ours}={quote(str(info[theirs]).lower())}" for theirs, ours in IPMI.items() if info.get(theirs)
    )
    port = f":{info['ipmi_port']}" if info.get("ipmi_port") else ""
    host = str(info["ipmi_address"])
    host = f"[{host}]" if ":" in host else host
    return f"ipmi://{_user(info, 'ipmi_username')}{host}{port}" + (f"?{options}" if options else ""), password


def _redfish(info: dict[str, Any]) -> tuple[str, str | None]:
    password = _password(info, "redfish_password")
    if not info.get("redfish_address"):
        return "", password
    address = str(info["redfish_address"])
    parts = urlsplit(address if "://" in address else f"https://{address}")
    verify = info.get("redfish_verify_ca", True)
    options = "" if verify is True or parts.scheme == "http" else "?verify=pin"
    place = f"{parts.netloc}{info.get('redfish_system_id', '')}{options}"
    return f"redfish+{parts.scheme}://{_user(info, 'redfish_username')}{place}", password


def info_of(bmc_url: str) -> tuple[str, dict[str, Any]]:
    """(driver, driver_info) of a node that was not enrolled by this API. The password is masked."""
    if not bmc_url:
        return "ipmi", {}
    url = BmcUrl.parse(bmc_url)
    if url.scheme in ("fake", "manual"):
        return {"fake": "fake-hardware", "manual": "manual-management"}[url.scheme], {}
    if url.scheme.startswith("redfish"):
        scheme = url.scheme.partition("+")[2] or "https"
        return "redfish", {
            "redfish_address": f"{scheme}://{url.netloc}",
            "redfish_system_id": url.path,
            "redfish_username": url.user,
            "redfish_password": MASK,
        }
    info: dict[str, Any] = {"ipmi_address": url.host, "ipmi_username": url.user, "ipmi_password": MASK}
    if url.port not in (0, 623):
        info["ipmi_port"] = url.port
    return "ipmi", info


def masked(info: dict[str, Any]) -> dict[str, Any]:
    """Passwords and the like as ******."""
    return {k: MASK if v and _SECRET.search(k) else v for k, v in info.items()}


def _user(info: dict[str, Any], key: str) -> str:
    return f"{quote(str(info[key]), safe='')}@" if info.get(key) else ""


def _password(info: dict[str, Any], key: str) -> str | None:
    value = info.get(key)
    return None if value in (None, MASK) else str(value)
