"""IPMI completion codes (IPMI 2.0 table 5-2) as errors with a way out."""

from __future__ import annotations

from baremetal.bmc.faults import BmcBusy, BmcError, BmcPrivilege, BmcProtocol, BmcRefused, BmcTimeout, BmcUnsupported

TEXT = {
    0xC0: "node busy",
    0xC1: "invalid command",
    0xC2: "command invalid for this LUN",
    0xC3: "timeout while processing the command",
    0xC4: "out of space",
    0xC5: "reservation cancelled or invalid",
    0xC6: "request data truncated",
    0xC7: "request data length invalid",
    0xC8: "request data field length limit exceeded",
    0xC9: "parameter out of range",
    0xCA: "cannot return that many bytes",
    0xCB: "sensor, data or record not present",
    0xCC: "invalid data field in request",
    0xCD: "command illegal for that sensor or record type",
    0xCE: "response could not be provided",
    0xCF: "duplicated request",
    0xD0: "SDR repository in update mode",
    0xD1: "device in firmware update mode",
    0xD2: "BMC initialisation in progress",
    0xD3: "destination unavailable",
    0xD4: "insufficient privilege level",
    0xD5: "not supported in the present state",
    0xD6: "sub-function disabled or unavailable",
    0xFF: "unspecified error",
}
BUSY = {0xC0, 0xD0, 0xD1, 0xD2}
_UNSUPPORTED = {0xC1, 0xC2, 0xD6}
_BROKEN = {0xCE, 0xC6}


def error(host: str, what: str, code: int) -> BmcError:
    """The error for a non-zero completion code; `what` is the command in words."""
    text = TEXT.get(code, "command-specific code")
    detail = f"completion code {code:02X}h: {text}"
    if code == 0xD4:
        return BmcPrivilege(
            f"{host}: the account may not {what}",
            detail=detail,
            fix="give the account the administrator role on the LAN channel, or use another one",
            stage="command",
        )
    if code in BUSY:
        return BmcBusy(
            f"{host}: BMC busy, could not {what}", detail=detail, fix="try again", cause="node", stage="command"
        )
    if code == 0xC3:
        return BmcTimeout(f"{host}: BMC gave up on: {what}", detail=detail, fix="try again", stage="command")
    if code in _UNSUPPORTED:
        return BmcUnsupported(f"{host}: BMC cannot {what}", detail=detail, stage="command")
    if code in _BROKEN:
        return BmcProtocol(f"{host}: BMC failed to {what}", detail=detail, fix="try again", stage="command")
    return BmcRefused(f"{host}: BMC refused to {what}", detail=detail, cause=f"cc-{code:02x}", stage="command")
