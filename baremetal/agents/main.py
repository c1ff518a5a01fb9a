"""`baremetal agent VERB …`, and the original names: picks the command by verb or by its own name.

argparse and lazy imports only: a script that asks for one key must not wait.
"""

from __future__ import annotations

import os
import sys
from typing import Callable, Dict, List, Optional, Sequence

USAGE = """usage: baremetal agent VERB [options]

  run        the resident agent: collect, apply, refresh, report, for good
  collect    poll metadata sources, run a command when they change   (os-collect-config)
  apply      render templates from metadata, all or none; --key VALUE (os-apply-config)
  refresh    run the phase scripts                                   (os-refresh-config)
  run-parts  run the scripts of one directory                        (dib-run-parts)
  status     what is applied, what drifted; --wait, --json
  diff       what the current metadata would change; exit 2 if anything
  rollback   put the files of the last transactions back

The names in brackets are accepted as verbs too. Each verb has --help."""


def main(argv: Optional[Sequence[str]] = None) -> int:
    """The verb comes first; gives the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE)
        return 0 if arguments else 2
    verb = VERBS.get(arguments[0]) or NAMES.get(arguments[0])
    if verb is None:
        print(f"baremetal agent: unknown verb {arguments[0]!r}\n\n{USAGE}", file=sys.stderr)
        return 2
    return _guarded(verb, arguments[1:], f"baremetal agent {arguments[0]}")


def by_name(path: str, argv: Sequence[str]) -> int:
    """Run as one of the original commands, by the name it was called with."""
    name = os.path.basename(path)
    verb = NAMES.get(name)
    if verb is None:
        return main(argv)
    return _guarded(verb, list(argv), name)


def _guarded(verb: Callable[[List[str], str], int], arguments: List[str], name: str) -> int:
    try:
        status = verb(arguments, name)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nobody reads: leave quietly
        return 1


def _apply(arguments: List[str], name: str) -> int:
    from baremetal.agents.apply.cli import main as run

    return run(arguments, name)


def _collect(arguments: List[str], name: str) -> int:
    from baremetal.agents.collect.cli import main as run

    return run(arguments, name)


def _refresh(arguments: List[str], name: str) -> int:
    from baremetal.agents.refresh.cli import main as run

    return run(arguments, name)


def _run_parts(arguments: List[str], name: str) -> int:
    from baremetal.agents.refresh.cli import run_parts

    return run_parts(arguments, name)


def _resident(arguments: List[str], name: str) -> int:
    from baremetal.agents.resident.cli import run

    return run(arguments, name)


def _status(arguments: List[str], name: str) -> int:
    from baremetal.agents.resident.cli import status

    return status(arguments, name)


def _diff(arguments: List[str], name: str) -> int:
    from baremetal.agents.apply.cli import main as run

    return run(["--diff", *arguments], name)


def _rollback(arguments: List[str], name: str) -> int:
    from baremetal.agents.resident.cli import rollback

    return rollback(arguments, name)


VERBS: Dict[str, Callable[[List[str], str], int]] = {
    "run": _resident,
    "collect": _collect,
    "apply": _apply,
    "refresh": _refresh,
    "run-parts": _run_parts,
    "status": _status,
    "diff": _diff,
    "rollback": _rollback,
}
NAMES: Dict[str, Callable[[List[str], str], int]] = {
    "os-apply-config": _apply,
    "os-config-applier": _apply,
    "os-collect-config": _collect,
    "os-refresh-config": _refresh,
    "dib-run-parts": _run_parts,
}
