"""HTTP and Redfish failures as our errors: one cause, one sentence, one way out."""

from __future__ import annotations

import json
from typing import Any

import httpx

from baremetal.bmc.faults import (
    BmcAuth,
    BmcBusy,
    BmcError,
    BmcPrivilege,
    BmcProtocol,
    BmcRefused,
    BmcTimeout,
    BmcTls,
    BmcUnreachable,
    BmcUnsupported,
)
from baremetal.bmc.tlspin import PinMismatch


class Stale(Exception):
    """412 or 428: the ETag was old or missing; `error` is what to raise when it stays so."""

    def __init__(self, error: BmcError) -> None:
        super().__init__(error.brief)
        self.error = error


def messages(text: bytes) -> list[tuple[str, str]]:
    """(MessageId, Message) of `@Message.ExtendedInfo`, [] when there is none."""
    try:
        error = json.loads(text)["error"]
        infos = error.get("@Message.ExtendedInfo") or [error]
        return [
            (
                str(info.get("MessageId") or info.get("code") or ""),
                str(info.get("Message") or info.get("message") or ""),
            )
            for info in infos
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []


def failed(host: str, method: str, path: str, response: httpx.Response, text: bytes) -> Exception:
    """The error for a status of 400 and above."""
    said = messages(text)
    status = response.status_code
    detail = f"{method} {path[:120]}: HTTP {status}" + "".join(
        f"; {message or name}"[:300] for name, message in said[:3]
    )
    ids = " ".join(name for name, _ in said)
    if "UnableToModifyDuringSystemPOST" in ids or "SystemPOST" in ids:
        return BmcBusy(
            f"{host}: BMC changes nothing while the machine is in POST", detail=detail, fix="try again", cause="post"
        )
    if status == 401:
        return refused_login(host, response, text)
    if status == 403:
        if "PasswordChangeRequired" in ids:
            return BmcPrivilege(
                f"{host}: the password must be changed before anything else",
                detail=detail,
                cause="password-change",
                fix="set a new one",
            )
        return BmcPrivilege(f"{host}: the account may not do this", detail=detail, fix="give it the Administrator role")
    if status in (412, 428):
        return Stale(BmcRefused(f"{host}: resource changed meanwhile", detail=detail, cause="etag", fix="try again"))
    if status in (404, 405, 410, 501):
        return BmcUnsupported(f"{host}: this Redfish service cannot do that", detail=detail)
    if status in (429, 503):
        return BmcBusy(
            f"{host}: BMC busy", detail=detail, fix="try again", cause="sessions" if "SessionLimit" in ids else "node"
        )
    if status == 409:
        return BmcRefused(f"{host}: BMC refused in the present state", detail=detail, cause="state")
    if status >= 500:
        return BmcProtocol(f"{host}: BMC failed", detail=detail, fix="try again", stage="command")
    return BmcRefused(f"{host}: BMC refused", detail=detail, cause=ids[:80])


def refused_login(host: str, response: httpx.Response, text: bytes) -> BmcAuth:
    said = "; ".join(message for _, message in messages(text) if message)[:300]
    return BmcAuth(
        f"{host}: BMC refuses user or password",
        detail=said or f"HTTP {response.status_code}",
        fix="correct user and password; not tried again by itself, so that no account gets locked",
        cause="password",
        stage="login",
    )


def transport(host: str, timeout_s: float, exc: httpx.TransportError, pin: PinMismatch | None) -> BmcError:
    """No HTTP answer at all."""
    text = str(exc) or type(exc).__name__
    if pin is not None:
        return BmcTls(
            f"{host}: BMC shows another certificate than before",
            detail=str(pin.args[0]),
            fix="find out why; if it was renewed: baremetal node set NODE -p bmc= forgets the old one, "
            "or write ?verify=sha256:… into the address",
            cause="pin",
            stage="tls",
        )
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return BmcTls(
            f"{host}: certificate not signed by the CA given",
            detail=text[:300],
            fix="give the right CA file in ?verify=, or pin it with ?verify=pin",
            cause="ca",
            stage="tls",
        )
    if isinstance(exc, httpx.ConnectTimeout):
        return BmcUnreachable(
            f"{host}: no answer on its Redfish port",
            detail=text,
            fix="check address and VLAN",
            cause="silent",
            stage="connect",
        )
    if isinstance(exc, (httpx.ReadTimeout, httpx.WriteTimeout, httpx.PoolTimeout)):
        return BmcTimeout(f"{host}: no answer within {timeout_s:.0f} s", detail=text, fix="try again", stage="command")
    if isinstance(exc, httpx.ConnectError):
        cause = "no-redfish" if "refused" in text.lower() or "SSL" in text else "no-route"
        return BmcUnreachable(
            f"{host}: no connection to its Redfish port",
            detail=text[:300],
            fix="check address, port and scheme",
            cause=cause,
            stage="connect",
        )
    return BmcProtocol(f"{host}: connection broke", detail=text[:300], fix="try again", stage="command")


def task_failed(host: str, doc: dict[str, Any]) -> BmcRefused:
    said = "; ".join(str(found.get("Message", "")) for found in doc.get("Messages") or [] if isinstance(found, dict))
    return BmcRefused(f"{host}: task ended as {doc.get('TaskState')}", detail=said[:500], cause="task")
