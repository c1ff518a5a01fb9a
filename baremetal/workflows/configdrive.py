"""The config drive of a deployment: what the system needs before it has a network."""

from __future__ import annotations

import json
from typing import Any

from baremetal.model.node import Port
from baremetal.protocol import configdrive as iso
from baremetal.protocol import nonce
from baremetal.store import metadata as stored
from baremetal.store import wire_seen
from baremetal.workflows import metadata
from baremetal.workflows.passes import Pass
from baremetal.workflows.site import Image


def pack(p: Pass, boot: tuple[str, str], image: Image) -> str:
    """The drive as an order carries it. `boot` is (boot id, nonce key): the nonce inside is good for one hello."""
    return iso.pack(files(p, boot, image))


def files(p: Pass, boot: tuple[str, str], image: Image) -> dict[str, bytes]:
    """Every file on the drive: cloud-init's, EC2's and ours."""
    asked = p.node.wanted_args.get("config_drive")
    extra: dict[str, Any] = asked if isinstance(asked, dict) else {}
    doc = p.world.store.read(lambda c: stored.get_document(c, p.world.metadata, p.node.id))
    found = {
        "openstack/latest/meta_data.json": _json({**_meta_data(p, doc), **(extra.get("meta_data") or {})}),
        "openstack/latest/network_data.json": _json(extra.get("network_data") or network_data(p)),
        "ec2/latest/meta-data.json": _json(_ec2(p)),
    }
    if extra.get("user_data"):
        found["openstack/latest/user_data"] = str(extra["user_data"]).encode()
    return found | _ours(p, boot, doc)


def _ours(p: Pass, boot: tuple[str, str], doc: stored.StoredDocument | None) -> dict[str, bytes]:
    boot_id, key = boot
    signer = metadata.Signer(p.world.signing_pem)
    agent = {
        "urls": urls(p),
        "ca_pem": p.site.ca_pem,
        "nonce": nonce.make(key, p.node.id, boot_id, int(p.world.now() * 1000)),
        "node": p.node.id,
        "name": p.node.name,
        "metadata_public_key": signer.public_hex,
    }
    found = {"baremetal/agent.json": _json(agent)}
    if doc:
        found["baremetal/metadata.json"] = doc.text.encode()
        found["baremetal/metadata.sig"] = doc.signature.encode()
    return found


def urls(p: Pass) -> list[str]:
    """Where the node reaches us: on the network it got its address from first, then on the others."""
    port = p.site.https_url.rpartition(":")[2]
    macs = [one.mac for one in p.ports]
    seen = set(p.world.store.read(lambda c: [wire_seen.network_of(c, mac) for mac in macs]))
    networks = sorted(p.site.networks, key=lambda network: network.name not in seen)
    found = [f"https://{network.server}:{port}" for network in networks]
    return list(dict.fromkeys([*found, p.site.https_url, *p.site.peers]))


def public_keys(doc: stored.StoredDocument | None) -> dict[str, str]:
    """SSH keys of the metadata (`ssh.keys`: a mapping of names to keys, or a list)."""
    values = json.loads(doc.text).get("values", {}) if doc else {}
    ssh = values.get("ssh")
    keys = ssh.get("keys") if isinstance(ssh, dict) else None
    if isinstance(keys, list):
        keys = {f"key-{i}": key for i, key in enumerate(keys)}
    return {str(k): str(v) for k, v in keys.items()} if isinstance(keys, dict) else {}


def _meta_data(p: Pass, doc: stored.StoredDocument | None) -> dict[str, Any]:
    return {
        "public_keys": public_keys(doc),
        "uuid": p.node.id,
        "name": p.node.name,
        "hostname": p.node.name,
        "launch_index": 0,
        "availability_zone": "baremetal",
        "meta": dict(p.node.labels),
    }


def _ec2(p: Pass) -> dict[str, Any]:
    return {
        "instance-id": p.node.id,
        "hostname": p.node.name,
        "local-hostname": p.node.name,
        "local-ipv4": _address(p) or "",
        "public-keys": {},
    }


def network_data(p: Pass) -> dict[str, Any]:
    """OpenStack's network_data: the booting NIC by DHCP; a fixed address where the port has one."""
    links = [{"id": f"port{i}", "type": "phy", "ethernet_mac_address": port.mac} for i, port in enumerate(p.ports)]
    networks = [_network(p, i, port) for i, port in enumerate(p.ports) if port.pxe_enabled][:1]
    return {"links": links, "networks": networks, "services": []}


def _network(p: Pass, index: int, port: Port) -> dict[str, Any]:
    return {"id": f"net{index}", "type": "ipv4_dhcp", "link": f"port{index}", "network_id": "provisioning"}


def _address(p: Pass) -> str | None:
    macs = [port.mac for port in p.ports]
    fixed = [port.address for port in p.ports if port.address]
    leased = p.world.store.read(lambda c: [wire_seen.address_of(c, mac) for mac in macs])
    return next((a for a in fixed + leased if a), None)


def _json(doc: Any) -> bytes:
    return json.dumps(doc, separators=(",", ":"), ensure_ascii=False).encode()
