"""The one family of errors: what happened, what was seen, what to do next.

Everything that can go wrong for a reason a person can act on is raised as a
BaremetalError. The CLI prints it, the API renders it, a workflow turns it into
a Fault beside the node's state. Runs on the node too: standard library only,
Python 3.9.
"""

from __future__ import annotations

from typing import ClassVar

# Exit codes of every command; documented in docs/reference/exit-codes.md.
EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_FOUND = 3
EXIT_REFUSED = 4
EXIT_DENIED = 5
EXIT_UNREACHABLE = 6
EXIT_TIMEOUT = 7
EXIT_MACHINE = 8
EXIT_INTERRUPTED = 130


class BaremetalError(Exception):
    """A failure with a name, and with a way out.

    `brief` is one line: what happened, to whom. `detail` is what was seen (it
    may be several lines). `fix` is what to do next, a command where there is
    one. `code` is stable and machine-readable.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = EXIT_FAILED

    def __init__(self, brief: str, *, detail: str = "", fix: str = "") -> None:
        super().__init__(brief)
        self.brief = brief
        self.detail = detail
        self.fix = fix

    def __str__(self) -> str:
        return "\n".join(part for part in (self.brief, self.detail, self.fix and f"fix: {self.fix}") if part)


class UsageError(BaremetalError):
    """Input that cannot be understood: a file, a flag, a value."""

    code = "usage"
    exit_code = EXIT_USAGE


class NotFound(BaremetalError):
    """The named thing does not exist."""

    code = "not-found"
    exit_code = EXIT_NOT_FOUND


class Refused(BaremetalError):
    """Understood, but not allowed in this state; says what is allowed."""

    code = "refused"
    exit_code = EXIT_REFUSED


class Denied(BaremetalError):
    """Wrong or missing credentials, token or role."""

    code = "denied"
    exit_code = EXIT_DENIED


class Unreachable(BaremetalError):
    """The other side does not answer: server, BMC, node."""

    code = "unreachable"
    exit_code = EXIT_UNREACHABLE


class TimedOut(BaremetalError):
    """It answered, but did not finish in the time given."""

    code = "timeout"
    exit_code = EXIT_TIMEOUT


class MachineError(BaremetalError):
    """This machine lacks something: root, a package, disk space, a free port."""

    code = "machine"
    exit_code = EXIT_MACHINE
