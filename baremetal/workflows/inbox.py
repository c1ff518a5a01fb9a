"""What the boot plane tells us: facts and reports into the store, hello into a token.

Every message is idempotent by its id, or harmless to repeat; a message that
cannot be understood is noted and dropped, so that it blocks nothing behind it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import secrets as stdlib_secrets
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from sqlalchemy.engine import Connection
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError

from baremetal.errors import BaremetalError, Denied
from baremetal.model.event import Event, Kind
from baremetal.model.node import Node, State
from baremetal.protocol import nonce
from baremetal.protocol.agent import FAILED, INSTANCE, PROGRESS, RAMDISK, ConfigReport, Hello, HelloAnswer, Report
from baremetal.protocol.doc import BadDocument
from baremetal.protocol.plane import Message
from baremetal.store import boots, events, nodes, orders, ports, wire_seen
from baremetal.store.boots import Boot
from baremetal.workflows import ids
from baremetal.workflows.passes import World
from baremetal.workflows.sameness import stranger

log = logging.getLogger(__name__)

# An answer to hello can be lost on the way: the same nonce is good again for so long, while its token was never used.
REPEAT_S = 30.0
POLL_S = 30


class HelloRefused(Denied):
    """The nonce is unknown, too old, used or replaced."""

    code = "nonce-refused"
    http_status: ClassVar[int] = 403


# What is kept of a fault that an agent reports, in characters.
FAULT_TEXTS = {"code": 80, "brief": 500, "detail": 4000, "fix": 500}
FAULT_EVIDENCE = 4096
MOST_S = 30 * 24 * 3600.0  # no configuration run takes longer
MOST_MACS = 64  # of one machine
MOST_WORD = 80  # characters of a version
# Refused hellos stored at once, and a second after that; anybody on the wire can cause them.
ALARMS = 30
ALARMS_PER_S = 0.5


class Allowance:
    """So many at once, refilled at a rate; counts what it turned away."""

    def __init__(self, most: float, per_s: float) -> None:
        self._most, self._per_s = most, per_s
        self._have, self._at, self._turned_away = most, 0.0, 0

    def take(self, now: float) -> bool:
        """One more?"""
        self._have = min(self._most, self._have + max(0.0, now - self._at) * self._per_s)
        self._at = now
        if self._have < 1:
            self._turned_away += 1
            return False
        self._have -= 1
        return True

    def left_out(self) -> int:
        """How many were turned away since this was asked last."""
        count, self._turned_away = self._turned_away, 0
        return count


class Beats:
    """The newest beat of each agent, until it is stored."""

    def __init__(self) -> None:
        self._ramdisks: dict[str, float] = {}  # boot id -> Unix seconds
        self._instances: dict[str, float] = {}  # node id -> Unix seconds

    def add(self, m: Message) -> bool:
        """True when the message is a beat; it is kept here then."""
        if m.kind != "beat":
            return False
        if m.body.get("agent") == INSTANCE:
            if m.node:
                self.instance(m.node, m.time)
        elif boot_id := m.body.get("boot_id"):
            self.ramdisk(str(boot_id), m.time)
        return True

    def ramdisk(self, boot_id: str, at: float) -> None:
        """The ramdisk of this boot was heard."""
        self._ramdisks[boot_id] = max(at, self._ramdisks.get(boot_id, 0.0))

    def instance(self, node_id: str, at: float) -> None:
        """The deployed system of this node was heard."""
        self._instances[node_id] = max(at, self._instances.get(node_id, 0.0))

    def heard(self, boot_id: str, node_id: str) -> bool:
        """A beat that is not stored yet?"""
        return boot_id in self._ramdisks or node_id in self._instances

    def take(self) -> tuple[dict[str, float], dict[str, float]] | None:
        """All of them, by boot and by node; None when there is none."""
        if not self._ramdisks and not self._instances:
            return None
        found = (self._ramdisks, self._instances)
        self._ramdisks, self._instances = {}, {}
        return found


Woken = Callable[[set[str], set[str]], None]


class Inbox:
    """The control end of the planes' contract.

    `woken(nodes due, nodes whose view changed)` is called after each commit,
    `moved()` after one that gave a node another address.
    """

    def __init__(self, world: World, woken: Woken, moved: Callable[[], None] = lambda: None) -> None:
        self._world = world
        self._woken = woken
        self._tell_moved = moved
        self._moved = False  # a node has another address than before
        self._alarms = Allowance(ALARMS, ALARMS_PER_S)
        self._beats = Beats()

    async def flush_beats(self) -> None:
        """Store the beats gathered since the last time: thousands of agents cost one transaction."""
        if gathered := self._beats.take():
            await self._world.store.write(lambda c: boots.beats(c, *gathered))

    async def messages(self, batch: list[Message]) -> None:
        """Store these; when this returns they are durable. Beats are only gathered: the next one follows."""
        batch = [message for message in batch if not self._beats.add(message)]
        if not batch:
            return
        due: set[str] = set()
        changed: set[str] = set()

        def write(conn: Connection, careful: bool) -> None:
            due.clear()
            changed.clear()
            for message in batch:
                self._take(conn, message, due, careful)

        careful = not self._world.store.shared  # else a savepoint costs two more messages to the database
        try:
            await self._world.store.write(functools.partial(write, careful=careful))
        except Exception:  # a message that cannot be stored, it seems: the others are
            if careful:
                raise
            await self._world.store.write(functools.partial(write, careful=True))
        self._woken(due, changed)
        if self._moved:
            self._moved = False
            self._tell_moved()

    async def call(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        """Answer a call at once; raises BaremetalError (its http_status, if it has one, is for the answer)."""
        if kind == "token":
            return await self._token(str(body.get("sha256", "")))
        if kind != "hello":
            raise BaremetalError(f"unknown call {kind!r}")
        try:
            hello = Hello.from_json(body.get("hello"))
        except BadDocument as exc:
            raise HelloRefused("the hello is not one", detail=str(exc)) from exc
        if hello.agent not in (RAMDISK, INSTANCE) or max(len(hello.version), len(hello.firmware or "")) > MOST_WORD:
            raise HelloRefused("the hello is not one", detail="its agent, version or firmware is none that we know")
        return await self._hello(hello, str(body.get("source", "")))

    async def _token(self, digest: str) -> dict[str, Any]:
        """A token that the asking boot plane has not heard of: when it is good, its node is pushed first."""
        boot = await self._world.store.fetch(lambda c: boots.by_token(c, digest))
        if boot is not None:
            self._woken(set(), {boot.node_id})
        return {"known": boot is not None}

    # -- messages --------------------------------------------------------------

    def _take(self, conn: Connection, message: Message, due: set[str], careful: bool) -> None:
        if not careful and (plain := self._handler(message)):
            if plain(conn, message) and message.node:
                due.add(message.node)
            return
        handler = self._handler(message)
        try:
            if handler is None:
                raise BadDocument(f"unknown message kind {message.kind!r}")
            conn.exec_driver_sql("SAVEPOINT message")
            try:
                if handler(conn, message) and message.node:
                    due.add(message.node)
            except BaseException:
                conn.exec_driver_sql("ROLLBACK TO message")
                raise
            finally:
                conn.exec_driver_sql("RELEASE message")
        except (OperationalError, InterfaceError, InternalError):
            raise  # the database, not the message
        except Exception as exc:
            # Whatever a message does to us, it must not keep those behind it from being stored.
            log.warning("message %s (%s) is dropped: %s: %s", message.id, message.kind, type(exc).__name__, exc)
            self._event(conn, message, Kind.SERVER, "message-dropped", outcome="failed", data={"why": str(exc)[:300]})

    def _handler(self, message: Message) -> Callable[[Connection, Message], bool] | None:
        return getattr(self, "_on_" + message.kind.replace("-", "_"), None)

    def _event(self, conn: Connection, message: Message, kind: Kind, stage: str, **more: Any) -> bool:
        """Append; False when this message was stored before."""
        more.setdefault("source", "boot")
        boot_id = more.pop("boot_id", None) or message.body.get("boot_id")
        told = Event(f"m-{message.id}", message.time, message.node, kind, stage, boot_id=boot_id, **more)
        return events.add(conn, told)

    def _on_boot_seen(self, conn: Connection, m: Message) -> bool:
        loader = str(m.body.get("loader", ""))
        stage = f"{m.body.get('arch', '?')} {loader}".strip()
        self._event(
            conn, m, Kind.DHCP, stage, data=_some(m.body, "mac", "arch", "loader", "decision", "because", "network")
        )
        return False

    def _on_unknown_seen(self, conn: Connection, m: Message) -> bool:
        facts = _some(m.body, "uuid", "arch", "loader", "network")
        wire_seen.meet(conn, str(m.body["mac"]).lower(), m.time, **facts)
        return False

    def _on_loader_sent(self, conn: Connection, m: Message) -> bool:
        ms = _ms(m.body)
        self._event(
            conn, m, Kind.LOADER, str(m.body.get("name", "")), duration_ms=ms, data=_some(m.body, "via", "bytes")
        )
        return False

    def _on_script_sent(self, conn: Connection, m: Message) -> bool:
        boot = boots.get(conn, m.body.get("boot_id"))
        serial = _serial(str(m.body.get("nonce_id", "")))
        if boot and boot.nonce_key and serial and serial > (boot.nonce_serial or 0):
            boots.change(conn, boot.id, nonce_serial=serial)
        self._event(conn, m, Kind.SCRIPT, "ipxe", data=_some(m.body, "purpose"))
        return False

    def _on_artifact_sent(self, conn: Connection, m: Message) -> bool:
        ms = _ms(m.body)
        self._event(conn, m, Kind.KERNEL, str(m.body.get("name", "")), duration_ms=ms, data=_some(m.body, "bytes"))
        return False

    def _on_report(self, conn: Connection, m: Message) -> bool:
        report = Report.from_json(m.body["report"])
        order = orders.get(conn, report.order_id)
        if order is None or order.node_id != m.node:
            raise BadDocument(f"report about order {report.order_id!r}, which this node does not have")
        self._beats.ramdisk(order.boot_id, m.time)
        if report.outcome == PROGRESS:
            orders.progress(conn, order.id, _progress(report.data), m.time)
            return False
        fault = _fault(report.fault)
        if not orders.finish(conn, order.id, report.outcome, m.time, report.data, fault):
            return False
        spent = int((m.time - order.issued_at) * 1000)
        outcome = "failed" if report.outcome == FAILED else "ok"
        code = (fault or {}).get("code")
        self._event(
            conn,
            m,
            Kind.STEP,
            f"agent.{order.kind}",
            source="agent",
            outcome=outcome,
            duration_ms=spent,
            fault_code=code,
        )
        return nodes.note(conn, order.node_id, self._world.now())

    def _on_config_report(self, conn: Connection, m: Message) -> bool:
        report = ConfigReport.from_json(m.body["report"])
        if m.node is None:
            raise BadDocument("a configuration report without a node")
        instance = boots.live(conn, m.node).get(boots.INSTANCE)
        stage = f"generation {report.metadata_generation}"
        bad = report.outcome == FAILED
        fault = _fault(report.fault)
        node = nodes.find(conn, m.node)
        if node is None:
            raise BadDocument("a configuration report of a node that was deleted meanwhile")
        scripts = [{k: s.get(k) for k in ("phase", "name", "exit", "seconds")} for s in report.scripts][:40]
        data = {"outcome": report.outcome, "files": len(report.files), "scripts": scripts}
        new = self._event(
            conn,
            m,
            Kind.CONFIG,
            stage,
            source="agent",
            outcome="failed" if bad else "ok",
            duration_ms=int(max(0.0, min(report.seconds, MOST_S)) * 1000),
            fault_code=(fault or {}).get("code"),
            boot_id=instance.id if instance else None,
            data=data,
        )
        if not new:
            return False
        if instance:
            self._beats.instance(m.node, m.time)
        same_boot = node.config.get("boot_id") == (instance.id if instance else None)
        if same_boot and float(node.config.get("at") or 0.0) > m.time:
            return False  # a server that was away kept it; the node said more since, to another one
        config = {
            "outcome": report.outcome,
            "generation": report.metadata_generation,
            "applied": node.config.get("applied") if bad else report.metadata_generation,
            "drift": [str(f.get("path", ""))[:300] for f in report.files][:20] if report.outcome == "drift" else [],
            "facts": {str(k)[:40]: v for k, v in list(report.facts.items())[:20] if isinstance(v, (str, int, float))},
            "at": m.time,
            "boot_id": instance.id if instance else None,
            "fault": fault,
            "scripts": [{**s, "tail": str(s.get("tail", ""))[-500:]} for s in report.scripts if s.get("exit")][:5],
            "seconds": report.seconds,
        }
        if node.state is State.ACTIVE and node.wanted is None:
            nodes.see(conn, m.node, config=config)  # nobody decides anything on it: a thousand passes are saved
            return False
        return nodes.note(conn, m.node, self._world.now(), config=config)

    def _on_metadata_sent(self, conn: Connection, m: Message) -> bool:
        self._event(conn, m, Kind.METADATA, "fetched", data=_some(m.body, "generation"))
        return False

    def _on_refused(self, conn: Connection, m: Message) -> bool:
        data = _some(m.body, "what", "why", "source")
        self._event(conn, m, Kind.SECURITY, str(m.body.get("what", "refused")), outcome="refused", data=data)
        return False

    def _on_lease(self, conn: Connection, m: Message) -> bool:
        b = m.body
        mac, network = str(b["mac"]).lower(), str(b.get("network", ""))
        if wire_seen.put_lease(conn, mac, str(b["address"]), network, float(b["expires"]), m.time):
            self._moved = self._moved or ports.owner(conn, mac) is not None
        return False

    def _on_serving(self, conn: Connection, m: Message) -> bool:
        detail = m.body.get("detail")
        data = detail if isinstance(detail, dict) else {"detail": detail}
        self._event(conn, m, Kind.SERVER, str(m.body.get("service", "boot plane")), data=data)
        return False

    # -- hello -----------------------------------------------------------------

    async def _hello(self, hello: Hello, source: str) -> dict[str, Any]:
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
        boot, token, name = admitted
        self._woken({boot.node_id}, {boot.node_id})
        return HelloAnswer(token, boot.node_id, name, boot.id, POLL_S).to_json()

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


def _fault(doc: dict[str, Any] | None) -> dict[str, Any] | None:
    """An agent's fault, as far as it is one: texts of a sane length, evidence that is a mapping."""
    if not doc:
        return None
    texts = {k: str(doc.get(k) or "").replace("\0", "")[:most] for k, most in FAULT_TEXTS.items()}
    evidence = doc.get("evidence")
    kept = evidence if isinstance(evidence, dict) and len(json.dumps(evidence)) <= FAULT_EVIDENCE else {}
    return {**texts, "evidence": kept}


def _progress(data: dict[str, Any]) -> dict[str, Any]:
    """How far an agent is: numbers that can be shown and divided, nothing else."""
    found: dict[str, Any] = {k: str(data[k])[:100] for k in ("stage", "unit") if isinstance(data.get(k), str)}
    for key in ("done", "total", "rate"):
        value = data.get(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**63:
            found[key] = value if key == "rate" else int(value)
    return found


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _serial(text: str) -> int | None:
    try:
        return int(text.partition(".")[0], 16)
    except ValueError:
        return None


def _ms(body: dict[str, Any]) -> int | None:
    return int(float(body["seconds"]) * 1000) if body.get("seconds") is not None else None


def _some(body: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {k: body[k] for k in keys if body.get(k) is not None}
