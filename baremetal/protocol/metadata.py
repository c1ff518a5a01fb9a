"""The metadata document a node is configured from.

JSON {"schema": 1, "node", "metadata_generation", "values", "deployments"}. The
signature is Ed25519 over the exact bytes served, base64 in the header
X-Baremetal-Signature; an agent refuses an older generation than it has.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List

from baremetal.protocol.doc import Document

SCHEMA = 1
SIGNATURE_HEADER = "X-Baremetal-Signature"
GENERATION_HEADER = "X-Baremetal-Generation"


@dataclass(frozen=True)
class MetadataDocument(Document):
    """`values` is what templates see; `deployments` are heat-style, in order."""

    schema: int
    node: str
    metadata_generation: int
    values: Dict[str, Any] = field(default_factory=dict)
    deployments: List[Dict[str, Any]] = field(default_factory=list)
