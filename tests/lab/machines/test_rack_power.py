"""Real QEMU machines behind our BMCs: what ipmitool orders is what they do."""

from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from baremetal.errors import BaremetalError, Refused
from baremetal.lab import control, launch, namespace
from baremetal.lab.console import near
from baremetal.lab.spec import MachineSpec, RackSpec

pytestmark = pytest.mark.lab

#: A boot sector that prints R on the serial port and resets the machine through the keyboard controller.
REBOOTER = bytes.fromhex("b80052 b8520e bb0000 b052 ba f803 ee b0fe e664 f4 ebfd".replace(" ", ""))
#: One that sends back what it reads from the serial port.
ECHO = bytes.fromhex("bafd03 ec a801 74f8 baf803 ec ee ebf1".replace(" ", ""))
#: One that asks its BMC for Get Device ID over KCS (ports CA2h, CA3h) and prints the answer in hex: <1c0100…>
KCS = bytes.fromhex(
    "fa31c08ed8b061e84e00b018e85600b062e84400b001e84c00be8e7cbaf803b03ceee82a00baa30cec88c4c0ec0680fc017513a80174ebba"
    "a20cece83900baa20cb068eeebdcbaf803b03eeef4ebfdbaa30ceca80275fbc350e8f3ffe8130058baa30ceec350e8e6ffe8060058baa20c"
    "eec3baa20cecc350c0e804e8030058240f04303c3976020427baf803eec3"
)
#: CD boot code that prints [CD] on the serial port and halts.
CD = bytes.fromhex("baf803 b05b ee b043 ee b044 ee b05d ee f4 ebfd".replace(" ", ""))
#: One that prints H and halts.
HALTER = bytes.fromhex("b048 baf803 ee f4 ebfd".replace(" ", ""))

BIOS = MachineSpec("bios-1", "bios", "52:54:00:90:00:01", 0.25, 256, "10.91.0.11")
UEFI = MachineSpec("uefi-1", "uefi", "52:54:00:90:00:02", 0.25, 512, "10.91.0.12", nics=2, disk="nvme")
ODD = MachineSpec(
    "odd-1", "bios", "52:54:00:90:00:03", 0.25, 256, "10.91.0.13", nic="e1000e", disk="ahci", disks=2, kcs=True
)
SECURE = MachineSpec("sb-1", "uefi", "52:54:00:90:00:04", 0.25, 512, "10.91.0.14", nics=0, secure_boot="microsoft")
WAIT_S = 300.0


