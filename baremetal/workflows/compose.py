"""Makes nodes' documents: layers merged, references and secrets resolved, numbered, signed.

One Composer serves one transaction: what all nodes share (layers, who has which
address, roll-outs under way) is read once, so that a thousand documents are a
second's work.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import secrets as stdlib_secrets
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from sqlalchemy.engine import Connection

from baremetal.errors import BaremetalError, UsageError
from baremetal.model.event import Event, Kind
from baremetal.model.layers import merge
from baremetal.model.metadata import Peer, resolve
from baremetal.model.metadata import Site as SiteFacts
from baremetal.model.node import Node
from baremetal.protocol.metadata import SCHEMA
from baremetal.secrets import Secret
from baremetal.store import events, metadata, nodes, ports, rollouts, secrets, servers, wire_seen
from baremetal.store.metadata import StoredDocument
from baremetal.store.rollouts import Rollout
from baremetal.store.seal import Sealer
from baremetal.workflows import ids
from baremetal.workflows.sshkey import openssh_pair

# The label that names a node's role layer.
ROLE_LABEL = "role"
MAX_BYTES = 1024 * 1024
# Owner of secrets that belong to no node.
SITE_OWNER = "site"
# Fields of the secrets table that hold values of {"$secret": NAME}.
SECRET_PREFIX = "metadata:"  # noqa: S105 (the name of a field)


NOTHING: dict[str, Any] = {}


class Signer:
    """Signs documents; the public half goes to the nodes in their config drive."""

    def __init__(self, pem: bytes) -> None:
        key = load_pem_private_key(pem, password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise BaremetalError(
                "the metadata signing key is not an Ed25519 key",
                fix="put metadata-signing.pem back from a backup: deployed nodes trust only that key",
            )
        self._key = key

    def sign(self, text: str) -> str:
        """Base64 signature over the exact bytes."""
        return base64.b64encode(self._key.sign(text.encode())).decode()

    @functools.cached_property
    def public_hex(self) -> str:
        """The raw public key, 64 hex characters."""
        return self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


class Composer:
    """`signer` is None for looking only."""

    def __init__(self, conn: Connection, sealer: Sealer, signer: Signer | None, now: float) -> None:
        if signer is not None:
            servers.alone(conn, "documents")  # two servers must not give one generation to two documents
        self.conn, self.sealer, self.signer, self.now = conn, sealer, signer, now
        self._roles: dict[str, dict[str, Any]] = {}
        self._own: dict[str, dict[str, Any]] | None = None
        self._digests: dict[str, tuple[int, str]] | None = None
        self._shared: dict[tuple[int, ...], _Content | dict[str, Any]] = {}

    # -- layers --

    def layers_of(self, node: Node) -> dict[str, dict[str, Any]]:
        """What each layer says for this node; a layer that is being rolled out says the old to those who wait."""
        role = node.labels.get(ROLE_LABEL)
        found = {
            "defaults": self._defaults,
            "site": self._site,
            "role": self._role(role) if role is not None else NOTHING,
            "node": self._node(node.id),
        }
        for rollout in self._rollouts:
            if rollout.concerns(node.id, role) and node.id not in rollout.given:
                found[rollout.layer] = rollout.before
        return found

    def values(self, node: Node) -> dict[str, Any]:
        """What the node shall have; heat-style deployments, if any, under their key."""
        values = merge(self.layers_of(node).values())
        return resolve(values, self._facts_for(node)) if has_directives(values) else values

    def _content(self, node: Node) -> _Content:
        """The node's values as text. Most nodes of a role have the same: that is made once."""
        layers = self.layers_of(node)
        if layers["node"]:
            return self._made(merge(layers.values()), node)
        key = tuple(id(values) for values in layers.values())  # they live as long as we do
        known = self._shared.get(key)
        if known is None:
            values = merge(layers.values())
            known = None if has_directives(values) else _content(values)
            self._shared[key] = known or values
        return known if isinstance(known, _Content) else self._made(known or values, node)

    def _made(self, values: dict[str, Any], node: Node) -> _Content:
        return _content(resolve(values, self._facts_for(node)) if has_directives(values) else values)

    def shared_values(self, role: str | None) -> dict[str, Any]:
        """What a node of this role, with no layer of its own, would have, directives as they stand."""
        return merge([self._defaults, self._site, self._role(role) if role is not None else {}])

    # -- documents --

    def refresh(self, wanted: Sequence[Node], *, lenient: bool = False) -> list[tuple[Node, int]]:
        """Bring the documents of these nodes up to date; (node, generation) of those that changed.

        lenient: a node whose layers do not compose any more keeps its document.
        """
        assert self.signer is not None
        if len(wanted) > 3:
            self._own = metadata.all_layers(self.conn, self.sealer, "node")
        have = metadata.generations(self.conn) if len(wanted) > 3 else self._have(wanted)
        made: list[StoredDocument] = []
        changed: list[tuple[Node, int]] = []
        for node in wanted:
            generation, digest = have.get(node.id, (0, ""))
            try:
                doc = self._document(node, generation, digest)
            except UsageError as exc:
                if not lenient:
                    raise
                events.add_all(self.conn, [_event(node, generation, self.now, exc)])
                continue
            if doc is not None:
                made.append(doc)
                changed.append((node, doc.generation))
        metadata.put_documents(self.conn, self.sealer, made)
        events.add_all(self.conn, (_event(node, generation, self.now) for node, generation in changed))
        return changed

    def differs(self, node: Node) -> bool:
        """Would its document be another than the one it has?"""
        if self._digests is None:
            self._digests = metadata.generations(self.conn)
        return self._digests.get(node.id, (0, ""))[1] != self._content(node).digest

    def _have(self, wanted: Iterable[Node]) -> dict[str, tuple[int, str]]:
        found = metadata.all_documents(self.conn, self.sealer, [node.id for node in wanted])
        return {node_id: (doc.generation, doc.digest) for node_id, doc in found.items()}

    def _document(self, node: Node, generation: int, digest: str) -> StoredDocument | None:
        """The next document, None when its content is what the node has."""
        content = self._content(node)
        if content.digest == digest:
            return None
        # As protocol.metadata.MetadataDocument says; its to_bytes() would take most of the time of a thousand.
        head = f'{{"schema":{SCHEMA},"node":{json.dumps(node.id)},"metadata_generation":{generation + 1}'
        text = f'{head},"values":{content.values},"deployments":{content.deployments}}}'
        if len(text) > MAX_BYTES:
            raise UsageError(
                f"{node.name}: its metadata would have {len(text)} characters; the limit is {MAX_BYTES}",
                fix="keep files out of the metadata; give URLs instead",
            )
        assert self.signer is not None
        return StoredDocument(node.id, generation + 1, text, self.signer.sign(text), content.digest, self.now)

    # -- what is read once --

    @functools.cached_property
    def _defaults(self) -> dict[str, Any]:
        return metadata.get_layer(self.conn, self.sealer, "defaults")[0]

    @functools.cached_property
    def _site(self) -> dict[str, Any]:
        return metadata.get_layer(self.conn, self.sealer, "site")[0]

    @functools.cached_property
    def _rollouts(self) -> list[Rollout]:
        return rollouts.active(self.conn, self.sealer)

    def _role(self, name: str) -> dict[str, Any]:
        if name not in self._roles:
            self._roles[name] = metadata.get_layer(self.conn, self.sealer, "role", name)[0]
        return self._roles[name]

    def _node(self, node_id: str) -> dict[str, Any]:
        if self._own is not None:
            return self._own.get(node_id, NOTHING)
        return metadata.get_layer(self.conn, self.sealer, "node", node_id)[0]

    @functools.cached_property
    def _peers(self) -> list[Peer]:
        leased = {lease["mac"]: lease["address"] for lease in wire_seen.all_leases(self.conn)}
        by_node = ports.of_nodes(self.conn)

        def address(peer: Node) -> str | None:
            mine = by_node.get(peer.id, [])
            known = [port.address for port in mine if port.address] + [leased[p.mac] for p in mine if p.mac in leased]
            return known[0] if known else None

        return [Peer(peer.name, address(peer), peer.labels) for peer in nodes.page(self.conn, limit=None)]

    @functools.cached_property
    def _key(self) -> bytes:
        """Made once; it outlives every rotation of sealing keys, or generated passwords would change."""
        known = secrets.get(self.conn, self.sealer, SITE_OWNER, "generate")
        if known is None:
            known = Secret(stdlib_secrets.token_hex(32))
            if self.signer is not None:
                secrets.put(self.conn, self.sealer, SITE_OWNER, "generate", known, self.now)
        return bytes.fromhex(known.reveal())

    @functools.cached_property
    def _secrets(self) -> dict[str, dict[str, str]]:
        return secrets.with_prefix(self.conn, self.sealer, SECRET_PREFIX)

    def _facts_for(self, node: Node) -> SiteFacts:
        role = node.labels.get(ROLE_LABEL, "")
        owners = (SITE_OWNER, f"role:{role}", node.id)  # the more special wins
        known = {name: value for owner in owners for name, value in self._secrets.get(owner, {}).items()}
        return SiteFacts(self._peers, node.name, role, self._key, known, functools.partial(openssh_pair, node.name))


class _Content(NamedTuple):
    """JSON of values and of deployments, and what tells it from another."""

    values: str
    deployments: str
    digest: str


def _content(values: dict[str, Any]) -> _Content:
    deployments = values.get("deployments", [])
    if not isinstance(deployments, list):
        deployments = []
    values = {key: value for key, value in values.items() if key != "deployments"}
    content = json.dumps([values, deployments], sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(content.encode()).hexdigest()
    return _Content(_json(values), _json(deployments), digest)


def _json(document: Any) -> str:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


def has_directives(values: Any) -> bool:
    """Is there anything to resolve? (`$nodes`, `$generate`, `$secret`)"""
    if isinstance(values, dict):
        return any(key.startswith("$") for key in values) or any(has_directives(v) for v in values.values())
    return isinstance(values, list) and any(has_directives(v) for v in values)


def _event(node: Node, generation: int, now: float, trouble: UsageError | None = None) -> Event:
    data: dict[str, Any] = {"generation": generation}
    if trouble is not None:
        data["why"] = f"kept, because the next cannot be made: {trouble.brief}"
    outcome = "failed" if trouble else "ok"
    return Event(ids.ulid(now), now, node.id, Kind.METADATA, "generation", "control", outcome=outcome, data=data)
