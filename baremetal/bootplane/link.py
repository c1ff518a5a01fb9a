"""The boot plane's end of plane.sock: snapshots in, messages and calls out.

Runs for ever: connects, takes the snapshot, delivers the spool in order (one
batch under way at a time), and connects again when control has gone. The last
snapshot is kept on disk, so a boot process that starts while control is away
still knows its nodes.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from baremetal.bootplane.copy import SnapshotCopy
from baremetal.bootplane.seldom import Share
from baremetal.bootplane.spool import Spool, SpoolFull
from baremetal.bootplane.state import State
from baremetal.errors import BaremetalError, Unreachable
from baremetal.protocol.plane import MAX_FRAME, Message, NodeView, Snapshot

log = logging.getLogger(__name__)

BATCH = 200  # messages
BATCH_BYTES = 1 << 20
STORED_S = 10.0  # an agent waits this long until its report is in the database that servers share
CALL_S = 15.0  # a caller waits this long for control's answer
RETRY_S = (0.05, 0.1, 0.2)  # between attempts to connect; the last repeats
UNREADABLE_S = 1.0  # before connecting again to a control that sent rubbish
# Anybody on the wire can cause these, as often as he likes; each becomes a row in the database.
SIGHTINGS = frozenset({"unknown-seen", "loader-sent", "artifact-sent", "metadata-sent", "boot-seen", "refused"})
SAVE_AFTER_S = 0.5  # changes are gathered before the snapshot is written


class ControlAway(Unreachable):
    """The control plane does not answer; the caller should come again."""

    code = "control-away"


class CallFailed(BaremetalError):
    """Control answered with an error. `status` is its HTTP status."""

    def __init__(self, status: int, error: Mapping[str, Any]) -> None:
        text = {key: str(error.get(key, "")) for key in ("brief", "detail", "fix")}
        super().__init__(text["brief"] or "control refused", detail=text["detail"], fix=text["fix"])
        self.status = status
        self.said_code = str(error.get("code", "error"))


class Link:
    """`await run()` until cancelled. `synced`: a snapshot of this connection is loaded."""

    def __init__(self, socket_path: Path, state: State, spool: Spool, copy: SnapshotCopy | None = None) -> None:
        self.state = state
        self.synced = False
        self.on_release: Callable[[str], None] | None = None  # an operator takes this address back
        self._socket, self._spool, self._copy = socket_path, spool, copy
        self._writer: asyncio.StreamWriter | None = None
        self._calls: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._stored: dict[str, asyncio.Future[None]] = {}  # by message id: who waits until it is in the database
        self._in_flight: frozenset[str] = frozenset()
        self._parts: list[Snapshot] = []
        self._ids = (f"{os.getpid():x}-{secrets.token_hex(6)}-{n:x}" for n in itertools.count(1))
        self._save: asyncio.TimerHandle | None = None
        self._saving: asyncio.Task[None] | None = None
        self._syncing: _Sync | None = None
        self._of_node, self._of_strangers = Share(60, 1.0), Share(1000, 20.0)

    # ---------------------------------------------------------- outwards

    def tell(self, kind: str, node: str | None, body: dict[str, Any], *, sync: bool = False) -> None:
        """Queue a message; SpoolFull when it cannot be kept."""
        self._tell(next(self._ids), kind, node, body, sync=sync)

    def _tell(self, message_id: str, kind: str, node: str | None, body: dict[str, Any], *, sync: bool = False) -> None:
        self._spool.put(Message(message_id, kind, self.state.standing.time(), node, body), sync=sync)
        self._deliver()

    async def tell_durably(self, kind: str, node: str | None, body: dict[str, Any]) -> None:
        """Queue a message; returns when it would survive a power cut. A thousand at once share the disk's time.

        With several servers that means: stored in the database, for this machine may never come back.
        """
        if self.state.standing.shared:
            await self._tell_stored(kind, node, body)
            return
        self.tell(kind, node, body)
        if self._syncing is None or self._syncing.started:
            self._syncing = _Sync(self._syncing, self._spool)
        await asyncio.shield(self._syncing.done)  # one who hangs up takes nobody along

    async def _tell_stored(self, kind: str, node: str | None, body: dict[str, Any]) -> None:
        """ControlAway when it is not known to be stored: the agent says it again, here or elsewhere."""
        if self._writer is None or not self.synced:
            raise ControlAway("the control plane is away", fix="try again in a few seconds, or another server")
        message_id = next(self._ids)
        stored = self._stored[message_id] = asyncio.get_running_loop().create_future()
        try:
            self._tell(message_id, kind, node, body)
            async with asyncio.timeout(STORED_S):
                await stored
        except TimeoutError:
            raise ControlAway(f"{kind} is not stored after {STORED_S:.0f} s") from None
        finally:
            self._stored.pop(message_id, None)

    def note(self, kind: str, node: str | None, body: dict[str, Any]) -> None:
        """Queue a message whose loss must not stop anything: of a flood of one kind from one node, a trickle."""
        if kind in SIGHTINGS and not (self._of_node if node else self._of_strangers).take(f"{kind} {node or ''}"):
            return
        with contextlib.suppress(SpoolFull):
            self.tell(kind, node, body)

    def event(self, event: Mapping[str, Any]) -> None:
        """What DHCP and TFTP report: {"kind", "node", "body"}."""
        self.note(event["kind"], event.get("node"), dict(event.get("body") or {}))

    async def call(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask control and wait; ControlAway or CallFailed."""
        if self._writer is None or not self.synced:
            raise ControlAway("the control plane is away", fix="try again in a few seconds")
        call_id = next(self._ids)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._calls[call_id] = future
        try:
            self._send({"t": "call", "id": call_id, "kind": kind, "body": body})
            async with asyncio.timeout(CALL_S):
                return await future
        except TimeoutError:
            raise ControlAway(f"the control plane did not answer {kind} within {CALL_S:.0f} s") from None
        finally:
            self._calls.pop(call_id, None)

    # ---------------------------------------------------------- life

    def recall(self) -> bool:
        """Load the copy of the last snapshot; False when there is none."""
        if self._copy is None:
            return False
        try:
            found = self._copy.read()
            if found is None:
                return False
            self.state.load(*found)
        except (OSError, ValueError, KeyError, TypeError) as exc:
            log.warning("the copy of the snapshot is unusable, waiting for control: %s", exc)
            return False
        return True

    async def run(self) -> None:
        """Connect, serve, connect again."""
        attempt = 0
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(str(self._socket), limit=MAX_FRAME + 1)
            except OSError:
                await asyncio.sleep(RETRY_S[min(attempt, len(RETRY_S) - 1)])
                attempt += 1
                continue
            attempt, pause = 0, 0.0
            self._writer = writer
            try:
                await self._serve(reader)
            except asyncio.CancelledError:
                self.synced = False  # we stop: nothing to report
                raise
            except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                pass
            except (ValueError, KeyError, TypeError, AttributeError) as exc:
                log.error("control sent a frame that cannot be read: %s: %s", type(exc).__name__, exc)
                pause = UNREADABLE_S
            finally:
                self._lost()
                writer.close()
            await asyncio.sleep(pause)

    async def close(self) -> None:
        """Write what is due."""
        if self._save is not None:
            self._save.cancel()
            self._save = None
            await self._write_copy()
        self._spool.close()

    async def _serve(self, reader: asyncio.StreamReader) -> None:
        while True:
            self._receive(json.loads(await reader.readuntil(b"\n")))

    def _lost(self) -> None:
        if self.synced:
            log.warning("control plane is away; answering from version %s", self.state.version)
        self._writer, self.synced, self._in_flight, self._parts = None, False, frozenset(), []
        for waiting in self._stored.values():
            if not waiting.done():
                waiting.set_exception(ControlAway("the control plane went away", fix="try again in a few seconds"))
        for future in self._calls.values():
            if not future.done():
                future.set_exception(ControlAway("the control plane went away", fix="try again in a few seconds"))

    # ---------------------------------------------------------- inwards

    def _receive(self, frame: dict[str, Any]) -> None:
        match frame["t"]:
            case "snapshot":
                self._snapshot(frame)
            case "nodes":
                self.state.change(frame["version"], map(NodeView.from_json, frame["nodes"]), frame.get("gone", ()))
                self._save_soon()
            case "release":
                if self.on_release is not None:
                    self.on_release(str(frame["address"]))
            case "lease":
                self.state.standing.told(frame)
            case "ack":
                self._spool.acknowledge(frame["ids"])
                for message_id in frame["ids"] if self._stored else ():
                    waiting = self._stored.get(message_id)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(None)
                self._in_flight -= set(frame["ids"])
                self._deliver()
            case "answer":
                self._answer(frame)
            case other:
                log.info("frame %r of a newer control plane ignored", other)

    def _snapshot(self, frame: dict[str, Any]) -> None:
        self._parts.append(Snapshot.from_json(frame["snapshot"]))
        if frame.get("more"):
            return
        parts, self._parts = self._parts, []
        nodes = [doc for part in parts for doc in part.nodes]
        first = parts[0]
        self.state.load(frame["version"], Snapshot(first.networks, nodes, first.artifacts, first.images))
        if not self.synced:
            log.info("control plane is there: version %s, %d nodes", self.state.version, len(self.state.nodes))
        self.synced = True
        self._save_soon()
        self._deliver()

    def _answer(self, frame: dict[str, Any]) -> None:
        future = self._calls.get(frame["id"])
        if future is None or future.done():
            return
        error = frame.get("error")
        if error is not None:
            future.set_exception(CallFailed(int(error.get("status", 500)), error))
        else:
            future.set_result(frame["body"])

    # ---------------------------------------------------------- delivery and copy

    def _deliver(self) -> None:
        """Send the next batch when none is under way. Unacknowledged ones go again on a new connection."""
        if self._writer is None or not self.synced or self._in_flight or not len(self._spool):
            return
        batch = self._spool.lines(BATCH, BATCH_BYTES)
        self._in_flight = frozenset(batch)
        lines = b",".join(line.rstrip(b"\n") for line in batch.values())
        self._writer.write(b'{"t":"messages","messages":[' + lines + b"]}\n")

    def _send(self, frame: dict[str, Any]) -> None:
        assert self._writer is not None
        self._writer.write(json.dumps(frame, separators=(",", ":"), ensure_ascii=False).encode() + b"\n")

    def _save_soon(self) -> None:
        if self._copy is not None and self._save is None:
            self._save = asyncio.get_running_loop().call_later(SAVE_AFTER_S, self._start_save)

    def _start_save(self) -> None:
        self._save = None
        if self._saving is not None and not self._saving.done():
            self._save_soon()
            return
        self._saving = asyncio.get_running_loop().create_task(self._write_copy())

    async def _write_copy(self) -> None:
        assert self._copy is not None
        version, snapshot = self.state.version, self.state.to_snapshot()
        try:
            await asyncio.to_thread(self._copy.write, version, snapshot)
        except OSError as exc:
            log.warning("the copy of the snapshot cannot be written: %s", exc)


class _Sync:
    """One look of the disk at the spool, after the one before; who comes before it starts is in it."""

    def __init__(self, before: _Sync | None, spool: Spool) -> None:
        self.started = False
        self.done = asyncio.ensure_future(self._run(before, spool))

    async def _run(self, before: _Sync | None, spool: Spool) -> None:
        if before is not None:
            await asyncio.wait([before.done])
        self.started = True
        await asyncio.to_thread(spool.sync())
