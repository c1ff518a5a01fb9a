"""How a command fails: `error: what` / what was seen / `fix: what to do` on stderr, and a documented exit code."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from baremetal.errors import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_USAGE,
    BaremetalError,
    MachineError,
    UsageError,
)


def guard(command: Callable[[], object]) -> int:
    """Run a command; whatever goes wrong becomes words and an exit code."""
    try:
        returned = command()
        sys.stdout.flush()  # what cannot be written is told here, not by Python at its end
    except SystemExit as exc:
        return _code(exc)
    except BaremetalError as exc:
        show(exc)
        return exc.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # `baremetal node list | head`: nobody reads any more, which is no error of ours.
        _write_no_more()
        return EXIT_OK
    except Exception as exc:
        if hasattr(exc, "format_message"):  # Typer's own: it was typed wrong
            return _mistyped(exc)
        if type(exc).__name__ == "Abort":
            print("nothing was done", file=sys.stderr)
            return EXIT_FAILED
        if os.environ.get("BAREMETAL_DEBUG"):
            raise
        error = _of_this_machine(exc) or _of_the_output(exc) or _unexpected(exc)
        show(error)
        return error.exit_code
    return returned if isinstance(returned, int) else EXIT_OK


def show(error: BaremetalError) -> None:
    """The error for a person, on stderr."""
    from baremetal.cli import clean  # late: --help needs none of it

    lines = [f"error: {error.brief}"]
    lines += [f"  {line}" for line in error.detail.splitlines()]
    if fix := error.fix or _help_of(error):
        lines.append(f"  fix: {fix}")
    print(clean.text("\n".join(lines)), file=sys.stderr)


ALONE = ("events", "watch", "status", "serve", "init", "doctor", "settings", "diagnose", "audit")


def _help_of(error: BaremetalError) -> str:
    """Of what was typed wrong and says no better: the command's help page."""
    import itertools
    import re

    words = list(itertools.takewhile(lambda word: re.fullmatch(r"[a-z][a-z-]*", word), sys.argv[1:3]))
    if error.exit_code != EXIT_USAGE or not words:
        return ""
    return f"baremetal {' '.join(words[:1] if words[0] in ALONE else words)} --help"


def unknown_command(word: str, known: list[str]) -> NoReturn:
    """No such noun; with what it is called here, or the nearest."""
    from baremetal.cli.misuse import unknown_noun

    raise unknown_noun(word, known)


def _mistyped(exc: Any) -> int:
    """What was typed wrong, in our words; of a noun alone its help page."""
    if type(exc).__name__ == "NoArgsIsHelpError":
        exc.show()
    else:
        from baremetal.cli.misuse import told

        show(told(exc))
    return int(exc.exit_code)


def _code(exc: SystemExit) -> int:
    if exc.code is None:
        return EXIT_OK
    return exc.code if isinstance(exc.code, int) else EXIT_FAILED


def _of_this_machine(exc: Exception) -> BaremetalError | None:
    """A right or space that is missing here, wherever it was missed; None for anything else."""
    if not isinstance(exc, OSError) or not exc.filename:
        return None
    if isinstance(exc, PermissionError):
        fix = "use sudo, or name a place of yours (--state-dir, --config, --cache-dir, settings)"
        return MachineError(f"this user may not use {exc.filename}", detail=exc.strerror or "", fix=fix)
    if exc.filename in sys.argv[1:]:
        return UsageError(f"{exc.filename}: {exc.strerror}", fix="name what is there")
    if exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return MachineError(f"{exc.filename}: {exc.strerror}", fix="make room: df -h")
    return None


def _of_the_output(exc: Exception) -> BaremetalError | None:
    """What `> file` leads to is full."""
    if not isinstance(exc, OSError) or exc.filename or exc.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    _write_no_more()
    return MachineError("no space left for the output", detail=exc.strerror or "", fix="make room: df -h")


def _write_no_more() -> None:
    """Else Python tries again at its end what could not be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _unexpected(exc: Exception) -> BaremetalError:
    brief = f"this should not happen: {type(exc).__name__}: {exc}"
    where = _write_log(exc)
    detail = f"the traceback is in {where}" if where else ""
    return BaremetalError(brief, detail=detail, fix="report it with that file; BAREMETAL_DEBUG=1 shows it here")


def _write_log(exc: Exception) -> Path | None:
    import traceback

    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    path = Path(state) / "baremetal" / "cli-error.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "a") as file:
            file.write(f"\n$ {' '.join(sys.argv[:3])} …\n")  # the rest may hold a secret
            traceback.print_exception(exc, file=file)
    except OSError:
        return None
    return path
