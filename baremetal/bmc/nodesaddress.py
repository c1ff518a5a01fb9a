"""How a nodes file says where a BMC is: TripleO's pm_* keys and Ironic's driver_info, as our URL."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, urlencode

from baremetal.bmc.nodesfields import Row, text_of
from baremetal.secrets import Secret

# Drivers Ironic has and we reach by their Redfish or IPMI side, and those only a person can press.
_REDFISH = ("redfish", "idrac", "drac", "ilo", "irmc", "xclarity")
_MANUAL = ("manual", "wol", "iboot", "amt", "ucs", "ssh", "ovirt")

Address = tuple[str, Secret, dict[str, Any]]


def tripleo_address(row: Row) -> Address | None:
    """pm_* fields; old spellings of pm_type by their pattern."""
    kind = (row.text("pm_type") or "").lower()
    host, user = row.text("pm_addr"), row.text("pm_user") or ""
    secret, port = row.text("pm_password", secret=True), row.number("pm_port")
    extra = {key: row.get(key) for key in list(row.data) if _passed_on(key)}
    if not kind:
        row.problem("pm_type is empty")
        return None
    if "ipmi" in kind:
        return _ipmi(row, host, user, secret, port, extra)
    if any(word in kind for word in _REDFISH):
        return _redfish(row, kind, host, user, secret, port, extra)
    if kind.startswith("fake"):
        return f"fake://{_label(row, host)}", Secret(secret or ""), {**extra, "pm_type": kind}
    if any(word in kind for word in _MANUAL):
        return f"manual://{_label(row, host)}", Secret(secret or ""), {**extra, "pm_type": kind, **_where(host, port)}
    row.problem(f"pm_type {kind[:40]!r} is not known")
    return None


def _passed_on(key: str) -> bool:
    prefixes = ("ipmi_", "redfish_", "drac_", "ilo_", "irmc_", "xclarity_", "ansible_")
    named = (
        "vm_name",
        "relay_id",
        "service_profile",
        "auth_method",
        "client_timeout",
        "sensor_method",
        "deploy_iso",
        "virt_type",
    )
    return key.startswith(prefixes) or key in {f"pm_{name}" for name in named}


def _where(host: str | None, port: int | None) -> dict[str, Any]:
    return {name: value for name, value in (("pm_addr", host), ("pm_port", port)) if value is not None}


def _label(row: Row, host: str | None) -> str:
    name = row.data.get("name")
    label = name if isinstance(name, str) and name else host or f"node-{row.index}"
    return re.sub(r"[^A-Za-z0-9_.-]", "-", label).strip("-.") or f"node-{row.index}"


def _ipmi(
    row: Row, host: str | None, user: str, secret: str | None, port: int | None, extra: dict[str, Any]
) -> Address | None:
    if not host:
        row.problem("pm_addr is missing")
        return None
    options = {}
    cipher = extra.pop("ipmi_cipher_suite", None)
    if cipher is not None:
        options["cipher"] = str(cipher)
    level = extra.pop("ipmi_priv_level", None)
    if level is not None:
        options["privilege"] = str(level).lower()
    return _url("ipmi", user, host, port, "", options), Secret(secret or ""), extra


def _redfish(
    row: Row, kind: str, host: str | None, user: str, secret: str | None, port: int | None, extra: dict[str, Any]
) -> Address | None:
    system = row.text("pm_system_id")
    for key, value in (("pm_addr", host), ("pm_user", user), ("pm_password", secret)):
        if not value:
            row.problem(f"{key} is missing")
    if kind == "redfish" and not system:
        row.problem("pm_system_id is missing")
    if not host or not user or not secret:
        return None
    scheme = "redfish+https"
    if host.startswith(("http://", "https://")):
        scheme, host = f"redfish+{host.partition('://')[0]}", host.partition("://")[2].rstrip("/")
    options = {}
    verify = extra.pop("redfish_verify_ca", None)
    if verify is not None and scheme == "redfish+https":
        options["verify"] = {"true": "ca", "false": "none"}.get(str(verify).lower(), str(verify))
    path = system or ""
    if path and not path.startswith("/"):
        options["system"], path = path, ""
    return _url(scheme, user, host, port, path, options), Secret(secret), {**extra, "pm_type": kind}


def _url(scheme: str, user: str, host: str, port: int | None, path: str, options: dict[str, str]) -> str:
    if host.count(":") > 1 and not host.startswith("["):
        host = f"[{host}]"
    at = f"{quote(user, safe='', errors='surrogateescape')}@" if user else ""
    query = f"?{urlencode(options)}" if options else ""
    return f"{scheme}://{at}{host}{f':{port}' if port is not None else ''}{quote(path)}{query}"


def ironic_address(row: Row) -> Address | None:
    """Ironic's `driver` and `driver_info` as `openstack baremetal create` takes them."""
    kind = (row.text("driver") or "").lower()
    info = row.object("driver_info")
    if "ipmi" in kind:
        picked = {name: info.pop(f"ipmi_{name}", None) for name in ("address", "username", "password", "port")}
        port = _port(row, picked["port"])
        return _ipmi(
            row, text_of(picked["address"]), text_of(picked["username"]) or "", text_of(picked["password"]), port, info
        )
    if any(word in kind for word in _REDFISH):
        prefix = next((p for p in ("redfish", "drac", "ilo", "irmc", "xclarity") if f"{p}_address" in info), "redfish")
        picked = {
            name: info.pop(f"{prefix}_{name}", None)
            for name in ("address", "username", "password", "system_id", "port")
        }
        row.data["pm_system_id"] = picked["system_id"] or "/redfish/v1"
        address = text_of(picked["address"])
        return _redfish(
            row,
            kind,
            address,
            text_of(picked["username"]) or "",
            text_of(picked["password"]),
            _port(row, picked["port"]),
            info,
        )
    if kind.startswith("fake"):
        return f"fake://{_label(row, None)}", Secret(""), info
    if kind.startswith("manual"):
        return f"manual://{_label(row, None)}", Secret(""), info
    row.problem(f"driver {kind[:40]!r} is not known" if kind else "driver is missing")
    return None


def _port(row: Row, value: Any) -> int | None:
    if value is None:
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        row.problem("port is not a number")
        return None
