"""Hello: an agent shows the nonce of its boot and gets a token. Whatever is wrong with it is refused, and noted."""

from __future__ import annotations

import hashlib
import secrets as stdlib_secrets
from collections.abc import Iterator
from typing import Any, ClassVar

from sqlalchemy.engine import Connection

from baremetal.errors import Denied
from baremetal.model.event import Event, Kind
from baremetal.model.node import Node
from baremetal.protocol import nonce
from baremetal.protocol.agent import INSTANCE, RAMDISK, Hello
from baremetal.protocol.doc import BadDocument
from baremetal.store import boots, events, nodes, ports
from baremetal.store.boots import Boot
from baremetal.workflows import ids
from baremetal.workflows.allowance import Allowance
from baremetal.workflows.beats import Beats
from baremetal.workflows.passes import World
from baremetal.workflows.sameness import stranger

# An answer to hello can be lost on the way: the same nonce is good again for so long, while its token was never used.
REPEAT_S = 30.0
MOST_MACS = 64  # of one machine
MOST_WORD = 80  # characters of a version
# Refused hellos stored at once, and a second after that; anybody on the wire can cause them.
ALARMS = 30
ALARMS_PER_S = 0.5


class HelloRefused(Denied):
    """The nonce is unknown, too old, used or replaced."""

    code = "nonce-refused"
    http_status: ClassVar[int] = 403


