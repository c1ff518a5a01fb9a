"""What an agent on a node and the boot plane say to each other over HTTPS.

Paths below AGENT_ROOT; `Authorization: Bearer <token>` on all but hello.

    POST hello                     Hello -> HelloAnswer
    GET  order?wait=S&after=ID     -> 200 Order, or 204 when S seconds passed
    POST report                    Report -> 200 {}
    GET  metadata?wait=S           If-None-Match: "<generation>" -> 200 document, 304
    GET  request/TOKEN             -> 200 {...values, "deployments": [...]}, for clients that send no header
    POST config-report             ConfigReport -> 200 {}

Order and report are the ramdisk's, metadata and config-report the deployed system's; a token is good for its own.

Errors are JSON {"error": {"code", "brief", "detail", "fix"}}: 401 token unknown
or dead (the agent says hello again only with a fresh nonce), 403 nonce refused,
503 control away (try again after Retry-After).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from baremetal.protocol.doc import Document

AGENT_ROOT = "/agent/v1"

# Who says hello: the ramdisk, or the agent of a deployed node on its first boot.
RAMDISK = "ramdisk"
INSTANCE = "instance"


@dataclass(frozen=True)
class Hello(Document):
    """First word of a boot. `macs` lower case with colons; `uuid` as DMI text, if readable."""

    nonce: str
    macs: List[str]
    agent: str = RAMDISK
    uuid: Optional[str] = None
    firmware: Optional[str] = None  # "bios" | "uefi"
    version: str = ""


@dataclass(frozen=True)
class HelloAnswer(Document):
    """The token is 256 bits in hex, bound to this boot (RAMDISK) or this deployment (INSTANCE)."""

    token: str
    node: str
    name: str
    boot_id: str
    poll_s: int = 30


# Order kinds. Arguments in the comment; results come back in Report.data.
INSPECT = "inspect"  # {"lldp_s": seconds} -> {"inventory": {...}}
# {"disks": [{"serial", "wwn", "name", "size", "foreign": bool}], "method": "metadata"}; foreign: its data is not ours,
# an erase was not agreed to -> {"disks": [{"name", "serial", "method", "seconds", "bytes_verified"}], "method"}
CLEAN = "clean"
# {"manifest_url", "signature_url", "image_url", "image_id", "root_device": hints, "config_drive": base64 of gzip of an
# ISO or null, "preserve": [names of partitions], "data_partition": {"name", "size_gib"}, "raid": bool}
# and "manifest_urls", "signature_urls", "image_urls": the same files at several servers
# -> {"disk", "bytes", "seconds"}
WRITE_IMAGE = "write_image"
RAID_CREATE = "raid_create"  # {"logical_disks": as Ironic's target_raid_config} -> {"logical_disks": as made}
RAID_DELETE = "raid_delete"  # {} -> {"stopped": [...], "wiped": [...]}
RUN_STEP = "run_step"  # {"script", "args", "timeout_s"}: a program an element put into the ramdisk -> {"result"}
# {"password_hash": crypt text, "authorized_keys": [...], "ssh": {"listen": port} | {"dial": "host:port"}}
# -> {"consoles": [...], "host_key": fingerprint}
RESCUE = "rescue"
REBOOT = "reboot"  # {}
POWER_OFF = "power_off"  # {}
HOLD = "hold"  # {} stay, keep asking
# Orders that change a machine carry the server's signature; the ramdisk refuses them without.
SIGNED = (CLEAN, WRITE_IMAGE, RAID_CREATE, RAID_DELETE, RUN_STEP, RESCUE)


@dataclass(frozen=True)
class Order(Document):
    """One thing for the agent to do. The same id twice is the same order: do it once, report again.

    `signature`: base64 of Ed25519 over signed_text(), for the kinds in SIGNED.
    """

    id: str
    kind: str
    args: Dict[str, Any] = field(default_factory=dict)
    signature: Optional[str] = None


def signed_text(order: Order, boot_id: str) -> str:
    """What the server signs: this order, for this boot and no other.

    Without its URLs: a server with several addresses rewrites them for the
    network the agent is on. What they bring is signed by itself.
    """
    args = {k: v for k, v in order.args.items() if not k.endswith(("_url", "_urls"))}
    doc = {"id": order.id, "kind": order.kind, "args": args, "boot_id": boot_id}
    return json.dumps(doc, sort_keys=True, separators=(",", ":"))


DONE = "done"
FAILED = "failed"
PROGRESS = "progress"


@dataclass(frozen=True)
class Report(Document):
    """How an order goes. `fault` is a Fault as JSON when outcome is failed.

    Progress: data {"stage", "done", "total", "unit"} at most once a second, from the second one of a stage on with
    "rate": units a second.
    """

    order_id: str
    outcome: str
    data: Dict[str, Any] = field(default_factory=dict)
    fault: Optional[Dict[str, Any]] = None


@dataclass(frozen=True)
class ConfigReport(Document):
    """Outcome of one configuration run on a deployed node.

    `outcome`: applied, unchanged, failed (files went back), drift.
    `files`: [{"path", "change": created|changed|removed|same}], `scripts`:
    [{"phase", "name", "exit", "seconds", "tail"}].
    """

    metadata_generation: int
    outcome: str
    files: List[Dict[str, Any]] = field(default_factory=list)
    scripts: List[Dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    fault: Optional[Dict[str, Any]] = None
    facts: Dict[str, Any] = field(default_factory=dict)
