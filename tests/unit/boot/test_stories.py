"""What `baremetal diagnose` makes of captures, and of wires where something is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scapy.contrib.lldp import LLDPDUChassisID, LLDPDUEndOfLLDPDU, LLDPDUPortID, LLDPDUSystemName, LLDPDUTimeToLive
from scapy.layers.l2 import Ether
from typer.testing import CliRunner

from baremetal.boot.ipxe_errors import decode
from baremetal.cli import boot as boot_cli
from baremetal.cli import diagnose as diagnose_cli
from baremetal.errors import UsageError
from baremetal.serve import capture
from baremetal.serve.rivalwatch import Rival, rival_of
from baremetal.wire.dhcp4 import packet as p
from baremetal.wire.dhcp4.frame import BROADCAST_IP, BROADCAST_MAC, Framer
from baremetal.wire.story import Frame, Story, tell
from baremetal.wire.tftp import packet as t

DATA = Path(__file__).parents[2] / "data" / "boot"
MAC, OURS, OTHER = "52:54:00:00:00:01", "10.0.0.1", "10.0.0.254"
PXE = {93: b"\0\7", 60: b"PXEClient:Arch:00007:UNDI:003000"}


def dhcp(kind: int, *, server: str = "", at: float = 0.0, **fields: object) -> Frame:
    options = {53: bytes((kind,)), **(PXE if not server else {54: p.packed(server)}), **fields.pop("options", {})}  # type: ignore[dict-item]
    message = p.Packet(p.BOOTREPLY if server else p.BOOTREQUEST, 1, 1, MAC, options=options, **fields)  # type: ignore[arg-type]
    src_mac = "02:00:00:00:00:01" if server else MAC
    ports = (67, 68) if server else (68, 67)
    return Frame(
        at, src_mac, "ff:ff:ff:ff:ff:ff", server or "0.0.0.0", "255.255.255.255", "udp", *ports, p.build(message)
    )


def udp(src: str, dst: str, sport: int, dport: int, payload: bytes) -> Frame:
    return Frame(1.0, MAC, "02:00:00:00:00:01", src, dst, "udp", sport, dport, payload)


ASK, OFFER = dhcp(p.DISCOVER), dhcp(p.OFFER, server=OURS, yiaddr="10.0.0.20", file=b"snponly.efi")
TAKE = dhcp(p.REQUEST, options={54: p.packed(OURS), 50: p.packed("10.0.0.20")})
ACK = dhcp(p.ACK, server=OURS, yiaddr="10.0.0.20", file=b"snponly.efi")
READ = udp("10.0.0.20", OURS, 2000, 69, t.request("snponly.efi"))
GOT = udp(OURS, "10.0.0.20", 3000, 2000, b"\0\3\0\1abc")

CAUSES = [
    # what was on the wire                            what it means
    ([ASK, ASK, ASK], "asked 3 times, nobody answered"),
    ([ASK, OFFER] * 3, "offer sent 3 times by 10.0.0.1, no request: it does not hear the answer"),
    ([ASK, OFFER, dhcp(p.OFFER, server=OTHER), TAKE], "2 DHCP servers answer: 10.0.0.1 and 10.0.0.254"),
    (
        [ASK, OFFER, dhcp(p.REQUEST, options={54: p.packed(OTHER), 50: p.packed("10.0.0.9")})],
        "it took the offer of 10.0.0.254, whose packets are not in this capture",
    ),
    ([ASK, OFFER, TAKE, ACK], "it was told to boot snponly.efi and never asked for it"),
    (
        [ASK, OFFER, TAKE, dhcp(p.ACK, server=OURS, yiaddr="10.0.0.20")],
        "it was told to boot snponly.efi and never asked for it",
    ),
    ([ASK, dhcp(p.OFFER, server=OURS), TAKE, dhcp(p.ACK, server=OURS)], "it got an address but nothing to boot"),
    ([ASK, OFFER, TAKE, ACK, READ, READ], "its TFTP requests brought no data"),
    (
        [ASK, OFFER, TAKE, ACK, READ, udp(OURS, "10.0.0.20", 3000, 2000, t.error(1, "no file x"))],
        "a boot file is missing: no file x",
    ),
    ([ASK, dhcp(p.NAK, server=OURS, options={56: b"not here"}), ASK, OFFER], "its address was refused: not here"),
]


@pytest.mark.parametrize(("wire", "cause"), CAUSES)
def test_causes(wire: list[Frame], cause: str) -> None:
    story = tell(wire)[0]
    assert story.causes[0].brief == cause
    assert story.causes[0].fix


def test_a_good_boot_has_no_cause() -> None:
    assert tell([ASK, OFFER, TAKE, ACK, READ, GOT])[0].causes == []


def test_repetition_is_counted() -> None:
    story = Story(MAC, 0.0)
    for n in range(12):
        story.say(float(n), "DISCOVER")
    assert story.lines == [(0.0, "DISCOVER (×12)")]


@pytest.mark.parametrize("name", sorted(f.name for f in DATA.glob("*.pcap")))
def test_captures_of_good_boots(name: str) -> None:
    stories = tell(capture.from_file(DATA / name))
    assert [s.address for s in stories] == ["192.168.90.118"]
    assert not stories[0].causes


def test_ovmfs_probe_for_the_size_is_normal() -> None:
    story = tell(capture.from_file(DATA / "uefi-ovmf-snponly.pcap"))[0]
    assert any("it wanted the size only" in text for _, text in story.lines)
    assert any("answers ACK 192.168.90.118, boot snponly.efi" in text for _, text in story.lines)


def test_diagnose_tells_a_capture() -> None:
    runner = CliRunner()
    told = runner.invoke(diagnose_cli.app, ["--pcap", str(DATA / "bios-e1000-rom.pcap")])
    assert "is now bios ipxe" in told.stdout
    document = json.loads(
        runner.invoke(diagnose_cli.app, ["--pcap", str(DATA / "bios-e1000-rom.pcap"), "--json"]).stdout
    )
    assert document["machines"][0]["address"] == "192.168.90.118"


@pytest.mark.parametrize("content", [b"", b"no capture at all", b"\xd4\xc3"])
def test_a_file_that_is_no_capture(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pcap").write_bytes(content)
    with pytest.raises(UsageError, match="as a capture"):
        capture.from_file(tmp_path / "x.pcap")


def test_a_switch_port_names_itself() -> None:
    frame = (
        Ether()
        / LLDPDUChassisID(subtype=7, id=b"chassis")
        / LLDPDUPortID(subtype=5, id=b"Gi1/0/7")
        / LLDPDUTimeToLive(ttl=120)
    )
    frame = Ether(bytes(frame / LLDPDUSystemName(system_name=b"rack1-sw") / LLDPDUEndOfLLDPDU()))
    assert capture.neighbour("eth1", frame) == capture.Neighbour("eth1", "rack1-sw", "Gi1/0/7")


def test_explain_needs_no_server(tmp_path: Path) -> None:
    config = tmp_path / "b.toml"
    config.write_text(
        f'state_dir = "{tmp_path}"\n[[network]]\nname = "prov"\ninterface = "eth1"\ncidr = "10.0.0.0/24"\n'
        'server = "10.0.0.1"\nrange = "10.0.0.100-10.0.0.200"\nmode = "discover"\n'
    )
    args = ["explain", "--mac", "52-54-00-00-00-01", "--config", str(config), "--json"]
    told = json.loads(CliRunner().invoke(boot_cli.app, args).stdout)
    assert [s["answer"].partition(":")[0] for s in told["steps"]] == ["tftp", "173,792 bytes", "script"]
    assert told["script"].startswith("#!ipxe")
    told = json.loads(CliRunner().invoke(boot_cli.app, [*args, "--firmware", "uefi-ia32"]).stdout)
    assert (told["steps"][0]["answer"], told["steps"][0]["note"]) == ("ignore", "no answer is sent")


ERRORS = [
    # seen on a console           POSIX name
    ("2d0c613b", "ENOENT"),
    ("http://ipxe.org/1d852039", "EIO"),
    ("http://ipxe.org/040ee119", "EADDRNOTAVAIL"),
    ("0x4c126035", "ETIMEDOUT"),
    ("2e008081", "ENOEXEC"),
    ("0f0a6039", "ECONNRESET"),
    ("28086011", "ENETUNREACH"),
]


@pytest.mark.parametrize(("number", "answer"), [("16", "http"), ("7", "tftp"), ("0", "tftp")])
def test_explain_by_the_number_of_option_93(tmp_path: Path, number: str, answer: str) -> None:
    config = tmp_path / "b.toml"
    config.write_text(
        f'state_dir = "{tmp_path}"\n[[network]]\ninterface = "eth1"\ncidr = "10.0.0.0/24"\n'
        'server = "10.0.0.1"\nmode = "discover"\n'
    )
    args = ["explain", "--mac", "52-54-00-00-00-01", "--config", str(config), "--json", "--arch", number]
    told = json.loads(CliRunner().invoke(boot_cli.app, args).stdout)
    assert told["steps"][0]["answer"].startswith(answer)
    assert CliRunner().invoke(boot_cli.app, [*args[:-1], "99"]).exit_code != 0


@pytest.mark.parametrize(("number", "name"), ERRORS)
def test_ipxe_errors(number: str, name: str) -> None:
    assert decode(number).name == name


@pytest.mark.parametrize("text", ["", "hello", "123", "-1", "2d0c613b0"])
def test_no_ipxe_error(text: str) -> None:
    with pytest.raises(UsageError):
        decode(text)


def frame_from(server: str, kind: int) -> bytes:
    framer = Framer(bytes.fromhex("020000000009"), p.packed(server), 67, 68)
    reply = p.Packet(p.BOOTREPLY, 1, 1, MAC, options={53: bytes((kind,)), 54: p.packed(server)})
    return framer.frame(BROADCAST_MAC, BROADCAST_IP, p.build(reply))


def test_who_is_a_rival() -> None:
    assert rival_of(frame_from(OTHER, p.OFFER), OURS) == Rival(OTHER, "02:00:00:00:00:09")
    assert rival_of(frame_from(OURS, p.OFFER), OURS) is None  # a relay's copy of our own answer
    assert rival_of(b"", OURS) is None
    assert rival_of(frame_from(OTHER, p.OFFER)[:200], OURS) is None
