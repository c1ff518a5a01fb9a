"""Control's end of plane.sock: pushes what the boot plane must know, takes in what it saw.

Any number of boot planes may connect; each gets a whole snapshot first, then
every change. Messages go to the inbox in order and are acknowledged once stored;
calls are answered. The socket's permissions decide who may connect.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable
from typing import Any, Protocol

from baremetal.errors import BaremetalError
from baremetal.protocol.doc import BadDocument
from baremetal.protocol.plane import MAX_FRAME, Message, NodeView, Snapshot

log = logging.getLogger(__name__)

PART_BYTES = 4 << 20  # a larger snapshot is sent in parts
QUEUE_BYTES = 64 << 20  # a boot plane that reads slower than this grows is cut off, and comes again
STORE_RETRY_S = 1.0
AWAY = frozenset({"store", "lease-lost"})  # codes of errors that pass: the message is tried again
TRIES = 10
VIEWS = 500  # nodes in one frame
STATUS = {
    "usage": 400,
    "not-found": 404,
    "refused": 409,
    "denied": 403,
    "unreachable": 503,
    "timeout": 504,
    "store": 503,
    "lease-lost": 503,
}


class Inbox(Protocol):
    """Where messages and calls go (workflows/inbox.py)."""

    async def messages(self, messages: list[Message], /) -> Any: ...
    async def call(self, kind: str, body: dict[str, Any], /) -> dict[str, Any]: ...


class PlaneLink:
    """`handle` serves one connection (asyncio.start_unix_server); `push` and `push_all` feed all of them."""

    def __init__(
        self,
        inbox: Inbox,
        snapshot: Callable[[], Snapshot],
        version: Callable[[], int],
        status: dict[str, Any] | None = None,
    ) -> None:
        self._inbox, self._snapshot, self._version = inbox, snapshot, version
        self._peers: set[_Peer] = set()
        self._status = {} if status is None else status
        self._note()

    def push(self, views: list[NodeView], gone: list[str]) -> None:
        """Send changed nodes to every boot plane that has its snapshot."""
        self._note()
        if self._peers:
            for start in range(0, max(len(views), 1), VIEWS):
                nodes = [view.to_json() for view in views[start : start + VIEWS]]
                frame = {"t": "nodes", "version": self._version(), "nodes": nodes, "gone": gone if start == 0 else []}
                for peer in list(self._peers):
                    peer.send(frame)

    def tell(self, frame: dict[str, Any]) -> None:
        """Send this to every boot plane."""
        for peer in list(self._peers):
            peer.send(frame)

    def push_all(self) -> None:
        """Networks, artifacts or images changed: everybody gets a whole snapshot."""
        self._note()
        if self._peers:
            parts = _parts(self._version(), self._snapshot())
            for peer in list(self._peers):
                for data in parts:
                    peer.write(data)

    def _note(self) -> None:
        """For GET /api/status: how many boot planes are there, what they have."""
        self._status["boot"] = {"connected": len(self._peers), "version": self._version()}

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One boot plane, until it goes."""
        peer = _Peer(writer)
        calls: set[asyncio.Task[None]] = set()
        try:
            for data in _parts(self._version(), self._snapshot()):
                peer.write(data)
            self._peers.add(peer)
            self._note()
            while True:
                frame = json.loads(await reader.readuntil(b"\n"))
                if frame["t"] == "messages":
                    await self._messages(peer, frame["messages"])
                elif frame["t"] == "call":
                    task = asyncio.create_task(self._call(peer, frame))
                    calls.add(task)
                    task.add_done_callback(calls.discard)
        except (OSError, asyncio.IncompleteReadError):
            pass
        except (ValueError, KeyError, TypeError, asyncio.LimitOverrunError) as exc:
            log.error("boot plane sent a frame that cannot be read: %s: %s", type(exc).__name__, exc)
        finally:
            self._peers.discard(peer)
            self._note()
            peer.close()
            for task in calls:
                task.cancel()

    async def _messages(self, peer: _Peer, docs: list[Any]) -> None:
        messages = [message for doc in docs if (message := _read(doc)) is not None]
        try:
            await self._inbox.messages(messages)
        except Exception:
            log.exception("inbox: a batch of %d messages failed; trying one by one", len(messages))
            for message in messages:
                await self._one(message)
        # Unreadable ones are acknowledged too, else they would come for ever.
        peer.send({"t": "ack", "ids": [doc["id"] for doc in docs if isinstance(doc, dict) and "id" in doc]})

    async def _one(self, message: Message) -> None:
        """Store one message. A store that is away is waited for; a message that cannot be stored is logged and left.

        What nobody foresaw is tried a few times, then left too: one message must not hold up a whole site's for ever.
        """
        tries = 0
        while True:
            try:
                await self._inbox.messages([message])
                return
            except (ValueError, KeyError, TypeError, AttributeError, BadDocument):
                log.exception("inbox: message %s %s is left out", message.kind, message.id)
                return
            except Exception as exc:
                tries += getattr(exc, "code", "") not in AWAY
                if tries == TRIES:
                    log.exception("inbox: message %s %s is left out", message.kind, message.id)
                    return
                log.error("inbox: message %s waits: %s: %s", message.id, type(exc).__name__, exc)
                await asyncio.sleep(STORE_RETRY_S)

    async def _call(self, peer: _Peer, frame: dict[str, Any]) -> None:
        answer: dict[str, Any] = {"t": "answer", "id": frame["id"]}
        try:
            answer["body"] = await self._inbox.call(frame["kind"], frame["body"])
        except BaremetalError as exc:
            status = getattr(exc, "http_status", None) or STATUS.get(exc.code, 400)
            answer["error"] = {
                "status": status,
                "code": exc.code,
                "brief": exc.brief,
                "detail": exc.detail,
                "fix": exc.fix,
            }
        except BadDocument as exc:
            answer["error"] = {"status": 400, "code": "usage", "brief": str(exc)}
        except Exception as exc:
            log.exception("call %s failed", frame.get("kind"))
            brief = f"the control plane failed on {frame.get('kind')}: {type(exc).__name__}"
            answer["error"] = {"status": 500, "code": "internal", "brief": brief, "fix": "see the server's log"}
        peer.send(answer)


