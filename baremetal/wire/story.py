"""Packets of a boot told as one story per machine, and what its end usually means.

Pure: frames come from serve/capture.py.

stories = tell(frames)         # frames in time order
stories[0].lines               # (seconds since the first packet, what happened)
stories[0].causes              # Cause(brief, fix), most telling first
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from baremetal.model.boot import Loader
from baremetal.wire import pxe
from baremetal.wire.dhcp4 import packet as dhcp
from baremetal.wire.tftp import packet as tftp

NOBODY = "0.0.0.0"  # noqa: S104 (a source without address)


@dataclass(frozen=True)
class Frame:
    """One packet as captured. `protocol` is udp or tcp, `time` Unix seconds, MACs and addresses as text."""

    time: float
    src_mac: str
    dst_mac: str
    src: str
    dst: str
    protocol: str
    sport: int
    dport: int
    payload: bytes


@dataclass(frozen=True)
class Cause:
    """What probably went wrong, and what to do."""

    brief: str
    fix: str


@dataclass
class Story:
    """One machine. The counters are what the causes are read from."""

    mac: str
    began: float
    who: str = ""
    address: str = ""
    lines: list[tuple[float, str]] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)
    asked: int = 0
    offers: dict[str, int] = field(default_factory=dict)
    chosen: str = ""
    acks: int = 0
    naks: list[str] = field(default_factory=list)
    file: str = ""
    boots: bool = False
    reads: list[str] = field(default_factory=list)
    data: int = 0
    missing: list[str] = field(default_factory=list)
    gets: list[str] = field(default_factory=list)
    went_on: bool = False  # what it was told to boot was started

    def say(self, time: float, text: str) -> None:
        """A line; repeated ones are counted instead."""
        if self.lines:
            last = self.lines[-1][1]
            if last == text or last.startswith(f"{text} (×"):
                count = int(last.rpartition("×")[2].rstrip(")")) + 1 if last != text else 2
                self.lines[-1] = (self.lines[-1][0], f"{text} (×{count})")
                return
        self.lines.append((round(time - self.began, 3), text))


def tell(frames: Iterable[Frame]) -> list[Story]:
    """A story for every machine that asked anything, in the order they began."""
    stories: dict[str, Story] = {}
    by_address: dict[str, Story] = {}
    for frame in frames:
        if frame.protocol == "udp" and {frame.sport, frame.dport} & {67, 68, 4011}:
            _dhcp(frame, stories, by_address)
            continue
        story = by_address.get(frame.src) or by_address.get(frame.dst)
        if story is None:
            story = stories.get(frame.src_mac) or stories.get(frame.dst_mac)
        if story is None and frame.protocol == "udp" and frame.dport == 69:
            story = stories.setdefault(frame.src_mac, Story(frame.src_mac, frame.time))
            by_address[frame.src] = story
        if story is not None:
            _tftp(frame, story) if frame.protocol == "udp" else _http(frame, story)
    for story in stories.values():
        story.causes = causes(story)
    return list(stories.values())


def _dhcp(frame: Frame, stories: dict[str, Story], by_address: dict[str, Story]) -> None:
    try:
        message = dhcp.parse(frame.payload)
    except dhcp.BadPacket as exc:
        stories.setdefault(frame.src_mac, Story(frame.src_mac, frame.time)).say(
            frame.time, f"broken DHCP packet: {exc.brief}"
        )
        return
    story = stories.setdefault(message.mac, Story(message.mac, frame.time))
    kind = dhcp.TYPE_NAMES.get(message.type, "BOOTP")
    if message.op == dhcp.BOOTREQUEST:
        _asks(frame, message, kind, story)
    else:
        _is_answered(frame, message, kind, story)
        if message.type == dhcp.ACK:
            story.address = message.yiaddr if message.yiaddr != NOBODY else message.ciaddr
            by_address[story.address] = story


def _asks(frame: Frame, message: dhcp.Packet, kind: str, story: Story) -> None:
    client = pxe.client(message.options, message.mac)
    who = f"{client.arch} {client.loader}" if client.loader is not Loader.NONE else "operating system"
    story.boots = story.boots or client.loader is not Loader.NONE
    if who != story.who:
        story.who = who
        story.went_on = story.went_on or bool(story.reads or story.file)
        uuid = f", UUID {client.uuid}" if client.uuid else ""
        story.say(frame.time, f"is now {who}{uuid}")
    story.asked += message.type == dhcp.DISCOVER
    wanted = message.options.get(50, b"")
    named = message.options.get(54, b"")
    detail = f" for {dhcp.quad(wanted)}" if len(wanted) == 4 else ""
    if message.type == dhcp.REQUEST and len(named) == 4:
        story.chosen = dhcp.quad(named)
        detail += f" from {story.chosen}"
    relay = f" through relay {message.giaddr}" if message.giaddr != NOBODY else ""
    story.say(frame.time, f"{kind}{detail}{relay}")


def _is_answered(frame: Frame, message: dhcp.Packet, kind: str, story: Story) -> None:
    named = message.options.get(54, b"")
    server = dhcp.quad(named) if len(named) == 4 else frame.src
    boot = message.boot_file
    story.file = boot or story.file
    if message.type == dhcp.OFFER:
        story.offers[server] = story.offers.get(server, 0) + 1
    elif message.type == dhcp.ACK:
        story.acks += 1
    elif message.type == dhcp.NAK:
        story.naks.append(message.options.get(56, b"").decode("latin-1") or f"by {server}")
    what = f" {message.yiaddr}" if message.yiaddr != NOBODY else ""
    what += f", boot {boot}" if boot else ""
    story.say(frame.time, f"{server} ({frame.src_mac}) answers {kind}{what}")


def _tftp(frame: Frame, story: Story) -> None:
    data = frame.payload
    if frame.dport == 69:
        try:
            request = tftp.parse_request(data)
        except tftp.BadPacket as exc:
            story.say(frame.time, f"broken TFTP request: {exc.brief}")
            return
        story.reads.append(request.name)
        story.say(frame.time, f"asks {frame.dst} by TFTP for {request.name} {request.options or ''}".rstrip())
    elif len(data) >= 4 and data[:2] == b"\0\3":
        story.data += 1
    elif len(data) >= 4 and data[:2] == b"\0\5":
        text = data[4:].partition(b"\0")[0].decode("latin-1")
        if frame.src != story.address and data[3] == tftp.NOT_FOUND:
            story.missing.append(text)
        size_only = frame.src == story.address and not story.data
        story.say(
            frame.time,
            f"TFTP error {data[3]} from {frame.src}: {text}" + (" (it wanted the size only)" if size_only else ""),
        )


def _http(frame: Frame, story: Story) -> None:
    line = frame.payload[:400].partition(b"\r\n")[0]
    if line.startswith((b"GET ", b"HEAD ")):
        path = line.split(b" ")[1].decode("latin-1")
        story.gets.append(path)
        story.say(frame.time, f"asks {frame.dst}:{frame.dport} for {path}")
    elif line.startswith(b"HTTP/1.") and b" 200" not in line and b" 206" not in line:
        story.say(frame.time, f"{frame.src}:{frame.sport} answers {line.decode('latin-1')}")


def causes(story: Story) -> list[Cause]:
    """What this story's end usually means: TABLE, read from the top."""
    return [Cause(brief(story), fix) for when, brief, fix in TABLE if when(story)]


