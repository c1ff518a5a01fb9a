"""Rescue: the ramdisk beside the deployed disk, and a person let in by a one-time key or password; and back."""

from __future__ import annotations

import re
import secrets as stdlib_secrets
from typing import Any

from baremetal.errors import UsageError
from baremetal.model.event import Kind
from baremetal.model.node import Power
from baremetal.protocol import agent
from baremetal.store.orders import OrderRow
from baremetal.workflows import shacrypt
from baremetal.workflows.diskless import own_device
from baremetal.workflows.machine import ensure_power
from baremetal.workflows.outcome import Done, Outcome
from baremetal.workflows.passes import Pass
from baremetal.workflows.ramdisk import agent_up, in_ramdisk
from baremetal.workflows.release import off
from baremetal.workflows.steps import step

TAKES = frozenset({"password", "password_hash", "authorized_keys", "ssh"})
_KEY = re.compile(
    r"(ssh-(ed25519|rsa)|ecdsa-sha2-nistp(256|384)|sk-ssh-ed25519@openssh\.com) [A-Za-z0-9+/=]+( [ -~]*)?\Z"
)
_PLACE = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):\d{1,5}\Z")
LET_IN_S = 60.0
ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # none that a person mistakes for another on a serial console


def one_time_password() -> str:
    """16 characters, 79 bits, in groups a person can type."""
    text = "".join(stdlib_secrets.choice(ALPHABET) for _ in range(16))
    return "-".join(text[n : n + 4] for n in range(0, 16, 4))


def checked(args: dict[str, Any]) -> dict[str, Any]:
    """The verb's arguments as they are stored: a password only as its hash."""
    kept = {k: v for k, v in args.items() if k != "password"}
    password = args.get("password")
    if password is not None:
        if not isinstance(password, str) or not 8 <= len(password) <= 128:
            raise UsageError("a rescue password has 8 to 128 characters")
        kept["password_hash"] = shacrypt.hashed(password)
    keys = kept.get("authorized_keys") or []
    if not isinstance(keys, list) or not all(isinstance(k, str) and _KEY.match(k) for k in keys):
        raise UsageError("authorized_keys is a list of SSH public keys, without options")
    if not kept.get("password_hash") and not keys:
        raise UsageError("rescue: with which password or key?", fix="baremetal node rescue NODE makes one for you")
    _check_ssh(kept.get("ssh"), keys)
    return kept


def _check_ssh(ssh: Any, keys: list[str]) -> None:
    """Nothing, {"dial": "host:port"} (the node connects there), or {"listen": port} (the operator approved it)."""
    if not ssh:
        if keys:
            raise UsageError("a key without ssh lets nobody in", fix="--ssh-dial HOST:PORT, or --ssh-listen PORT")
        return
    if isinstance(ssh, dict) and set(ssh) == {"dial"} and _PLACE.match(str(ssh["dial"])):
        return
    if (
        isinstance(ssh, dict)
        and set(ssh) == {"listen"}
        and isinstance(ssh["listen"], int)
        and 0 < ssh["listen"] < 65536
    ):
        return
    raise UsageError(f"ssh is {ssh!r}", fix='{"dial": "host:port"} or {"listen": port}')


@step("rescue.boot_ramdisk", 100, "boot the ramdisk beside the deployed disk")
async def boot_ramdisk(p: Pass) -> Outcome:
    """The agent must answer; the disk stays untouched."""
    return await agent_up(p)


@step("rescue.let_in", 50, "a login on the serial console; ssh where the operator approved it")
async def let_in(p: Pass) -> Outcome:
    """Passwords travel as hashes, over TLS, in a signed order."""
    args = {k: p.node.wanted_args.get(k) for k in ("password_hash", "authorized_keys", "ssh")}
    if not args["password_hash"] and not args["authorized_keys"]:
        return Done("the ramdisk runs; nobody was to be let in")
    answer = await in_ramdisk(p, agent.RESCUE, {k: v for k, v in args.items() if v}, LET_IN_S)
    if not isinstance(answer, OrderRow):
        return answer
    seen = {k: answer.data.get(k) for k in ("consoles", "ssh", "host_key") if answer.data.get(k)}
    p.event(Kind.SECURITY, "rescue-open", source="agent", data=seen)
    p.change(extra={**p.node.extra, "rescue": {**seen, "at": p.now}})
    return Done(said(seen))


def said(seen: dict[str, Any]) -> str:
    """How to get in, in one line."""
    ways = [f"log in as root on {', '.join(seen['consoles'])}"] if seen.get("consoles") else []
    ssh = seen.get("ssh") or {}
    if ssh.get("dial"):
        ways.append(f"ssh waits for a client at {ssh['dial']}")
    if ssh.get("listen"):
        ways.append(f"ssh on port {ssh['listen']}")
    key = f", host key {seen['host_key']}" if seen.get("host_key") else ""
    return "; ".join(ways) + key or "the ramdisk runs"


@step("unrescue.power_off", 100, "end the ramdisk, and the password with it")
async def unrescue_off(p: Pass) -> Outcome:
    """Its token is dead; key and password lived in its memory only."""
    p.change(extra={k: v for k, v in p.node.extra.items() if k != "rescue"})
    return await off(p)


@step("unrescue.boot_device", 60, "the machine boots what is deployed again")
async def unrescue_device(p: Pass) -> Outcome:
    """Persistent, read back."""
    return await own_device(p)


@step("unrescue.power_on", 20, "power on into the deployed system")
async def unrescue_on(p: Pass) -> Outcome:
    """Ensure on."""
    return await ensure_power(p, Power.ON)