class Hellos:
    """Decides about hellos. `beats`: what was heard of agents and is not stored yet."""

    def __init__(self, world: World, beats: Beats) -> None:
        self._world, self._beats = world, beats
        self._alarms = Allowance(ALARMS, ALARMS_PER_S)

    async def admitted(self, body: dict[str, Any]) -> tuple[Boot, str, str]:
        """The boot, a fresh token (stored), the node's name; HelloRefused says why not."""
        try:
            hello = Hello.from_json(body.get("hello"))
        except BadDocument as exc:
            raise HelloRefused("the hello is not one", detail=str(exc)) from exc
        if hello.agent not in (RAMDISK, INSTANCE) or max(len(hello.version), len(hello.firmware or "")) > MOST_WORD:
            raise HelloRefused("the hello is not one", detail="its agent, version or firmware is none that we know")
        return await self._decide(hello, str(body.get("source", "")))

    async def _decide(self, hello: Hello, source: str) -> tuple[Boot, str, str]:
        now = self._world.now()
        refusal: list[HelloRefused] = []

        def write(conn: Connection) -> tuple[Boot, str, str] | None:
            refusal.clear()
            try:
                return self._admit(conn, hello, source, now)
            except HelloRefused as exc:
                refusal.append(exc)  # the alarm below must be stored, so this write does not fail
                self._alarm(conn, hello, source, now, exc)
                return None

        admitted = await self._world.store.write(write)
        if admitted is None:
            raise refusal[0]
        return admitted

    def _admit(self, conn: Connection, hello: Hello, source: str, now: float) -> tuple[Boot, str, str]:
        """The boot this nonce was made for, a fresh token, the node's name."""
        boot = self._boot_of(conn, hello)
        node = nodes.get(conn, boot.node_id)
        if hello.agent != INSTANCE:
            self._check_machine(conn, node, hello)
        self._check_age(boot, hello, now)
        first = boot.hello_at is None
        token = stdlib_secrets.token_hex(32)
        facts = {
            **boot.facts,
            "firmware": hello.firmware,
            "version": hello.version,
            "source": source,
            "nonce": _mark(hello.nonce),
        }
        boots.change(
            conn,
            boot.id,
            hello_at=now,
            last_beat=None,
            token_sha256=hashlib.sha256(token.encode()).hexdigest(),
            stage="up",
            facts=facts,
            nonce_serial=nonce.serial_ms(hello.nonce),
        )
        columns: dict[str, Any] = {}
        if hello.firmware in ("bios", "uefi") and hello.agent != INSTANCE:
            columns["firmware"] = hello.firmware
        nodes.note(conn, boot.node_id, now, **columns)
        since = boot.powered_at or boot.created_at
        data = {"agent": hello.agent, "source": source, "firmware": hello.firmware}
        event = Event(
            ids.ulid(now),
            now,
            node.id,
            Kind.HELLO,
            hello.agent,
            "agent",
            outcome="ok" if first else "repeated",
            boot_id=boot.id,
            duration_ms=int((now - since) * 1000),
            data=data,
        )
        events.add_all(conn, [event])
        return boot, token, node.name

    def _boot_of(self, conn: Connection, hello: Hello) -> Boot:
        purpose = boots.INSTANCE if hello.agent == INSTANCE else boots.RAMDISK
        known = set()
        for node_id in _owners(conn, hello):
            known.add(node_id)
            boot = boots.live(conn, node_id).get(purpose)
            if boot and boot.nonce_key and self._made_for(hello.nonce, boot):
                return boot
        if not known:
            raise HelloRefused(
                f"no node has one of the MAC addresses {', '.join(hello.macs[:8])[:200] or '(none)'}",
                fix="enroll the machine first, with the MAC it boots from",
            )
        raise HelloRefused(
            "the nonce was not made for a boot that is under way", fix="power it off, then ask the verb again"
        )

    def _made_for(self, text: str, boot: Boot) -> bool:
        assert boot.nonce_key is not None
        key = self._world.operator.open(boot.nonce_key, boot.id, "nonce-key").reveal()
        try:
            nonce.serial_ms(text)
            return nonce.verify(text, key, boot.node_id, boot.id)
        except ValueError:
            return False

    def _check_machine(self, conn: Connection, node: Node, hello: Hello) -> None:
        before = stranger(conn, node, hello.uuid)
        if before is not None:
            name = node.name
            raise HelloRefused(
                f"another machine has the MAC of {name}: its UUID is {hello.uuid}, {name} was inspected as {before}",
                fix=f"find the doubled MAC; after a change of mainboard: baremetal node inspect {name}",
            )

    def _check_age(self, boot: Boot, hello: Hello, now: float) -> None:
        made = nonce.serial_ms(hello.nonce)
        valid_s = self._world.policy.instance_nonce_s if hello.agent == INSTANCE else nonce.VALID_S
        if now * 1000 - made > valid_s * 1000:
            raise HelloRefused(f"the nonce is {now - made / 1000:.0f} s old; it was good for {valid_s:.0f} s")
        if boot.hello_at is None:
            if made < (boot.nonce_serial or 0):
                raise HelloRefused(
                    "a later boot script was handed out since: its nonce counts", fix="only one machine may boot it"
                )
            return
        same = boot.facts.get("nonce") == _mark(hello.nonce)
        heard = boot.last_beat is not None or self._beats.heard(boot.id, boot.node_id)
        if not same or heard or now - boot.hello_at > REPEAT_S:
            raise HelloRefused(
                "this nonce was used already", fix="if nobody replayed it: power the machine off, then ask again"
            )

    def _alarm(self, conn: Connection, hello: Hello, source: str, now: float, exc: HelloRefused) -> None:
        """Note it; a flood of them is counted, not stored one by one."""
        if not self._alarms.take(now):
            return
        owners = [o for mac in hello.macs[:MOST_MACS] if (o := ports.owner(conn, mac))]
        data: dict[str, Any] = {"why": exc.brief, "source": source, "macs": hello.macs[:8], "agent": hello.agent}
        data |= {"uuid": hello.uuid, "fix": exc.fix}
        if left_out := self._alarms.left_out():
            data["left_out"] = left_out
        node_id = owners[0] if owners else None
        events.add_all(
            conn,
            [Event(ids.ulid(now), now, node_id, Kind.SECURITY, "hello-refused", "boot", outcome="refused", data=data)],
        )


def _owners(conn: Connection, hello: Hello) -> Iterator[str]:
    """Nodes this machine may be, the likeliest first."""
    seen = set()
    for mac in hello.macs[:MOST_MACS]:
        owner = ports.owner(conn, mac)
        if owner and owner not in seen:
            seen.add(owner)
            yield owner
    yield from (node.id for node in nodes.by_uuid(conn, hello.uuid) if node.id not in seen)


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
