"""RAID plans, programs of elements, rescue doors, several servers, the BMC from inside."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from baremetal.agents import ipmidev, raid, rescue, scripts
from baremetal.agents.disks import Disk
from baremetal.agents.http import Client, ServerUnreachable
from baremetal.agents.servers import Servers
from baremetal.agents.trouble import OrderRefused, StepFailed

GIB = 1 << 30
DISKS = [
    Disk(name=f"sd{c}", path=f"/dev/sd{c}", size=size * GIB, serial=f"S{c}", transport="sata")
    for c, size in (("a", 100), ("b", 100), ("c", 500))
]
USB = Disk(name="sdz", path="/dev/sdz", size=8 * GIB, serial="U", refusal="removable")


def plan(*wanted: dict[str, Any], disks: list[Disk] | None = None) -> list[tuple[str, list[str], int]]:
    found = raid.planned({"logical_disks": list(wanted)}, disks or [*DISKS, USB])
    return [(level, [d.name for d in members], size >> 20) for level, members, size in found]


def test_raid_plans() -> None:
    assert plan({"raid_level": "5"}) == [("5", ["sda", "sdb", "sdc"], 0)]
    chosen = {"raid_level": "1", "size_gb": 50, "physical_disks": [{"serial": "Sb"}, {"serial": "Sa"}]}
    assert plan(chosen) == [("1", ["sdb", "sda"], 50)]
    striped = {"raid_level": "0", "size_gb": 100, "physical_disks": [{"size": ">= 100"}, {"size": ">= 100"}]}
    assert plan(striped) == [("0", ["sda", "sdb"], 50)]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ([], "logical_disks"),
        ([{"raid_level": "7"}], "raid_level"),
        ([{"raid_level": "6"}], "needs 4"),
        ([{"raid_level": "1", "controller": "hardware"}], "software RAID only"),
        ([{"raid_level": "1", "size_gb": 200}], "smallest has"),
        ([{"raid_level": "1", "size_gb": "all"}], "size_gb"),
        ([{"raid_level": "1"}, {"raid_level": "1"}], "needs 2"),
        ([{"raid_level": "1", "physical_disks": [1]}], "hints"),
    ],
)
def test_raid_that_cannot_be(wanted: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(OrderRefused) as caught:
        raid.planned({"logical_disks": wanted}, [*DISKS, USB])
    assert words in f"{caught.value.brief} {caught.value.fix}"


def test_nothing_is_touched_before_all_arrays_are_planned() -> None:
    called: list[list[str]] = []
    with pytest.raises(OrderRefused):
        raid.create(
            {"logical_disks": [{"raid_level": "1"}, {"raid_level": "9"}]},
            DISKS,
            lambda *step: None,
            mdadm=lambda words: called.append(words) or "",  # type: ignore[func-returns-value]
        )
    assert called == []


# -- programs of elements ---------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> str:
    def program(name: str, text: str) -> None:
        (tmp_path / name).write_text("#!/bin/sh\n" + text)
        (tmp_path / name).chmod(0o755)

    program("echo", 'read -r given; echo progress 1 2; echo said; printf \'{"given": %s}\\n\' "$given"')
    program("broken", "echo no such card >&2; exit 3")
    program("endless", "sleep 60")
    (tmp_path / "notes.txt").write_text("not a program")
    return str(tmp_path)


def test_a_program_gets_its_arguments_and_its_last_line_is_the_result(folder: str) -> None:
    steps: list[tuple[Any, ...]] = []
    done = scripts.run({"script": "echo", "args": {"slot": 3}}, lambda *step: steps.append(step), folder)
    assert done["result"] == {"given": {"slot": 3}}
    assert ("echo", 1, 2, "parts") in steps
    assert scripts.known(folder) == ["broken", "echo", "endless"]


def test_a_program_that_fails_is_a_fault_with_its_words(folder: str) -> None:
    with pytest.raises(StepFailed, match="ended with 3") as caught:
        scripts.run({"script": "broken"}, lambda *step: None, folder)
    assert "no such card" in caught.value.detail


def test_a_program_that_never_ends_is_stopped(folder: str) -> None:
    with pytest.raises(StepFailed, match="was stopped"):
        scripts.run({"script": "endless", "timeout_s": 0.2}, lambda *step: None, folder)


@pytest.mark.parametrize("name", ["../../bin/sh", "notes.txt", "", None, "absent"])
def test_only_programs_of_elements_run(folder: str, name: Any) -> None:
    with pytest.raises(OrderRefused):
        scripts.run({"script": name}, lambda *step: None, folder)


# -- rescue -----------------------------------------------------------------------

HASH = "$6$saltsalt$" + "x" * 86
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGsXYwvmYiuIoEEqwAKOTnROVdNe operator"


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"password_hash": "plain text"},
        {"password_hash": "$1$md5$abcdefghijklmnop"},
        {"authorized_keys": "key"},
        {"authorized_keys": ['command="reboot" ' + KEY]},
        {"authorized_keys": [KEY + "\nssh-rsa AAAA evil"]},
        {"password_hash": HASH, "ssh": {"listen": 0}},
        {"password_hash": HASH, "ssh": {"listen": True}},
        {"password_hash": HASH, "ssh": {"dial": "here"}},
        {"password_hash": HASH, "ssh": "yes"},
    ],
)
def test_rescue_checks_everything_before_anybody_is_let_in(tmp_path: Path, args: dict[str, Any]) -> None:
    with pytest.raises(OrderRefused):
        rescue.rescue(args, lambda text: None, str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_key_alone_leaves_the_password_closed(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    done = rescue.rescue({"authorized_keys": [KEY]}, lambda text: None, str(tmp_path))
    assert done == {"consoles": [], "ssh": None}
    assert (tmp_path / "etc/shadow").read_text().startswith("root:*:")
    assert (tmp_path / "etc/shadow").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "root/.ssh/authorized_keys").read_text() == KEY + "\n"


# -- several servers --------------------------------------------------------------


def several(*urls: str, ca: Path) -> tuple[Servers, list[str]]:
    said: list[str] = []
    return Servers(list(urls), lambda url: Client(url, ca_file=str(ca)), said.append), said


def test_the_next_server_is_asked_and_kept(server: Any) -> None:
    dead = "https://127.0.0.1:1"
    servers, said = several(dead, server.https_url, ca=server.ca_file)
    servers.token = "ab" * 32
    assert servers.request("GET", "/order?wait=0").status == 204
    assert servers.request("GET", "/order?wait=0").status == 204
    assert len(said) == 1
    assert all(headers["Authorization"] == "Bearer " + "ab" * 32 for _, _, headers in server.requests)


def test_when_none_answers_the_trouble_is_told(server: Any) -> None:
    servers, _ = several("https://127.0.0.1:1", "https://127.0.0.1:2", ca=server.ca_file)
    with pytest.raises(ServerUnreachable):
        servers.request("GET", "/order")


def test_a_plane_without_control_is_left_for_the_other(server: Any) -> None:
    server.busy = 1
    servers, _ = several(server.https_url, server.https_url + "/", ca=server.ca_file)
    assert servers.request("GET", "/order?wait=0").status == 204


# -- the BMC from inside ----------------------------------------------------------


def test_the_first_lan_channel_says_where_the_bmc_is() -> None:
    def bmc(netfn: int, cmd: int, data: bytes) -> bytes:
        if cmd == 0x42:
            if data[0] == 3:
                return bytes([3, 4, 1, 0, 0, 0, 0, 0, 0])
            raise OSError("0xcc")
        values = {3: bytes([10, 20, 3, 7]), 5: bytes.fromhex("52540000aa01"), 56: b"", 59: b""}
        if data[1] == 59:
            return b"\x11" + bytes([0, 0]) + bytes.fromhex("fd000000000000000000000000000007") + bytes([64, 0])
        return b"\x11" + values[data[1]]

    assert ipmidev.lan(bmc) == {
        "channel": 3, "bmc_address": "10.20.3.7", "bmc_mac": "52:54:00:00:aa:01", "bmc_v6address": "fd00::7",
    }  # fmt: skip


def test_without_a_bmc_there_is_none(tmp_path: Path) -> None:
    assert ipmidev.find(str(tmp_path)) is None

    def silent(netfn: int, cmd: int, data: bytes) -> bytes:
        raise OSError("silent")

    assert ipmidev.lan(silent) is None


def test_ioctl_numbers_are_the_kernels() -> None:
    """linux/ipmi.h on x86-64: sizeof(struct ipmi_req) = 40, sizeof(struct ipmi_recv) = 48."""
    assert (ipmidev._SEND, ipmidev._RECEIVE) == (0x8028690D, 0xC030690B)
    assert struct.calcsize("P") == 8
