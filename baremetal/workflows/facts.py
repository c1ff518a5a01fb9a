"""What boot planes saw, as events and rows: one handler for each kind of message, True when its node is due."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy.engine import Connection

from baremetal.model.event import Event, Kind
from baremetal.protocol.plane import Message
from baremetal.store import boots, events, ports, wire_seen
from baremetal.workflows import reported
from baremetal.workflows.beats import Beats
from baremetal.workflows.passes import World

Handler = Callable[[Connection, Message], bool]


class Facts:
    """`handler(message)` stores it. `moved` becomes true when a node has another address than before."""

    def __init__(self, world: World, beats: Beats) -> None:
        self.world, self.beats = world, beats
        self.moved = False

    def handler(self, message: Message) -> Handler | None:
        """Who takes messages of this kind."""
        found: Handler | None = getattr(self, "_on_" + message.kind.replace("-", "_"), None)
        return found

    def event(self, conn: Connection, message: Message, kind: Kind, stage: str, **more: Any) -> bool:
        """Append; False when this message was stored before."""
        more.setdefault("source", "boot")
        boot_id = more.pop("boot_id", None) or message.body.get("boot_id")
        told = Event(f"m-{message.id}", message.time, message.node, kind, stage, boot_id=boot_id, **more)
        return events.add(conn, told)

    def _on_boot_seen(self, conn: Connection, m: Message) -> bool:
        loader = str(m.body.get("loader", ""))
        stage = f"{m.body.get('arch', '?')} {loader}".strip()
        self.event(
            conn, m, Kind.DHCP, stage, data=_some(m.body, "mac", "arch", "loader", "decision", "because", "network")
        )
        return False

    def _on_unknown_seen(self, conn: Connection, m: Message) -> bool:
        facts = _some(m.body, "uuid", "arch", "loader", "network")
        wire_seen.meet(conn, str(m.body["mac"]).lower(), m.time, **facts)
        return False

    def _on_loader_sent(self, conn: Connection, m: Message) -> bool:
        ms = _ms(m.body)
        self.event(
            conn, m, Kind.LOADER, str(m.body.get("name", "")), duration_ms=ms, data=_some(m.body, "via", "bytes")
        )
        return False

    def _on_script_sent(self, conn: Connection, m: Message) -> bool:
        boot = boots.get(conn, m.body.get("boot_id"))
        serial = _serial(str(m.body.get("nonce_id", "")))
        if boot and boot.nonce_key and serial and serial > (boot.nonce_serial or 0):
            boots.change(conn, boot.id, nonce_serial=serial)
        self.event(conn, m, Kind.SCRIPT, "ipxe", data=_some(m.body, "purpose"))
        return False

    def _on_artifact_sent(self, conn: Connection, m: Message) -> bool:
        ms = _ms(m.body)
        self.event(conn, m, Kind.KERNEL, str(m.body.get("name", "")), duration_ms=ms, data=_some(m.body, "bytes"))
        return False

    def _on_report(self, conn: Connection, m: Message) -> bool:
        return reported.report(self, conn, m)

    def _on_config_report(self, conn: Connection, m: Message) -> bool:
        return reported.configuration(self, conn, m)

    def _on_metadata_sent(self, conn: Connection, m: Message) -> bool:
        self.event(conn, m, Kind.METADATA, "fetched", data=_some(m.body, "generation"))
        return False

    def _on_refused(self, conn: Connection, m: Message) -> bool:
        data = _some(m.body, "what", "why", "source")
        self.event(conn, m, Kind.SECURITY, str(m.body.get("what", "refused")), outcome="refused", data=data)
        return False

    def _on_lease(self, conn: Connection, m: Message) -> bool:
        b = m.body
        mac, network = str(b["mac"]).lower(), str(b.get("network", ""))
        if wire_seen.put_lease(conn, mac, str(b["address"]), network, float(b["expires"]), m.time):
            self.moved = self.moved or ports.owner(conn, mac) is not None
        return False

    def _on_serving(self, conn: Connection, m: Message) -> bool:
        detail = m.body.get("detail")
        data = detail if isinstance(detail, dict) else {"detail": detail}
        self.event(conn, m, Kind.SERVER, str(m.body.get("service", "boot plane")), data=data)
        return False


def _serial(text: str) -> int | None:
    try:
        return int(text.partition(".")[0], 16)
    except ValueError:
        return None


def _ms(body: dict[str, Any]) -> int | None:
    return int(float(body["seconds"]) * 1000) if body.get("seconds") is not None else None


def _some(body: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {k: body[k] for k in keys if body.get(k) is not None}
