"""TFTP read server on one address under an asyncio loop; the protocol is in wire/tftp.

    server = TftpServer(address, 69, tree, on_event)
    server.start(loop)
    server.close()

`tree.get(name)` gives bytes, a Path, or None: a dict will do. Nothing else of
the disk can be reached. Writing is refused.

All transfers sit in one epoll of their own, which is one reader of the loop:
asyncio's cost per event would be as large as that of the packet. Each transfer
has a connected socket (fast, deaf to strangers) and beside it, on the same
port, an open one that tells strangers they are wrong (RFC 1350, error 5).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import select
import socket
import stat
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from baremetal.errors import BaremetalError, MachineError
from baremetal.serve.sockets import udp_socket
from baremetal.wire.tftp.blocks import Blocks, PageCache, Reader, netascii
from baremetal.wire.tftp.packet import (
    ACCESS,
    NOT_DEFINED,
    NOT_FOUND,
    UNKNOWN_TID,
    BadPacket,
    Request,
    error,
    parse_request,
)
from baremetal.wire.tftp.transfer import Outcome, Terms, Transfer, negotiate

UDP_SEGMENT = 103  # linux/udp.h
TICK_S = 0.1
TOLD_AGAIN_S = 30.0
MOST_TOLD = 500  # refusals told within TOLD_AGAIN_S: names can be invented
CHECK_S = 5.0  # how often the interface is looked at
ACK_BYTES = 16  # of a client's datagram; an ACK has 4, and what an ERROR says in words is for nobody
ROUNDS = 16  # polls of the inner epoll before the loop gets its turn
LARGEST_TEXT = 16 << 20  # netascii is converted in memory
FRAME = {socket.AF_INET: 1468, socket.AF_INET6: 1448}  # TFTP data in an Ethernet frame of 1,500 bytes

# Names that loaders ask for in case they are there: shim for revocations and certificates, GRUB for modules and lists.
_IN_CASE = re.compile(r"(revocations_\w+|shim_certificate_\d+)\.efi|grub/.*\.(lst|mod)")

OnEvent = Callable[[dict[str, Any]], None]


class Tree(Protocol):
    """The virtual file tree."""

    def get(self, name: str, /) -> bytes | Path | None: ...


class _File:
    """An open file, shared by its transfers."""

    __slots__ = ("fd", "key", "refs", "size")

    def __init__(self, fd: int, size: int, key: object) -> None:
        self.fd, self.size, self.key, self.refs = fd, size, key, 0

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self.fd, size, offset)


class _Session:
    __slots__ = (
        "asked", "began", "file", "name", "open", "peer", "read", "receive", "segmented", "size", "sock", "transfer",
        "whole", "write",
    )  # fmt: skip

    def __init__(
        self, transfer: Transfer, sock: socket.socket, strangers: socket.socket, peer: Any, name: str, asked: bytes
    ) -> None:
        self.transfer, self.sock, self.open, self.peer, self.name = transfer, sock, strangers, peer, name
        self.asked = asked  # the request as it came
        self.read, self.receive, self.write = sock.recv, transfer.receive, sock.send  # for every packet
        self.began = time.monotonic()
        self.segmented = False
        self.whole = False  # every answer is one packet
        self.size = 0
        self.file: _File | None = None


class TftpServer:
    """Serves `tree` on one address. `per_client` and `most` bound the transfers in flight."""

    def __init__(
        self,
        address: str,
        port: int,
        tree: Tree,
        on_event: OnEvent,
        *,
        interface: str | None = None,
        per_client: int = 64,
        most: int = 4096,
        largest_block: int | None = None,
        cache: PageCache | None = None,
    ) -> None:
        self.address, self.port = address, port
        self._tree = tree
        self._on_event = on_event
        self._interface = interface
        self._per_client, self._most = per_client, most
        self._family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._largest = largest_block or FRAME[self._family]
        self._cache = cache or PageCache()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listen: socket.socket | None = None
        self._epoll: select.epoll | None = None
        self._sessions: dict[int, _Session] = {}
        self._open: dict[int, _Session] = {}
        self._by_peer: dict[Any, _Session] = {}
        self._clients: Counter[str] = Counter()
        self._files: dict[object, _File] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._check: asyncio.TimerHandle | None = None
        self._index = 0
        self._told: set[tuple[str, str]] = set()
        self._told_since = float("-inf")
        self._closed = False

    # ------------------------------------------------------------ life

    def start(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Listen; raises MachineError with what to do."""
        self._loop = loop or asyncio.get_running_loop()
        _allow_descriptors(3 * self._most)
        self._epoll = select.epoll()
        try:
            self._open_listener()
        except BaseException:
            self._epoll.close()
            self._epoll = None
            raise
        self._loop.add_reader(self._epoll.fileno(), self._ready)
        if self._interface is not None:
            self._check = self._loop.call_later(CHECK_S, self._look)

    def _open_listener(self) -> None:
        assert self._epoll is not None
        self._listen = udp_socket(self._interface, self.address, self.port)
        self.port = self._listen.getsockname()[1]
        self._index = socket.if_nametoindex(self._interface) if self._interface is not None else 0
        self._epoll.register(self._listen.fileno(), select.EPOLLIN)

    def _look(self) -> None:
        """An interface that went away and came back has a new index: listen there again."""
        assert self._loop is not None
        assert self._interface is not None
        self._check = self._loop.call_later(CHECK_S, self._look)
        with contextlib.suppress(OSError, MachineError):  # not there yet: at the next look
            if socket.if_nametoindex(self._interface) != self._index:
                self._index = 0
                if self._listen is not None:
                    self._listen.close()
                self._open_listener()

    def close(self) -> None:
        self._closed = True
        for session in list(self._sessions.values()):
            self._end(session)
        for timer in (self._timer, self._check):
            if timer is not None:
                timer.cancel()
        self._timer = self._check = None
        if self._epoll is not None:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None
        if self._listen is not None:
            self._listen.close()
            self._listen = None

    def __len__(self) -> int:
        """Transfers in flight."""
        return len(self._sessions)

    # ------------------------------------------------------------ packets

    def _ready(self) -> None:
        assert self._epoll is not None
        assert self._listen is not None
        poll, sessions, listening = self._epoll.poll, self._sessions, self._listen.fileno()
        for _ in range(ROUNDS):
            events = poll(0, 256)
            if not events:
                return
            now = time.monotonic()
            for fd, _mask in events:
                session = sessions.get(fd)
                if session is not None:
                    try:
                        out = session.receive(session.read(ACK_BYTES), now)
                        if out is None:
                            if session.transfer.outcome is not None:
                                self._end(session)
                        elif session.whole:
                            session.write(out)
                        else:
                            self._send(session, out)
                    except BlockingIOError:
                        pass
                    except OSError:  # ICMP: the client's port is closed
                        session.transfer.outcome = session.transfer.outcome or Outcome.ABORTED
                        self._end(session)
                elif fd == listening:
                    self._requests(now)
                elif fd in self._open:
                    self._stranger(self._open[fd])
            if self._closed:
                return

    def _send(self, session: _Session, out: bytes | None) -> None:
        while out is not None:
            try:
                if session.segmented or len(out) <= session.transfer.segment:
                    session.sock.send(out)
                else:
                    _send_each(session.sock, out, session.transfer.segment)
            except BlockingIOError:
                return  # the queue is full: the client's timer or ours repeats it
            except OSError as exc:
                if session.segmented and exc.errno in (5, 22):  # EIO, EINVAL: this route cannot segment
                    session.segmented = False
                    with contextlib.suppress(OSError):
                        session.sock.setsockopt(socket.SOL_UDP, UDP_SEGMENT, 0)
                    continue
                session.transfer.outcome = Outcome.ABORTED
                self._end(session)
                return
            out = session.transfer.more() if session.transfer.in_parts else None

    def _stranger(self, session: _Session) -> None:
        with contextlib.suppress(OSError):
            _data, source = session.open.recvfrom(2048)
            if source[:2] != session.peer[:2]:
                session.open.sendto(error(UNKNOWN_TID, "this transfer is another client's"), source)

    def _tick(self) -> None:
        assert self._loop is not None
        self._timer = None
        self._ready()  # an ACK that waits to be read is no silence
        now = time.monotonic()
        for session in list(self._sessions.values()):
            if now >= session.transfer.deadline:
                self._send(session, session.transfer.tick(now))
                if session.transfer.outcome is Outcome.LOST:
                    self._end(session)
        if self._sessions:
            self._timer = self._loop.call_later(TICK_S, self._tick)

    # ------------------------------------------------------------ requests

    def _requests(self, now: float) -> None:
        assert self._listen is not None
        with contextlib.suppress(BlockingIOError):
            for _ in range(64):
                data, peer = self._listen.recvfrom(2048)
                try:
                    self._request(data, peer, now)
                except BadPacket as exc:
                    if exc.answer is not None:
                        self._refuse(peer, exc.answer, exc.brief)
                except BaremetalError as exc:
                    self._refuse(peer, NOT_FOUND, exc.brief)
                except OSError as exc:
                    self._refuse(peer, NOT_DEFINED, f"the file cannot be read: {exc.strerror}")
                except Exception as exc:  # no datagram ends the service
                    self._refuse(peer, NOT_DEFINED, f"internal error: {type(exc).__name__}")

    def _request(self, data: bytes, peer: Any, now: float) -> None:
        request = parse_request(data)
        before = self._by_peer.get(peer)
        if before is not None:
            # The same request again, from the same port: repeated by a client that waited too long for our answer.
            # Beginning anew would end a transfer that has come to life meanwhile.
            if before.asked == data and (before.transfer.awaiting_first_ack or before.transfer.lively(now)):
                return
            self._end(before)
        self._make_room(peer)
        found = self._tree.get(request.name)
        if found is None:
            if _IN_CASE.fullmatch(request.name):
                self._say(peer, error(NOT_FOUND, "not here"))
                return
            raise BadPacket(f"no file {request.name}", NOT_FOUND)
        file, blocks, terms = self._blocks(found, request)
        try:
            session = self._new_session(Transfer(blocks, terms, now), peer, request.name, terms, data)
        except OSError:
            self._drop(file)
            raise
        session.file, session.size = file, blocks.size
        self._send(session, session.transfer.first())

    def _blocks(self, found: bytes | Path, request: Request) -> tuple[_File | None, Blocks, Terms]:
        file = self._take(found) if isinstance(found, Path) else None
        read: Reader
        key: object
        if file is not None:
            size, key, read = file.size, file.key, file.read
        else:
            assert isinstance(found, bytes)
            size, key, read = len(found), found, _reader(found)
        if request.mode == "netascii":
            if size > LARGEST_TEXT:
                self._drop(file)
                raise BadPacket(f"{request.name} is too large for netascii: ask in mode octet", ACCESS)
            text = netascii(read(0, size))
            self._drop(file)
            file, size, key, read = None, len(text), text, _reader(text)
        terms = negotiate(request, size, self._largest)
        return file, Blocks(key, size, terms.blksize, read, self._cache), terms

    def _new_session(self, transfer: Transfer, peer: Any, name: str, terms: Terms, asked: bytes) -> _Session:
        strangers = socket.socket(self._family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        sock = socket.socket(self._family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            for s in (strangers, sock):
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            strangers.bind((self.address, 0))
            sock.bind((self.address, strangers.getsockname()[1]))
            sock.connect(peer)
            session = _Session(transfer, sock, strangers, peer, name, asked)
            session.whole = terms.window == 1
            if terms.window > 1:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_UDP, UDP_SEGMENT, transfer.segment)
                    session.segmented = True
        except OSError:
            strangers.close()
            sock.close()
            raise
        assert self._epoll is not None
        self._sessions[sock.fileno()] = self._by_peer[peer] = session
        self._open[strangers.fileno()] = session
        self._clients[peer[0]] += 1
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        self._epoll.register(strangers.fileno(), select.EPOLLIN)
        if self._timer is None and self._loop is not None:
            self._timer = self._loop.call_later(TICK_S, self._tick)
        return session

    def _make_room(self, peer: Any) -> None:
        """Too many at once: a transfer whose client never said a word makes room, else the new one is refused."""
        crowded = self._clients[peer[0]] >= self._per_client
        if not crowded and len(self._sessions) < self._most:
            return
        for session in self._sessions.values():  # oldest first
            if session.transfer.awaiting_first_ack and (not crowded or session.peer[0] == peer[0]):
                self._end(session)
                return
        raise BadPacket("too many transfers at once, try again", NOT_DEFINED)

    def _say(self, peer: Any, data: bytes) -> None:
        assert self._listen is not None
        with contextlib.suppress(OSError):
            self._listen.sendto(data, peer)

    def _refuse(self, peer: Any, code: int, why: str) -> None:
        self._say(peer, error(code, why))
        now = time.monotonic()
        if now - self._told_since > TOLD_AGAIN_S:
            self._told.clear()
            self._told_since = now
        mark = (peer[0], why)
        if mark not in self._told and len(self._told) < MOST_TOLD:
            self._told.add(mark)
            body = {"what": "TFTP read", "why": why, "source": peer[0]}
            self._on_event({"kind": "refused", "node": None, "body": body})

    # ------------------------------------------------------------ ends

    def _end(self, session: _Session) -> None:
        if self._sessions.pop(session.sock.fileno(), None) is None:
            return
        self._open.pop(session.open.fileno(), None)
        self._by_peer.pop(session.peer, None)
        self._clients[session.peer[0]] -= 1
        if self._clients[session.peer[0]] <= 0:
            del self._clients[session.peer[0]]
        session.sock.close()  # closing leaves the epoll too
        session.open.close()
        self._drop(session.file)
        self._tell(session)

    def _tell(self, session: _Session) -> None:
        body: dict[str, Any] = {"name": session.name, "via": "tftp", "source": session.peer[0]}
        match session.transfer.outcome:
            case Outcome.DONE:
                seconds = round(time.monotonic() - session.began, 3)
                body |= {"bytes": session.size, "seconds": seconds, "resent": session.transfer.resent}
                kind = "artifact-sent" if session.name.startswith("artifacts/") else "loader-sent"
                self._on_event({"kind": kind, "node": None, "body": body})
            case Outcome.LOST:
                why = f"{session.name}: silent after block {session.transfer.acked}"
                self._on_event(
                    {
                        "kind": "refused",
                        "node": None,
                        "body": {"what": "TFTP read", "why": why, "source": session.peer[0]},
                    }
                )
            case _:
                pass  # a probe for the size, or the client thought better of it: normal

    def _take(self, path: Path) -> _File:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        info = os.fstat(fd)
        key = (info.st_dev, info.st_ino, info.st_mtime_ns, info.st_size)
        file = self._files.get(key)
        if file is not None:
            os.close(fd)
        elif not stat.S_ISREG(info.st_mode):
            os.close(fd)
            raise BadPacket(f"{path.name} is no file", NOT_FOUND)
        else:
            file = self._files[key] = _File(fd, info.st_size, key)
        file.refs += 1
        return file

    def _drop(self, file: _File | None) -> None:
        if file is None:
            return
        file.refs -= 1
        if file.refs == 0:
            del self._files[file.key]
            os.close(file.fd)


def _send_each(sock: socket.socket, out: bytes, segment: int) -> None:
    for at in range(0, len(out), segment):
        sock.send(out[at : at + segment])


def _reader(data: bytes) -> Reader:
    return lambda offset, size: data[offset : offset + size]


def _allow_descriptors(wanted: int) -> None:
    """Three for each transfer; the usual soft limit of 1,024 is for programs that use select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))
