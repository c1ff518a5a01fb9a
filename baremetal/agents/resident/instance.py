"""What a freshly written image needs to become this node: its host name and its SSH keys.

Done once per deployment, from the OpenStack part of the config drive, and only
where cloud-init does not do it.
"""

from __future__ import annotations

import json
import os
import re
import socket
from typing import Any, Dict, List, Optional

META_DATA = "openstack/latest/meta_data.json"
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,62})(\.[A-Za-z0-9-]{1,63})*")
_KEY = re.compile(r"(ssh-|ecdsa-|sk-)[A-Za-z0-9@.-]+ [A-Za-z0-9+/=]+( [^\r\n]*)?")


def meta_data(drive: Dict[str, bytes]) -> Dict[str, Any]:
    """The OpenStack meta_data.json, empty when there is none or it is broken."""
    try:
        found = json.loads(drive.get(META_DATA, b"{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def has_cloud_init(root: str = "/") -> bool:
    return os.path.exists(os.path.join(root, "usr/bin/cloud-init"))


def personalise(drive: Dict[str, bytes], root: str = "/") -> List[str]:
    """Host name and authorized keys; gives what was done, for the log."""
    if has_cloud_init(root):
        return []
    meta = meta_data(drive)
    done = []
    name = host_name(meta)
    if name and _write_host_name(name, root):
        done.append(f"host name {name}")
    keys = public_keys(meta)
    if keys and _add_keys(keys, root):
        done.append(f"{len(keys)} SSH key(s) for root")
    return done


def host_name(meta: Dict[str, Any]) -> Optional[str]:
    """A usable host name, or None."""
    name = meta.get("hostname") or meta.get("name")
    return name if isinstance(name, str) and len(name) <= 253 and _HOST.fullmatch(name) else None


def public_keys(meta: Dict[str, Any]) -> List[str]:
    """SSH keys, one a line of authorized_keys; what is no key is left out."""
    found = meta.get("public_keys")
    texts = found.values() if isinstance(found, dict) else found if isinstance(found, list) else []
    return [t.strip() for t in texts if isinstance(t, str) and _KEY.fullmatch(t.strip())]


def _write_host_name(name: str, root: str) -> bool:
    path = os.path.join(root, "etc/hostname")
    if _text(path).strip() == name and (root != "/" or socket.gethostname() == name):
        return False
    os.makedirs(os.path.dirname(path), exist_ok=True)
    _replace(path, f"{name}\n", 0o644)
    if root == "/":
        socket.sethostname(name)
    return True


def _add_keys(keys: List[str], root: str) -> bool:
    directory = os.path.join(root, "root/.ssh")
    path = os.path.join(directory, "authorized_keys")
    have = _text(path)
    new = [key for key in keys if key not in have.splitlines()]
    if not new:
        return False
    os.makedirs(directory, mode=0o700, exist_ok=True)
    _replace(path, have.rstrip("\n") + ("\n" if have.strip() else "") + "\n".join(new) + "\n", 0o600)
    return True


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read()
    except OSError:
        return ""


def _replace(path: str, text: str, mode: int) -> None:
    staged = f"{path}.baremetal-new"
    with open(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as f:
        f.write(text)
    os.rename(staged, path)
