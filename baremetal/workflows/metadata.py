"""The metadata of a node: layers merged, numbered, signed. A generation is a change of content, nothing else."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import secrets as stdlib_secrets
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from sqlalchemy.engine import Connection

from baremetal.errors import BaremetalError, NotFound, UsageError
from baremetal.model.event import Event, Kind
from baremetal.model.layers import merge
from baremetal.model.metadata import Peer, refers_to_nodes, resolve
from baremetal.model.metadata import Site as SiteFacts
from baremetal.model.node import Node
from baremetal.protocol.metadata import SCHEMA, MetadataDocument
from baremetal.secrets import Secret
from baremetal.store import events, metadata, nodes, ports, secrets, wire_seen
from baremetal.store.metadata import LAYERS, StoredDocument
from baremetal.store.seal import Sealer
from baremetal.workflows import ids

# The label that names a node's role layer.
ROLE_LABEL = "role"
MAX_BYTES = 1024 * 1024
# Owner of secrets that belong to no node.
SITE_OWNER = "site"


class Signer:
    """Signs documents; the public half goes to the nodes in their config drive."""

    def __init__(self, pem: bytes) -> None:
        key = load_pem_private_key(pem, password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise BaremetalError(
                "the metadata signing key is not an Ed25519 key",
                fix="make new keys: baremetal init --rotate metadata-signing",
            )
        self._key = key

    def sign(self, text: str) -> str:
        """Base64 signature over the exact bytes."""
        return base64.b64encode(self._key.sign(text.encode())).decode()

    @functools.cached_property
    def public_hex(self) -> str:
        """The raw public key, 64 hex characters."""
        return self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def layers_of(conn: Connection, sealer: Sealer, node: Node) -> dict[str, dict[str, Any]]:
    """What each layer says for this node."""
    names = {"defaults": "", "site": "", "role": node.labels.get(ROLE_LABEL), "node": node.id}
    return {
        layer: metadata.get_layer(conn, sealer, layer, name)[0] if name is not None else {}
        for layer, name in names.items()
    }


def refresh(conn: Connection, sealer: Sealer, signer: Signer, node: Node, now: float) -> StoredDocument:
    """The node's document as its layers say now; a new generation only if the content changed."""
    values = merge(layers_of(conn, sealer, node).values())
    if has_directives(values):
        values = resolve(values, site_of(conn, sealer, node, now))
    deployments = values.pop("deployments", [])
    content = json.dumps([values, deployments], sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(content.encode()).hexdigest()
    have = metadata.get_document(conn, sealer, node.id)
    if have and have.digest == digest:
        return have
    generation = have.generation + 1 if have else 1
    doc = MetadataDocument(SCHEMA, node.id, generation, values, deployments if isinstance(deployments, list) else [])
    text = doc.to_bytes().decode()
    if len(text) > MAX_BYTES:
        raise UsageError(
            f"{node.name}: its metadata would have {len(text)} bytes; the limit is {MAX_BYTES}",
            fix="keep files out of the metadata; give URLs instead",
        )
    stored = StoredDocument(node.id, generation, text, signer.sign(text), digest, now)
    metadata.put_document(conn, sealer, stored)
    made = Event(ids.ulid(now), now, node.id, Kind.METADATA, "generation", "control", data={"generation": generation})
    events.add_all(conn, [made])
    return stored


def has_directives(values: Any) -> bool:
    """Is there anything to resolve? (`$nodes`, `$generate`)"""
    if isinstance(values, dict):
        return any(key.startswith("$") for key in values) or any(has_directives(v) for v in values.values())
    return isinstance(values, list) and any(has_directives(v) for v in values)


def site_of(conn: Connection, sealer: Sealer, node: Node, now: float) -> SiteFacts:
    """What directives are resolved with: every node's name, address and labels, and the key of generated secrets."""
    leased = {lease["mac"]: lease["address"] for lease in wire_seen.all_leases(conn)}
    by_node = ports.of_nodes(conn)

    def address(peer: Node) -> str | None:
        mine = by_node.get(peer.id, [])
        known = [port.address for port in mine if port.address] + [leased[p.mac] for p in mine if p.mac in leased]
        return known[0] if known else None

    peers = [Peer(peer.name, address(peer), peer.labels) for peer in nodes.page(conn, limit=None)]
    role = node.labels.get(ROLE_LABEL, "")
    return SiteFacts(peers=peers, node=node.name, role=role, key=_generating_key(conn, sealer, now))


def _generating_key(conn: Connection, sealer: Sealer, now: float) -> bytes:
    """Made once; it outlives every rotation of sealing keys, or generated passwords would change."""
    known = secrets.get(conn, sealer, SITE_OWNER, "generate")
    if known is None:
        known = Secret(stdlib_secrets.token_hex(32))
        secrets.put(conn, sealer, SITE_OWNER, "generate", known, now)
    return bytes.fromhex(known.reveal())


def refresh_referring(conn: Connection, sealer: Sealer, signer: Signer, now: float) -> list[str]:
    """Another node's name, labels or address changed: documents that speak of nodes follow. Ids of those that did."""
    if not any(refers_to_nodes(values) for values in metadata.shared_layers(conn, sealer)):
        return []
    changed = []
    for node in nodes.page(conn, limit=None):
        before = metadata.get_document(conn, sealer, node.id)
        after = refresh(conn, sealer, signer, node, now)
        if before is None or before.generation != after.generation:
            changed.append(node.id)
    return changed


def check_layer(layer: str, name: str) -> None:
    """defaults and site have no name, role and node need one."""
    if layer not in LAYERS:
        raise NotFound(f"there is no metadata layer {layer!r}", fix=f"layers: {', '.join(LAYERS)}")
    if (layer in ("role", "node")) != bool(name):
        raise UsageError(f"layer {layer} {'needs a' if layer in ('role', 'node') else 'has no'} name")


def set_layer(
    conn: Connection,
    sealer: Sealer,
    signer: Signer,
    layer: str,
    name: str,
    values: dict[str, Any],
    mode: str,
    now: float,
) -> tuple[dict[str, Any], list[tuple[str, int]]]:
    """Write a layer; (its values, [(node name, new generation)] of nodes it changed).

    merge: as JSON merge patch, null takes a key out of this layer. replace: a
    null that is stored hides the key of the layers below.
    """
    check_layer(layer, name)
    if mode not in ("merge", "replace"):
        raise UsageError(f"mode {mode!r}", fix="merge or replace")
    key = nodes.get(conn, name).id if layer == "node" else name
    old = metadata.get_layer(conn, sealer, layer, key)[0]
    new = merge([old, values]) if mode == "merge" else values
    metadata.put_layer(conn, sealer, layer, key, new, now)
    changed = []
    for node in _touched(conn, layer, key):
        before = metadata.get_document(conn, sealer, node.id)
        after = refresh(conn, sealer, signer, node, now)
        if before is None or after.generation != before.generation:
            changed.append((node.name, after.generation))
    return new, changed


def _touched(conn: Connection, layer: str, key: str) -> list[Node]:
    if layer == "node":
        return [nodes.get(conn, key)]
    found = nodes.page(conn, limit=None)
    return [n for n in found if layer != "role" or n.labels.get(ROLE_LABEL) == key]
