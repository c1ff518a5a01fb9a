"""Metadata documents: verified before they are believed, kept once they proved good.

candidate.json   the newest document we were given, with its signature; perhaps not yet applied
metadata.json    the last one that was applied: the last good configuration
generation.json  {"seen": N, "applied": N, "digest": of the one applied}
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any, Dict, NamedTuple, Optional

from baremetal.agents.resident.identity import Identity, State
from baremetal.errors import BaremetalError
from baremetal.protocol import ed25519
from baremetal.protocol.doc import BadDocument
from baremetal.protocol.metadata import SCHEMA, MetadataDocument

MAX_BYTES = 64 * 1024 * 1024


class DocumentRefused(BaremetalError):
    """A document that is not what our server would send us now."""

    code = "metadata-refused"


class Verified(NamedTuple):
    """A document whose signature, addressee and generation are right. `raw` is the exact text."""

    document: MetadataDocument
    raw: bytes
    signature: str

    @property
    def generation(self) -> int:
        return self.document.metadata_generation

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.raw).hexdigest()


def verify(raw: bytes, signature: str, identity: Identity) -> Verified:
    """DocumentRefused unless it was signed by our server, for us, in a schema we know."""
    if len(raw) > MAX_BYTES:
        raise DocumentRefused(f"the metadata document is larger than {MAX_BYTES} bytes")
    try:
        signed = ed25519.verify(identity.public_key, raw, base64.b64decode(signature.strip(), validate=True))
    except ValueError:
        signed = False
    if not signed:
        raise DocumentRefused(
            "the metadata document has no valid signature",
            detail="either somebody answers in place of our server, or its signing key was replaced",
            fix="compare `metadata_public_key` in agent.json with the server's; deploy the node again for a new key",
        )
    try:
        document = MetadataDocument.from_bytes(raw, json.loads)  # signed: any JSON an older server took is taken
    except BadDocument as exc:
        raise DocumentRefused("the signed metadata is not a metadata document", detail=str(exc)) from exc
    _check(document, identity)
    return Verified(document, raw, signature.strip())


def _check(document: MetadataDocument, identity: Identity) -> None:
    if document.schema != SCHEMA:
        raise DocumentRefused(f"metadata schema {document.schema!r} is unknown here", fix="use a newer agent")
    if document.node != identity.node:
        raise DocumentRefused(f"the metadata document is for node {document.node}, we are {identity.node}")
    generation: Any = document.metadata_generation
    if isinstance(generation, bool) or not isinstance(generation, int) or generation < 0:
        raise DocumentRefused(f"the generation is {generation!r}, not a number")
    if not isinstance(document.values, dict) or not isinstance(document.deployments, list):
        raise DocumentRefused("values is no object, or deployments is no list")


class Documents:
    """What we were given and what we applied."""

    def __init__(self, state: State, identity: Identity) -> None:
        self.state = state
        self.identity = identity
        self._candidate: Optional[Verified] = None
        found = state.read("generation.json")
        counters: Dict[str, Any] = found if isinstance(found, dict) else {}
        self.seen = int(counters.get("seen", -1))
        self.applied = int(counters.get("applied", -1))
        self.applied_digest = str(counters.get("digest", ""))

    def accept(self, raw: bytes, signature: str) -> Verified:
        """Verify and keep as candidate; an older generation, or another text of the same, is refused."""
        verified = verify(raw, signature, self.identity)
        if verified.generation < self.seen:
            raise DocumentRefused(
                f"generation {verified.generation} is older than {self.seen}, which we have seen",
                detail="a replay, or the server's database was restored from a backup",
                fix="raise the generation on the server by a change of metadata, or deploy the node again",
            )
        before = self.candidate()  # from memory, but for the first after a start
        if before is not None and before.generation == verified.generation and before.raw != raw:
            raise DocumentRefused(f"two different documents have generation {verified.generation}")
        kept = {"raw": base64.b64encode(raw).decode("ascii"), "signature": verified.signature}
        self.state.write("candidate.json", kept)
        self._candidate = verified
        self.seen = verified.generation
        self._save()
        return verified

    def candidate(self) -> Optional[Verified]:
        """The newest document; from disk it is verified again, somebody may have changed it there."""
        if self._candidate is not None:
            return self._candidate
        found = self.state.read("candidate.json")
        if not isinstance(found, dict):
            return None
        try:
            self._candidate = verify(base64.b64decode(found["raw"]), str(found["signature"]), self.identity)
            return self._candidate
        except (DocumentRefused, KeyError, ValueError):
            return None

    def applied_now(self, verified: Verified) -> None:
        """This document is in place: the last good one from now on."""
        document = verified.document
        self.state.write("metadata.json", {"values": document.values, "deployments": document.deployments})
        self.applied, self.applied_digest = verified.generation, verified.digest
        self._save()

    def last_good(self) -> Optional[Dict[str, Any]]:
        """{"values", "deployments"} of what is applied."""
        found = self.state.read("metadata.json")
        return found if isinstance(found, dict) else None

    def _save(self) -> None:
        counters = {"seen": self.seen, "applied": self.applied, "digest": self.applied_digest}
        self.state.write("generation.json", counters)


def empty(values: Dict[str, Any], deployments: Any) -> bool:
    """Is there nothing in it at all?"""
    return not values and not deployments


def dump(values: Any) -> str:
    """One spelling of a document, to compare."""
    return json.dumps(values, sort_keys=True)
