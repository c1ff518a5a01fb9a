"""The metadata service as clouds have it: paths and texts for EC2 (/latest/…) and OpenStack (/openstack/…) clients.

cloud-init, the original os-collect-config and others ask by plain HTTP from the
node's own address. Pure: facts in, a table of paths and bodies out. Secrets do
not belong here: whoever has the address gets the answer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional

EC2_VERSIONS = ("latest", "2009-04-04", "2007-01-19")
OPENSTACK_VERSIONS = ("latest", "2018-08-27", "2015-10-15", "2013-10-17", "2012-08-10")


@dataclass(frozen=True)
class Instance:
    """What the service knows of one node. `keys`: name -> SSH public key."""

    node: str
    name: str
    address: Optional[str] = None
    keys: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    user_data: Optional[bytes] = None
    network_data: Optional[Dict[str, Any]] = None
    zone: str = "baremetal"


def ec2_document(instance: Instance) -> Dict[str, Any]:
    """The tree below meta-data, as config drives carry it in ec2/latest/meta-data.json."""
    keys = {str(i): {"openssh-key": key, "_name": name} for i, (name, key) in enumerate(instance.keys.items())}
    document: Dict[str, Any] = {
        "ami-id": "none",
        "hostname": instance.name,
        "instance-id": instance.node,
        "instance-type": "baremetal",
        "local-hostname": instance.name,
        "placement": {"availability-zone": instance.zone},
    }
    if instance.address:
        document["local-ipv4"] = instance.address
    if keys:
        document["public-keys"] = keys
    return document


def openstack_document(instance: Instance) -> Dict[str, Any]:
    """meta_data.json of the OpenStack layout."""
    return {
        "uuid": instance.node,
        "name": instance.name,
        "hostname": instance.name,
        "availability_zone": instance.zone,
        "launch_index": 0,
        "meta": dict(instance.labels),
        "public_keys": dict(instance.keys),
        "keys": [{"name": n, "type": "ssh", "data": k} for n, k in instance.keys.items()],
    }


def table(instance: Instance) -> Dict[str, bytes]:
    """Every path the service answers, with its body; anything else is 404."""
    found: Dict[str, bytes] = {"/": _lines(EC2_VERSIONS), "/openstack": _lines(OPENSTACK_VERSIONS)}
    found["/openstack/"] = found["/openstack"]
    for version in EC2_VERSIONS:
        found.update(_ec2_paths(instance, f"/{version}"))
    for version in OPENSTACK_VERSIONS:
        found.update(_openstack_paths(instance, f"/openstack/{version}"))
    return found


def _ec2_paths(instance: Instance, root: str) -> Dict[str, bytes]:
    found: Dict[str, bytes] = {}
    _walk(ec2_document(instance), f"{root}/meta-data", found)
    listing = ["meta-data/"]
    if instance.user_data is not None:
        found[f"{root}/user-data"] = instance.user_data
        listing.append("user-data")
    found[root] = found[f"{root}/"] = _lines(listing)
    return found


def _walk(document: Mapping[str, Any], path: str, found: Dict[str, bytes]) -> None:
    """A listing at `path` and `path/`; lists of keys read `0=name`, folders end in a slash."""
    lines: List[str] = []
    for key, value in document.items():
        if key == "_name":
            continue
        if not isinstance(value, Mapping):
            found[f"{path}/{key}"] = str(value).encode()
            lines.append(key)
            continue
        _walk(value, f"{path}/{key}", found)
        lines.append(f"{key}={value['_name']}" if "_name" in value else f"{key}/")
    found[path] = found[f"{path}/"] = _lines(lines)


def _openstack_paths(instance: Instance, root: str) -> Dict[str, bytes]:
    bodies = {
        "meta_data.json": _json(openstack_document(instance)),
        "network_data.json": _json(instance.network_data or {"links": [], "networks": [], "services": []}),
        "vendor_data.json": b"{}",
    }
    if instance.user_data is not None:
        bodies["user_data"] = instance.user_data
    found = {f"{root}/{name}": body for name, body in bodies.items()}
    found[root] = found[f"{root}/"] = _lines(bodies)
    return found


def drive_files(instance: Instance, prefix: str = "") -> Dict[str, bytes]:
    """The same content as files of a config drive (label config-2)."""
    found = {
        "openstack/latest/meta_data.json": _json(openstack_document(instance)),
        "openstack/latest/network_data.json": _json(
            instance.network_data or {"links": [], "networks": [], "services": []}
        ),
        "ec2/latest/meta-data.json": _json(_plain(ec2_document(instance))),
    }
    if instance.user_data is not None:
        found["openstack/latest/user_data"] = found["ec2/latest/user-data"] = instance.user_data
    return {prefix + name: body for name, body in found.items()}


def nocloud_files(instance: Instance) -> Dict[str, bytes]:
    """The same content as cloud-init's NoCloud source wants it (label cidata)."""
    lines = {"instance-id": instance.node, "local-hostname": instance.name}
    text = {**lines, "public-keys": list(instance.keys.values())} if instance.keys else lines
    return {"meta-data": _json(text), "user-data": instance.user_data or b"#cloud-config\n{}\n"}


def _plain(document: Any) -> Any:
    if isinstance(document, dict):
        return {k: _plain(v) for k, v in document.items() if k != "_name"}
    return document


def _lines(names: Any) -> bytes:
    return "\n".join(names).encode()


def _json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