class Lab:
    def __init__(self, state_dir: Path) -> None:
        self.dir = state_dir
        launch.up(RackSpec((BIOS, UEFI, ODD, SECURE)), state_dir, detached=False)  # an interrupted run leaves nothing

    def node(self, name: str) -> dict[str, Any]:
        return next(n for n in control.ask(self.dir, {"do": "status"})["nodes"] if n["name"] == name)

    def run(self, *argv: str) -> str:
        done = subprocess.run(namespace.enter(self.dir, argv), capture_output=True, text=True, timeout=180, check=False)
        return done.stdout + done.stderr

    def ipmitool(self, spec: MachineSpec, *words: str) -> str:
        return self.run("ipmitool", "-I", "lanplus", "-H", spec.bmc_address, "-U", "admin", "-P", "secret", *words)

    def redfish(self, spec: MachineSpec, method: str, path: str, body: object) -> str:
        url = f"https://{spec.bmc_address}/redfish/v1/{path}"
        request = ("-X", method, "-d", json.dumps(body), url)
        said = self.run("curl", "-sk", "-m", "120", "-u", "admin:secret", "-w", "\n%{http_code}", *request)
        assert said.splitlines()[-1] in ("200", "204"), said
        return said

    def fault(self, spec: MachineSpec, name: str) -> None:
        control.ask(self.dir, {"do": "fault", "node": spec.name, "fault": name})

    def serial(self, spec: MachineSpec) -> bytes:
        path = self.dir / "nodes" / spec.name / "serial.log"
        return path.read_bytes() if path.exists() else b""

    def until(self, what: str, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < end, f"{what}: not in {WAIT_S:.0f} s; " + json.dumps(
                control.ask(self.dir, {"do": "status"})["nodes"]
            )
            time.sleep(0.1)

    def off(self, spec: MachineSpec) -> None:
        self.ipmitool(spec, "power", "off")
        self.until("off", lambda: "is off" in self.ipmitool(spec, "power", "status"))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    state = (
        tmp_path_factory.mktemp("lab") / "a-state-directory-with-a-name-longer-than-unix-sockets-like-their-paths-to-be"
    )
    running = Lab(state)
    yield running
    launch.down(state)


def _boot_sector(lab: Lab, spec: MachineSpec, code: bytes) -> None:
    """Make a disk that the BIOS boots."""
    raw = lab.dir / "sector.raw"
    raw.write_bytes(code.ljust(510, b"\0") + b"\x55\xaa" + bytes(1024 * 1024))
    disk = lab.dir / "nodes" / spec.name / "disk0.qcow2"
    subprocess.run(["qemu-img", "convert", "-q", "-O", "qcow2", str(raw), str(disk)], check=True)


def test_bios_machine_boots_from_the_network_once(lab):
    lab.ipmitool(BIOS, "chassis", "bootdev", "pxe")
    lab.ipmitool(BIOS, "power", "on")
    lab.until("iPXE asks for an address", lambda: b"Configuring (net0 " + BIOS.mac.encode() in lab.serial(BIOS))
    assert "is on" in lab.ipmitool(BIOS, "power", "status")
    assert "No override" in lab.ipmitool(BIOS, "chassis", "bootparam", "get", "5")
    lab.off(BIOS)
    assert lab.node(BIOS.name)["pid"] is None


def test_uefi_machine_uses_ovmf_s_own_pxe(lab):
    lab.ipmitool(UEFI, "chassis", "bootdev", "pxe", "options=efiboot")
    lab.ipmitool(UEFI, "power", "on")
    lab.until("OVMF starts PXE", lambda: b"Start PXE over IPv4" in lab.serial(UEFI))
    assert b"iPXE" not in lab.serial(UEFI)
    lab.off(UEFI)


def test_guest_reboot_starts_the_next_boot_and_disk_comes_first(lab):
    _boot_sector(lab, ODD, REBOOTER)
    before = lab.node(ODD.name)["boots"]
    lab.ipmitool(ODD, "power", "on")
    lab.until("three boots", lambda: lab.node(ODD.name)["boots"] >= before + 3)
    lab.off(ODD)
    assert b"R" in lab.serial(ODD)


def test_reset_and_soft_off(lab):
    _boot_sector(lab, ODD, HALTER)
    lab.ipmitool(ODD, "power", "on")
    lab.until("on", lambda: lab.node(ODD.name)["power"] == "on")
    boots, pid = lab.node(ODD.name)["boots"], lab.node(ODD.name)["pid"]
    lab.ipmitool(ODD, "power", "reset")
    lab.until("another process", lambda: lab.node(ODD.name)["boots"] == boots + 1)
    assert lab.node(ODD.name)["pid"] not in (None, pid)
    lab.ipmitool(ODD, "power", "soft")  # nobody listens to ACPI there: it stays on, as a hung server does
    assert "is on" in lab.ipmitool(ODD, "power", "status")
    lab.off(ODD)


def test_console_by_socket_and_by_sol(lab):
    _boot_sector(lab, ODD, ECHO)
    boots = lab.node(ODD.name)["boots"]
    lab.ipmitool(ODD, "power", "on")
    lab.until("on", lambda: lab.node(ODD.name)["boots"] > boots)
    mark = len(lab.serial(ODD))
    with socket.socket(socket.AF_UNIX) as line, near(Path(lab.node(ODD.name)["console"])) as short:
        line.connect(short)
        line.settimeout(0.2)

        def echoed() -> bool:
            line.sendall(b"q")
            return b"qq" in lab.serial(ODD)[mark:]

        lab.until("the machine echoes", echoed)
    login = ["ipmitool", "-I", "lanplus", "-H", ODD.bmc_address, "-U", "admin", "-P", "secret", "sol", "activate"]
    master, slave = pty.openpty()
    process = subprocess.Popen(namespace.enter(lab.dir, login), stdin=slave, stdout=slave, stderr=slave)
    shown = b""

    def answered() -> bool:
        nonlocal shown
        os.write(master, b"Z")
        shown += os.read(master, 4096)
        return shown.count(b"Z") >= 3 and b"ZZ" in lab.serial(ODD)[mark:]

    try:
        lab.until("ipmitool shows what the machine echoes", answered)
    finally:
        process.kill()
        process.wait()
        os.close(master)
        os.close(slave)
    lab.off(ODD)


def test_the_machine_talks_to_its_own_bmc(lab):
    _boot_sector(lab, ODD, KCS)
    mark = len(lab.serial(ODD))
    lab.ipmitool(ODD, "power", "on")
    lab.until("the answer to Get Device ID", lambda: b">" in lab.serial(ODD)[mark:])
    assert b"<1c010020010217028ff21b00010100000000>" in lab.serial(ODD)[mark:]
    lab.off(ODD)


def test_nic_down_is_seen_by_the_firmware(lab):
    # iPXE of this age reads the link state from an e1000e, from virtio-net it does not.
    lab.fault(ODD, "nic-down")
    seen = len(lab.serial(ODD))
    lab.ipmitool(ODD, "chassis", "bootdev", "pxe")
    lab.ipmitool(ODD, "power", "on")
    lab.until("iPXE sees no link", lambda: b"Link:down" in lab.serial(ODD)[seen:])
    assert "state DOWN" in lab.run("ip", "link", "show", "tap2n0")
    lab.fault(ODD, "heal")
    assert "state DOWN" not in lab.run("ip", "link", "show", "tap2n0")
    lab.off(ODD)


def test_small_disk(lab):
    lab.fault(BIOS, "disk-small")
    lab.ipmitool(BIOS, "power", "on")
    lab.until("on", lambda: lab.node(BIOS.name)["power"] == "on")
    small = lab.dir / "nodes" / BIOS.name / "disk0-small.qcow2"
    info = json.loads(subprocess.check_output(["qemu-img", "info", "-U", "--output=json", str(small)]))
    assert info["virtual-size"] == 64 * 1024 * 1024
    lab.fault(BIOS, "heal")
    lab.off(BIOS)


def test_another_machine_with_little_memory_and_no_disk(lab):
    for fault in ("box-other", "box-starved", "disk-none"):
        lab.fault(BIOS, fault)
    lab.ipmitool(BIOS, "power", "on")
    lab.until("on", lambda: lab.node(BIOS.name)["power"] == "on")
    words = _command_of(lab, BIOS)
    assert "-uuid" in words
    assert str(BIOS.uuid) not in words
    assert ("96", BIOS.mac in " ".join(words), "disk0" in " ".join(words)) == (
        words[words.index("-m") + 1],
        True,
        False,
    )
    lab.off(BIOS)
    lab.fault(BIOS, "heal")
    lab.ipmitool(BIOS, "power", "on")
    lab.until("on", lambda: lab.node(BIOS.name)["power"] == "on")
    assert str(BIOS.uuid) in _command_of(lab, BIOS)
    lab.off(BIOS)


def _command_of(lab: Lab, spec: MachineSpec) -> list[str]:
    """QEMU's words; the lab's processes have numbers of their own inside, so it is found by its directory."""
    return lab.run("cat", f"/proc/{lab.node(spec.name)['pid']}/cmdline").split("\0")


def _insert_cd(lab: Lab, spec: MachineSpec, files: Path, *boot_image: str) -> None:
    """Make an ISO of a folder, serve it on the rack's network, insert it through Redfish, and order to boot it once."""
    iso = files.with_suffix(".iso")
    made = ["xorriso", "-as", "mkisofs", "-quiet", *boot_image, "-no-emul-boot", "-o", str(iso), str(files)]
    subprocess.run(made, check=True, capture_output=True)
    web = [sys.executable, "-m", "http.server", "-d", str(files.parent), "-b", "192.168.90.1", "8099"]
    server = subprocess.Popen(namespace.enter(lab.dir, web), stderr=subprocess.DEVNULL)
    url = f"http://192.168.90.1:8099/{iso.name}"
    media = "Managers/1/VirtualMedia/Cd/Actions/VirtualMedia"
    try:
        lab.until("the web server", lambda: "200" in lab.run("curl", "-sI", url))
        lab.redfish(spec, "POST", f"{media}.InsertMedia", {"Image": url})
        lab.until("the image", (lab.dir / "nodes" / spec.name / "cd0.iso").exists)
    finally:
        server.kill()
        server.wait()
    lab.redfish(spec, "PATCH", "Systems/1", {"Boot": {"BootSourceOverrideTarget": "Cd"}})


def test_virtual_cd_boots_once_by_redfish(lab, tmp_path):
    files = tmp_path / "cd"
    files.mkdir()
    (files / "boot.bin").write_bytes(CD.ljust(2048, b"\0"))
    _insert_cd(lab, BIOS, files, "-b", "boot.bin", "-boot-load-size", "4")
    seen = len(lab.serial(BIOS))
    lab.redfish(BIOS, "POST", "Systems/1/Actions/ComputerSystem.Reset", {"ResetType": "On"})
    lab.until("the CD's boot code", lambda: b"[CD]" in lab.serial(BIOS)[seen:])
    assert "No override" in lab.ipmitool(BIOS, "chassis", "bootparam", "get", "5")
    lab.redfish(BIOS, "POST", "Managers/1/VirtualMedia/Cd/Actions/VirtualMedia.EjectMedia", {})
    lab.off(BIOS)


def test_secure_boot_refuses_an_unsigned_loader(lab, tmp_path):
    files = tmp_path / "cd"
    files.mkdir()
    esp = str(files / "esp.img")
    (files / "esp.img").write_bytes(bytes(2880 * 1024))
    for command in (("mformat", "-f", "2880", "::"), ("mmd", "::/EFI", "::/EFI/BOOT")):
        subprocess.run([command[0], "-i", esp, *command[1:]], check=True)
    subprocess.run(["mcopy", "-i", esp, "/usr/lib/ipxe/snponly.efi", "::/EFI/BOOT/BOOTX64.EFI"], check=True)
    _insert_cd(lab, SECURE, files, "-e", "esp.img")
    lab.ipmitool(SECURE, "power", "on")
    lab.until("OVMF refuses it", lambda: b"Access Denied" in lab.serial(SECURE) or b"Violation" in lab.serial(SECURE))
    assert b"iPXE" not in lab.serial(SECURE)
    lab.off(SECURE)


def test_uefi_http_boot_override_by_redfish(lab):
    boot = {"BootSourceOverrideTarget": "UefiHttp", "BootSourceOverrideEnabled": "Once"}
    lab.redfish(UEFI, "PATCH", "Systems/1", {"Boot": boot})
    seen = len(lab.serial(UEFI))
    lab.redfish(UEFI, "POST", "Systems/1/Actions/ComputerSystem.Reset", {"ResetType": "On"})
    lab.until("OVMF starts HTTP boot", lambda: b"Start HTTP Boot over IPv4" in lab.serial(UEFI)[seen:])
    assert b"Start PXE" not in lab.serial(UEFI)[seen:]
    lab.off(UEFI)


def test_bmc_faults_come_and_go(lab):
    lab.fault(BIOS, "bmc-wrong-password")
    assert "Unable to establish" in lab.ipmitool(BIOS, "power", "status")
    lab.fault(BIOS, "bmc-ok")
    assert "is off" in lab.ipmitool(BIOS, "power", "status")
    lab.fault(BIOS, "power-ignored")
    lab.ipmitool(BIOS, "power", "on")
    assert "is off" in lab.ipmitool(BIOS, "power", "status")
    lab.fault(BIOS, "heal")


def test_only_one_lab_in_a_state_directory(lab):
    with pytest.raises(Refused, match="already runs"):
        launch.up(RackSpec((BIOS,)), lab.dir)


def test_nothing_is_left_when_the_lab_is_killed(tmp_path):
    state = tmp_path / "lab"
    launch.up(RackSpec((BIOS,)), state)
    command = namespace.enter(
        state, ["ipmitool", "-I", "lanplus", "-H", BIOS.bmc_address, "-U", "admin", "-P", "secret"]
    )
    subprocess.run([*command, "power", "on"], check=True, capture_output=True)
    end = time.monotonic() + WAIT_S
    while (qemu := control.ask(state, {"do": "status"})["nodes"][0]["pid"]) is None:
        assert time.monotonic() < end
        time.sleep(0.1)
    first = control.pid(state)
    assert qemu
    children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    assert children, "QEMU is a child of the lab"
    subprocess.run(["kill", "-9", str(first)], check=True)
    for process in (first, *map(int, children)):
        while (
            Path(f"/proc/{process}").exists()
            and "Z" not in Path(f"/proc/{process}/stat").read_text().split(") ")[1][:1]
        ):
            assert time.monotonic() < end, f"process {process} is left"
            time.sleep(0.1)
    with pytest.raises(BaremetalError, match="no lab runs"):
        control.ask(state, {"do": "status"})
    launch.up(RackSpec((BIOS,)), state)  # and it starts again over what was left
    launch.down(state)
