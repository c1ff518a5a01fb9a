"""What an agent on a node and the boot plane say to each other over HTTPS.

Paths below AGENT_ROOT; `Authorization: Bearer <token>` on all but hello.

    POST hello                     Hello -> HelloAnswer
    GET  order?wait=S&after=ID     -> 200 Order, or 204 when S seconds passed
    POST report                    Report -> 200 {}
    GET  metadata?wait=S           If-None-Match: "<generation>" -> 200 document, 304
    POST config-report             ConfigReport -> 200 {}

Errors are JSON {"error": {"code", "brief", "detail", "fix"}}: 401 token unknown
or dead (the agent says hello again only with a fresh nonce), 403 nonce refused,
503 control away (try again after Retry-After).
"""

from __future__ import annotations

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
INSPECT = "inspect"  # {} -> {"inventory": {...}}
# {"disks": [{"serial", "wwn", "name", "size"}], "method": "metadata"}
# -> {"disks": [{"name", "serial", "method", "seconds"}]}
CLEAN = "clean"
# {"manifest_url", "signature_url", "image_url", "root_device": hints, "config_drive": base64 of gzip of an ISO or null}
# -> {"disk", "bytes", "seconds"}
WRITE_IMAGE = "write_image"
REBOOT = "reboot"  # {}
POWER_OFF = "power_off"  # {}
HOLD = "hold"  # {} stay, keep asking


@dataclass(frozen=True)
class Order(Document):
    """One thing for the agent to do. The same id twice is the same order: do it once, report again."""

    id: str
    kind: str
    args: Dict[str, Any] = field(default_factory=dict)


DONE = "done"
FAILED = "failed"
PROGRESS = "progress"


@dataclass(frozen=True)
class Report(Document):
    """How an order goes. `fault` is a Fault as JSON when outcome is failed.

    Progress: data {"stage", "done", "total", "unit"} at most once a second.
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
