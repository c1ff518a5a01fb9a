"""Wishes of operators: checked, written down, never carried out here.

Each function is one write on the store's writer thread; the next pass acts on
what it left. Refusals name what is allowed instead, or who is before you.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from sqlalchemy.engine import Connection

from baremetal import lifecycle
from baremetal.errors import BaremetalError, Refused, UsageError
from baremetal.lifecycle import Phase, Verb
from baremetal.model.event import Event, Kind
from baremetal.model.node import Node, State
from baremetal.store import events, nodes
from baremetal.workflows import diskless, ids, powerverbs, rescue, steps
from baremetal.workflows import runner as runner  # its import registers every step
from baremetal.workflows.entering import INTERFACE
from baremetal.workflows.passes import need_bmc
from baremetal.workflows.site import Images

# Arguments that events do not show.
SECRET = ("metadata", "config_drive", "password", "password_hash")
# As the ramdisk knows them: a word it does not know would be refused only after a boot.
CLEAN_METHODS = ("metadata", "zero", "discard", "secure", "best")
# Arguments each verb takes.
TAKES: dict[Verb, frozenset[str]] = {
    Verb.DEPLOY: frozenset({"image", "root_device", "metadata", "config_drive", "steps", "data_partition"}),
    Verb.REBUILD: frozenset(
        {"image", "root_device", "metadata", "config_drive", "steps", "data_partition", "preserve"}
    ),
    Verb.CLEAN: frozenset({"steps", "method", "disks", "erase_foreign"}),
    Verb.PROVIDE: frozenset({"steps", "method", "erase_foreign"}),
    Verb.SERVICE: frozenset({"steps"}),
    Verb.ADOPT: frozenset({"image"}),
    Verb.INSPECT: frozenset({"steps", "lldp_s"}),
    Verb.RESCUE: rescue.TAKES,
}


def ask(conn: Connection, ref: str, verb: Verb, args: dict[str, Any], by: str, now: float, images: Images) -> Node:
    """Accept or refuse a verb; the node as it stands with the wish written down."""
    node = nodes.get(conn, ref)
    _not_while_power(conn, node, now)
    after = plan(node, verb, args, by, now, images)
    event = Event(ids.ulid(now), now, node.id, Kind.VERB, str(verb), by, data={"args": _public(args)})
    saved = nodes.save(conn, node, after, now)
    events.add_all(conn, [event])
    return saved


def plan(node: Node, verb: Verb, args: dict[str, Any], by: str, now: float, images: Images) -> Node:
    """What the node would look like with this wish; raises Refused or UsageError. Writes nothing."""
    to = lifecycle.check(node, verb, now=now)
    unknown = set(args) - TAKES.get(verb, frozenset())
    if unknown:
        takes = ", ".join(sorted(TAKES.get(verb, frozenset()))) or "no arguments"
        raise UsageError(f"{verb} does not know {', '.join(sorted(unknown))}", fix=f"it takes {takes}")
    if args.get("method") and args["method"] not in CLEAN_METHODS:
        raise UsageError(f"no clean method {args['method']!r}", fix=f"one of {', '.join(CLEAN_METHODS)}")
    if node.power_wanted:
        raise Refused(
            f"{node.name}: power {node.power_wanted} is under way", fix="wait until it is done, a few seconds"
        )
    if verb in lifecycle.STEERING and lifecycle.phase(node) is not Phase.FAILED:
        return _steer(node, verb, by, now)
    if verb is Verb.RESCUE:
        args = rescue.checked(args)
    _check(node, verb, to, args, images)
    return dataclasses.replace(
        node,
        wanted=str(verb),
        wanted_args=args,
        wanted_by=by,
        wanted_since=now,
        work={"ask": str(verb), "to": str(to), "order": node.work.get("order")},
        wait=None,
        held=None,
        wake_at=now,
    )


def _steer(node: Node, verb: Verb, by: str, now: float) -> Node:
    if verb is Verb.UNHOLD:
        return dataclasses.replace(node, held=None, wake_at=now)
    entry = {"hold_asked": by} if verb is Verb.HOLD else {"abort": {"by": by, "at": now}}
    wake = now if verb is Verb.ABORT else node.wake_at
    return dataclasses.replace(node, work={**node.work, **entry}, wake_at=wake)


def _check(node: Node, verb: Verb, to: State, args: dict[str, Any], images: Images) -> None:
    """What can be known before anything begins."""
    for doc in args.get("steps") or []:
        steps.parse(doc, INTERFACE[to])
    if verb is Verb.DEPLOY and not args.get("image"):
        raise UsageError(f"deploy {node.name}: which image?", fix="give an image: baremetal image list")
    if verb in (Verb.DEPLOY, Verb.REBUILD):
        _check_image(node, str(args.get("image") or node.image_id or ""), images)
    need_bmc(node)


def _check_image(node: Node, ref: str, images: Images) -> None:
    image = images.get(ref)
    if diskless.is_diskless(image):
        return
    if image.kind != "disk":
        raise UsageError(f"image {image.name} is a {image.kind}, not a disk image", fix="baremetal image list")
    manifest = image.manifest
    if manifest is None:
        return
    if str(node.firmware) != "unknown" and manifest.firmware and str(node.firmware) not in manifest.firmware:
        raise Refused(
            f"{node.name} boots by {node.firmware}, image {image.name} only by {', '.join(manifest.firmware)}",
            fix="choose an image that boots both ways, or change the node's firmware mode",
        )
    if manifest.arch and node.arch != manifest.arch:
        raise Refused(f"{node.name} is {node.arch}, image {image.name} is {manifest.arch}", fix="baremetal image list")
    disk = int(node.properties.get("local_gb") or 0) * 10**9
    need = max(manifest.min_disk, manifest.raw_size)
    if disk and disk + 10**9 <= need:
        raise Refused(
            f"{node.name}: its largest disk has {disk // 10**9} GB, image {image.name} needs {need / 1e9:.1f} GB",
            fix="choose a smaller image or another node",
        )


def power(conn: Connection, ref: str, target: str, by: str, now: float) -> Node:
    """Accept or refuse a power wish."""
    if target not in powerverbs.TARGETS:
        raise UsageError(f"power {target!r}", fix=f"one of: {', '.join(powerverbs.TARGETS)}")
    node = nodes.get(conn, ref)
    need_bmc(node)
    if node.wanted is not None:
        raise Refused(
            f"{node.name}: {node.wanted} by {node.wanted_by or 'somebody'} is under way; it decides about power",
            fix=f"wait for it, or: baremetal node abort {node.name}",
        )
    if node.power_wanted != target and (node.power_wanted, target) != ("soft-off", "off"):
        _not_while_power(conn, node, now)
    work = {k: v for k, v in node.work.items() if k != "here"}
    after = dataclasses.replace(node, power_wanted=target, work=work, wake_at=now)
    events.add_all(conn, [Event(ids.ulid(now), now, node.id, Kind.VERB, f"power {target}", by)])
    return nodes.save(conn, node, after, now)


def _not_while_power(conn: Connection, node: Node, now: float) -> None:
    """Refused while an earlier power wish is carried out, with who asked for it and when."""
    if not node.power_wanted:
        return
    told = events.of_node(conn, node.id, kinds=[str(Kind.VERB)], limit=5)
    last = next((e for e in reversed(told) if e.stage == f"power {node.power_wanted}"), None)
    who = f", asked by {last.source} {max(0.0, now - last.time):.0f} s ago" if last else ""
    fix = "wait until it is done, a few seconds"
    if node.power_wanted == "soft-off":  # a system may take its time, or never do it
        fix = f"wait until it has shut down, or cut the power now: baremetal node power off {node.name}"
    raise Refused(f"{node.name}: power {node.power_wanted} is under way{who}", fix=fix)


def consequences(node: Node, verb: Verb, args: dict[str, Any] | None = None) -> list[str]:
    """What a verb will do to the machine, for a dry run."""
    asked = [steps.parse(doc, "clean") for doc in (args or {}).get("steps") or []] if verb is Verb.PROVIDE else []
    if any(step.name == "clean.erase_devices_metadata" and step.priority <= 0 for step in asked):
        return ["power cycle into the ramdisk", "nothing is erased: what is on its disks the next user can read"]
    asks = node.state in (State.ENROLL, State.MANAGEABLE)
    found = {
        Verb.MANAGE: ["asks the BMC who it is"] if asks else ["back to manageable; the machine is not touched"],
        Verb.INSPECT: ["power cycle into the ramdisk", "nothing is written to its disks"],
        Verb.PROVIDE: ["power cycle into the ramdisk", "ERASES the partition tables of its disks"],
        Verb.CLEAN: ["power cycle into the ramdisk", "ERASES what the clean steps say"],
        Verb.DEPLOY: ["power cycle into the ramdisk", "OVERWRITES the root disk", "starts the new system"],
        Verb.REBUILD: ["stops the running system", "OVERWRITES the root disk", "starts the new system"],
        Verb.UNDEPLOY: ["stops the running system", "ERASES the partition tables of its disks"],
        Verb.RESCUE: ["stops the running system", "power cycle into the ramdisk", "lets a person in"],
        Verb.UNRESCUE: ["power cycle into the deployed system"],
        Verb.SERVICE: ["stops the running system", "power cycle into the ramdisk and back"],
    }
    return found.get(verb, [])


def each(refs: list[str], one: Callable[[str], Node]) -> list[dict[str, Any]]:
    """A verdict per node; one refusal stops no other."""
    results: list[dict[str, Any]] = []
    for ref in refs:
        try:
            node = one(ref)
        except BaremetalError as exc:
            error = {"code": exc.code, "brief": exc.brief, "detail": exc.detail, "fix": exc.fix}
            results.append({"node": ref, "verdict": "refused", "because": exc.brief, "error": error})
        else:
            results.append({"node": node.name, "verdict": "accepted", "because": "", "error": None})
    return results


def _public(args: dict[str, Any]) -> dict[str, Any]:
    """Arguments as the event shows them: metadata and user data may hold secrets."""
    return {k: ("******" if k in SECRET and v else v) for k, v in args.items()}