class _Peer:
    """One boot plane's outgoing side. Frames leave in order: an answer never overtakes the view it rests on."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def send(self, frame: dict[str, Any]) -> None:
        self.write(_frame(frame))

    def write(self, data: bytes) -> None:
        if self._writer.is_closing():
            return
        self._writer.write(data)
        if self._writer.transport.get_write_buffer_size() > QUEUE_BYTES:
            log.error("a boot plane does not read what it is sent: cut off")
            self._writer.transport.abort()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._writer.close()


def _parts(version: int, snapshot: Snapshot) -> list[bytes]:
    """The snapshot as frames of about PART_BYTES."""
    groups: list[list[bytes]] = [[]]
    size = 0
    for node in snapshot.nodes:
        text = json.dumps(node, separators=(",", ":"), ensure_ascii=False).encode()
        if groups[-1] and size + len(text) > PART_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(text)
        size += len(text)
    rest = {"networks": snapshot.networks, "artifacts": snapshot.artifacts, "images": snapshot.images}
    frames = []
    for index, group in enumerate(groups):
        head = json.dumps(rest if index == 0 else {}, separators=(",", ":")).encode()[:-1]
        nodes = (b"," if index == 0 else b"") + b'"nodes":[' + b",".join(group) + b"]}"
        more = b"true" if index + 1 < len(groups) else b"false"
        frames.append(b'{"t":"snapshot","version":%d,"more":%s,"snapshot":%s%s}\n' % (version, more, head, nodes))
    return frames


def _read(doc: Any) -> Message | None:
    try:
        return Message.from_json(doc)
    except BadDocument as exc:
        log.error("boot plane: %s", exc)
        return None


def _frame(frame: dict[str, Any]) -> bytes:
    data = json.dumps(frame, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
    if len(data) > MAX_FRAME:
        log.error("a frame of %d bytes is larger than the boot plane takes", len(data))
    return data
