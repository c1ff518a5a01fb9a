"""Who this node is and whom it trusts: from the config drive on first boot, kept in the state directory.

agent.json   urls, ca_pem, node, name, metadata_public_key, nonce (as on the drive)
token        what hello gave us; readable by its owner only
"""

from __future__ import annotations

import json
import os
from typing import Any, Dict, List, NamedTuple, Optional

from baremetal.agents.apply.journal import read_json, write_json
from baremetal.errors import BaremetalError
from baremetal.protocol import ed25519

DRIVE_FILE = "baremetal/agent.json"
OF_ONE_DEPLOYMENT = (
    "token",
    "generation.json",
    "candidate.json",
    "metadata.json",
    "report.json",
    "hold.json",
    "ec2.json",
    "network_data.json",
    "personalised.json",
)


class NoIdentity(BaremetalError):
    """Neither a config drive nor a state that says who we are."""

    code = "agent-no-identity"


class Identity(NamedTuple):
    """Everything the config drive says about us and our server."""

    urls: List[str]
    ca_pem: str
    node: str
    name: str
    nonce: str
    public_key: bytes

    @classmethod
    def from_json(cls, doc: Any, source: str) -> "Identity":
        if not isinstance(doc, dict):
            raise NoIdentity(f"{source} is not a JSON object")
        urls = [str(u).rstrip("/") for u in doc.get("urls", []) if isinstance(u, str)]
        try:
            key = ed25519.parse_public_key(str(doc.get("metadata_public_key", "")))
        except ValueError as exc:
            raise NoIdentity(f"{source} has no usable metadata_public_key", detail=str(exc)) from exc
        if not urls or not doc.get("ca_pem") or not doc.get("node"):
            raise NoIdentity(f"{source} lacks urls, ca_pem or node")
        texts = [str(doc.get(k, "")) for k in ("ca_pem", "node", "name", "nonce")]
        return cls(urls, texts[0], texts[1], texts[2], texts[3], key)


class State:
    """Files of the state directory, each written whole or not at all."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        os.makedirs(directory, mode=0o700, exist_ok=True)
        os.chmod(directory, 0o700)

    def path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    def read(self, name: str) -> Optional[Any]:
        return read_json(self.path(name))

    def write(self, name: str, document: Any) -> None:
        write_json(self.path(name), document)

    def drop(self, name: str) -> None:
        if os.path.exists(self.path(name)):
            os.unlink(self.path(name))

    @property
    def token(self) -> Optional[str]:
        """The token of this deployment, with the nonce it was traded for."""
        found = self.read("token")
        return str(found["token"]) if isinstance(found, dict) and "token" in found else None

    def keep_token(self, token: str, nonce: str) -> None:
        self.write("token", {"token": token, "nonce": nonce})

    def nonce_used(self, nonce: str) -> bool:
        found = self.read("token")
        return isinstance(found, dict) and found.get("nonce") == nonce


def identify(state: State, drive: Optional[Dict[str, bytes]]) -> Identity:
    """The drive's word when there is a drive of ours, else the state's.

    A drive with another nonce is another deployment: what the state holds of
    the earlier one (token, generations) is forgotten. Files of ours stay known.
    """
    known = state.read("agent.json")
    raw = drive.get(DRIVE_FILE) if drive is not None else None
    if raw is None:
        if known is None:
            raise NoIdentity(
                "this node does not know its server",
                detail="no config drive with baremetal/agent.json, and none was kept",
                fix="deploy the node again, or write agent.json into the state directory",
            )
        return Identity.from_json(known, state.path("agent.json"))
    try:
        document = json.loads(raw)
    except ValueError as exc:
        raise NoIdentity(f"the config drive's {DRIVE_FILE} is not JSON", detail=str(exc)) from exc
    found = Identity.from_json(document, f"config drive, {DRIVE_FILE}")
    if not isinstance(known, dict) or known.get("nonce") != document.get("nonce"):
        for name in OF_ONE_DEPLOYMENT:
            state.drop(name)
        state.write("agent.json", document)
    return found
