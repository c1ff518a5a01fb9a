"""What control plane and boot plane say to each other over the unix socket.

Newline-delimited JSON frames, one object each, at most MAX_FRAME bytes. The
boot plane connects, control speaks first.

    control -> boot   {"t": "snapshot", "version": N, "snapshot": Snapshot, "more": bool}
                      a large one comes in parts (nodes spread over them); it counts when the last is there
                      {"t": "nodes", "version": N, "nodes": [NodeView…], "gone": [node_id…]}
                      {"t": "release", "address": A}            an operator takes this address back
                      {"t": "ack", "ids": [message id…]}        stored durably
                      {"t": "answer", "id": ID, "body": {...}}
                      {"t": "answer", "id": ID, "error": {"status", "code", "brief", "detail", "fix"}}
    boot -> control   {"t": "messages", "messages": [Message…]}
                      {"t": "call", "id": ID, "kind": KIND, "body": {...}}

Messages are idempotent by id, spooled by the boot plane until acknowledged and
delivered in order. Calls are not spooled: when control is away the caller gets
503 at once. Calls: `hello` {hello: Hello, source} -> HelloAnswer.

Message kinds and bodies:
    boot-seen      {mac, uuid, arch, loader, decision, because, network}   decision for a client (deduplicated)
    unknown-seen   {mac, uuid, arch, loader, network}                      a machine nobody knows
    loader-sent    {name, via: tftp|http, bytes, seconds}
    script-sent    {nonce_id, boot_id}
    artifact-sent  {name, bytes, seconds}
    report         {report: Report, boot_id}
    config-report  {report: ConfigReport}
    beat           {boot_id, agent}                                        at most every 10 s per node
    metadata-sent  {generation}
    refused        {what, why, source}                                     wrong token, replayed nonce …
    lease          {mac, address, network, expires}
    serving        {service, detail}                                       up, rival found, port taken …
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from baremetal.protocol.doc import Document

MAX_FRAME = 16 * 1024 * 1024


@dataclass(frozen=True)
class Message(Document):
    """One fact from the boot plane. `id` is unique for ever; `time` Unix seconds."""

    id: str
    kind: str
    time: float
    node: Optional[str] = None
    body: Dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NodeView(Document):
    """All the boot plane knows of one node.

    `boot` is a BootRecord as JSON. `nonce_key` (hex) signs the one-time nonce
    that the boot script carries (protocol/nonce.py). Tokens come as SHA-256 hex
    of the token. `order` is the Order for the ramdisk agent, None = hold.
    `metadata` is {"generation", "document" (exact text), "signature" (base64)}.
    """

    node: str
    name: str
    boot: Dict[str, Any]
    nonce_key: Optional[str] = None
    ramdisk_token_sha256: Optional[str] = None
    instance_token_sha256: Optional[str] = None
    order: Optional[Dict[str, Any]] = None
    metadata: Optional[Dict[str, Any]] = None


@dataclass(frozen=True)
class Snapshot(Document):
    """Everything: `networks` are Network as JSON, `artifacts` map a public name
    to {"path", "size", "sha256"}, `images` map an image id to its directory."""

    networks: List[Dict[str, Any]] = field(default_factory=list)
    nodes: List[Dict[str, Any]] = field(default_factory=list)
    artifacts: Dict[str, Dict[str, Any]] = field(default_factory=dict)
    images: Dict[str, str] = field(default_factory=dict)