def _offers(story: Story) -> int:
    return sum(story.offers.values())


def _servers(story: Story) -> str:
    return " and ".join(story.offers)


# (when, what happened, what to do)
TABLE: tuple[tuple[Callable[[Story], object], Callable[[Story], str], str], ...] = (
    (
        lambda s: len(s.offers) > 1,
        lambda s: f"{len(s.offers)} DHCP servers answer: {_servers(s)}",
        "stop one, or set proxy = true for this network",
    ),
    (
        lambda s: s.chosen and s.offers and s.chosen not in s.offers,
        lambda s: f"it took the offer of {s.chosen}, whose packets are not in this capture",
        "look for that server on another switch port",
    ),
    (
        lambda s: s.asked and not s.offers and not s.acks,
        lambda s: f"asked {s.asked} times, nobody answered",
        "is its MAC a node's (baremetal network unknown)? does the server listen on this VLAN? is a relay missing?",
    ),
    (
        lambda s: _offers(s) >= 3 and not s.chosen,
        lambda s: f"offer sent {_offers(s)} times by {_servers(s)}, no request: it does not hear the answer",
        "broadcasts dropped by the switch (DHCP snooping, storm control), or another VLAN on the way back",
    ),
    (
        lambda s: s.naks,
        lambda s: f"its address was refused: {s.naks[-1]}",
        "usual after a change of network; it asks anew",
    ),
    (
        lambda s: s.missing,
        lambda s: f"a boot file is missing: {s.missing[-1]}",
        "baremetal doctor names the loaders that are not installed",
    ),
    (
        lambda s: s.reads and not s.data and not s.missing and not s.went_on,
        lambda s: "its TFTP requests brought no data",
        "a firewall between: UDP 69 and the server's high ports must be open",
    ),
    (
        lambda s: s.acks and s.boots and not s.file and not s.gets,
        lambda s: "it got an address but nothing to boot",
        "is its node's next boot the disk? baremetal boot explain --mac … says so",
    ),
    (
        lambda s: s.acks and s.file and not s.reads and not s.gets and not s.went_on,
        lambda s: f"it was told to boot {s.file} and never asked for it",
        "its firmware skips TFTP, or took another server's answer",
    ),
)
