"""Validation groups as TripleO had them: small checks with a reason and a fix. Nothing here changes anything.

A check is one small file in this directory: an async function of Facts that
returns pass, fail or skip. `run` runs those of a group, in the order in which
a person would cure them. A new check is a file here and its name in ORDER.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

from baremetal.errors import BaremetalError, UsageError
from baremetal.model.node import Node, Port
from baremetal.workflows.passes import World
from baremetal.workflows.site import Image

ORDER = (
    "clock",
    "network-served",
    "rival-dhcp",
    "loaders-fetchable",
    "ramdisk-there",
    "bmc-answers",
    "bmc-boot-override",
    "power-known",
    "ports-known",
    "inspected",
    "memory-enough",
    "image-complete",
    "disk-large-enough",
    "boot-mode-fits",
    "deployable",
    "no-fault",
    "active",
    "configured",
    "database-sound",
    "disk-space",
    "nothing-under-way",
)
GROUPS = ("pre-enroll", "pre-deploy", "post-deploy", "pre-upgrade")


@dataclass(frozen=True)
class Verdict:
    """`verdict` is pass, fail or skip; `reason` says what was seen, `fix` what to do when it failed."""

    verdict: str
    reason: str
    fix: str = ""


@dataclass(frozen=True)
class Facts:
    """What checks look at."""

    world: World
    node: Node
    ports: list[Port]
    inventory: dict[str, Any] | None
    image: Image | None
    generation: int | None


Check = Callable[[Facts], Awaitable[Verdict]]


@dataclass(frozen=True)
class Known:
    """One check and the groups it belongs to."""

    name: str
    groups: tuple[str, ...]
    check: Check


log = logging.getLogger(__name__)
REGISTRY: list[Known] = []


def check(name: str, *groups: str) -> Callable[[Check], Check]:
    """Register a check."""

    def register(function: Check) -> Check:
        REGISTRY.append(Known(name, groups, function))
        return function

    return register


def passed(reason: str) -> Verdict:
    """It is well."""
    return Verdict("pass", reason)


def failed(reason: str, fix: str) -> Verdict:
    """It is not, and this helps."""
    return Verdict("fail", reason, fix)


def skipped(reason: str) -> Verdict:
    """It cannot be said now, and why."""
    return Verdict("skip", reason)


async def run(group: str, facts: Facts) -> list[dict[str, Any]]:
    """All checks of the group, in their order; one that fails stops no other."""
    if group not in GROUPS:
        raise UsageError(f"there is no validation group {group!r}", fix=f"groups: {', '.join(GROUPS)}")
    results = []
    for known in all_checks():
        if group in known.groups:
            try:
                verdict = await known.check(facts)
            except BaremetalError as exc:
                verdict = failed(exc.brief, exc.fix)
            except Exception as exc:
                log.exception("check %s", known.name)
                verdict = failed(f"the check itself failed: {type(exc).__name__}", "report it with the server's log")
            results.append({"name": known.name, "group": group, **asdict(verdict)})
    return results


def all_checks() -> list[Known]:
    """Every check of this directory, those named in ORDER first."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    place = {name: index for index, name in enumerate(ORDER)}
    return sorted(REGISTRY, key=lambda known: place.get(known.name, len(place)))
