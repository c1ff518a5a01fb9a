"""What an error is over HTTP."""

from __future__ import annotations

from baremetal.errors import BaremetalError

# By the error's code, or that of the class above it; anything else is 500.
STATUS = {
    "usage": 400,
    "not-found": 404,
    "refused": 409,
    "fenced": 412,
    "denied": 403,
    "nonce-refused": 403,
    "unreachable": 502,
    "timeout": 504,
    "machine": 503,
    "store": 503,
    "bmc-unsupported": 501,
    "bmc-error": 502,
}


def status_of(exc: BaremetalError) -> int:
    """The HTTP status of an error."""
    for cls in type(exc).__mro__:
        code = getattr(cls, "code", None)
        if code in STATUS:
            return STATUS[str(code)]
    return 500
