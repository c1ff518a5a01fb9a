"""Everything a BMC can do wrong, each under its own name.

ipmitool has one line for seven causes; here every cause keeps its own code or
`cause`, because the way out differs: a wrong password is not tried again, a
busy BMC is, a silent one is looked for with other tools.
"""

from __future__ import annotations

from typing import ClassVar

from baremetal.errors import EXIT_DENIED, EXIT_TIMEOUT, EXIT_UNREACHABLE, BaremetalError


class BmcError(BaremetalError):
    """A BMC did not do what was asked.

    `cause` is a finer word than the code: `no-route`, `silent`, `no-ipmi2`,
    `handshake`, `user`, `password`, `kg`, `sessions`, … `retry` says whether
    the same request can succeed without anybody changing anything.
    `stage` names the part of the conversation it happened in.
    """

    code: ClassVar[str] = "bmc-error"
    retry: ClassVar[bool] = False

    def __init__(self, brief: str, *, detail: str = "", fix: str = "", cause: str = "", stage: str = "") -> None:
        super().__init__(brief, detail=detail, fix=fix)
        self.cause = cause
        self.stage = stage

    def to_json(self) -> dict[str, str]:
        """`{code, brief, …}` without empty members; never holds a credential."""
        doc = {"code": self.code, "brief": self.brief, "detail": self.detail, "fix": self.fix}
        doc |= {"cause": self.cause, "stage": self.stage}
        return {key: value for key, value in doc.items() if value}


class BmcUnreachable(BmcError):
    """Nothing answers at that address, or nothing that speaks the protocol."""

    code = "bmc-unreachable"
    exit_code = EXIT_UNREACHABLE
    retry = True


class BmcAuth(BmcError):
    """Wrong user, password or K_g (`cause` says which). Never retried: that locks accounts."""

    code = "bmc-auth"
    exit_code = EXIT_DENIED


class BmcPrivilege(BmcError):
    """The account logs in, but may not do this."""

    code = "bmc-privilege"
    exit_code = EXIT_DENIED


class BmcCipher(BmcError):
    """No cipher suite in common, or a weaker one than was agreed before."""

    code = "bmc-cipher"


class BmcBusy(BmcError):
    """The BMC says "later" (`cause="node"`) or is out of sessions (`cause="sessions"`)."""

    code = "bmc-busy"
    retry = True


class BmcUnsupported(BmcError):
    """This BMC, or this driver, cannot do that."""

    code = "bmc-unsupported"


class BmcRefused(BmcError):
    """Understood and refused: wrong state, wrong parameter, any other completion code."""

    code = "bmc-refused"


class BmcLied(BmcError):
    """It said yes and did not do it, seen by reading back."""

    code = "bmc-lied"


class BmcTimeout(BmcError):
    """It answered at first, then not in time. Whether a write was done is unknown: read back."""

    code = "bmc-timeout"
    exit_code = EXIT_TIMEOUT
    retry = True


class BmcProtocol(BmcError):
    """It answers nonsense: a bad checksum, a short record, JSON that is none."""

    code = "bmc-protocol"
    retry = True


class BmcTls(BmcError):
    """The certificate is not the pinned one, or not signed by the CA given. Stop and look."""

    code = "bmc-tls"
    exit_code = EXIT_DENIED


BY_CODE: dict[str, type[BmcError]] = {
    cls.code: cls
    for cls in (
        BmcError,
        BmcUnreachable,
        BmcAuth,
        BmcPrivilege,
        BmcCipher,
        BmcBusy,
        BmcUnsupported,
        BmcRefused,
        BmcLied,
        BmcTimeout,
        BmcProtocol,
        BmcTls,
    )
}


def from_json(doc: dict[str, str]) -> BmcError:
    """The error a worker process reported, as it was raised there."""
    cls = BY_CODE.get(doc.get("code", ""), BmcError)
    text = {key: doc.get(key, "") for key in ("detail", "fix", "cause", "stage")}
    return cls(doc.get("brief") or "BMC error without a text", **text)
