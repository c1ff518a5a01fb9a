"""Boot the deploy ramdisk in one virtual machine and give it orders, without a control plane, BMC or PXE.

hack/ramdisk-vm KERNEL INITRD < scenario.json > result.json      (root; runs in network and PID namespaces of its own)

Scenario: {"machine": {"disks": ["virtio"|"nvme"|"ahci"|"scsi"|"usb"|"blkdebug"|"nvme-bad"|"nvme-4k"|"nvme-first"|
"nvme-second"|"readonly"|"twin"],
"disk_gib": 8, "fill": {"0": "raw file"}, "nic": "virtio-net-pci", "nics": 1, "memory_mib": 1024, "cpus": 1,
"uefi": false, "clock": "2001-01-01", "ipmi": false (a BMC inside), "sizes_mib": {"1": 64}}, "raw": path of a raw
image to serve, "orders": [{"kind", "args"}], "run": shell text to run instead of the agent, "cmdline": more kernel
arguments,
"files": {name: text of a program in the ramdisk}, "switch": name of a switch that speaks LLDP,
"type": [[text to wait for on the serial console, answer]…], and the misbehaviour of ramdisk_server.py}.
In args, "@image" stands for the addresses of the served image, "@drive" for a small config drive.
Result: {"hello_s", "hello_cpu_s", "hello", "orders": [{"kind", "seconds", "cpu_s", "report", "progress"}],
"console", "dialled": first words to "listen"}. RAMDISK_VM_KEEP=FOLDER keeps the disks as raw files disk0, disk1 ….
"""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from ramdisk_server import SERVER, Rig, cpu_s, store_image

MAC = "52:54:00:77:00:01"
BMC = "10.91.77.11"  # what a BMC says of itself
BUS = {  # device arguments of a disk n
    "virtio": ["-device", "virtio-blk-pci,drive=d{n},serial=VD{n},id=disk{n}"],
    "twin": ["-device", "virtio-blk-pci,drive=d{n},serial=TWIN,id=disk{n}"],
    "readonly": ["-device", "virtio-blk-pci,drive=d{n},serial=RO{n},id=disk{n}"],
    "blkdebug": ["-device", "virtio-blk-pci,drive=d{n},serial=BD{n}"],
    "nvme": ["-device", "nvme,drive=d{n},serial=NV{n}"],
    "nvme-bad": ["-device", "nvme,drive=d{n},serial=NB{n}"],
    "nvme-4k": ["-device", "nvme,drive=d{n},serial=NK{n},logical_block_size=4096,physical_block_size=4096"],
    "nvme-first": ["-device", "nvme,id=c{n},serial=NT", "-device", "nvme-ns,drive=d{n},bus=c{n},nsid=1"],
    "nvme-second": ["-device", "nvme-ns,drive=d{n},bus=c{before},nsid=2"],  # of the drive before it
    "ahci": ["-device", "ide-hd,drive=d{n},bus=ide.{n},serial=AH{n}"],
    "scsi": ["-device", "virtio-scsi-pci,id=s{n}", "-device",
             "scsi-hd,drive=d{n},serial=SC{n},wwn=0x5000c50015ea71a{n},bus=s{n}.0,id=disk{n}"],
    "usb": ["-device", "qemu-xhci,id=u{n}", "-device", "usb-storage,drive=d{n},serial=US{n},removable=on,bus=u{n}.0"],
}  # fmt: skip


def sh(*command, **more):
    return subprocess.run(command, check=True, capture_output=True, text=True, **more).stdout


def initrd(work: Path, source: Path, script: str, files: dict[str, str]):
    """Trust anchors in front, as the server puts them, then the ramdisk."""
    tree = work / "front"
    (tree / "etc/baremetal").mkdir(parents=True)
    shutil.copy(work / "ca.pem", tree / "etc/baremetal/")
    for name in ("image-signing.pub", "order-signing.pub"):
        shutil.copy(work / "key.pub", tree / "etc/baremetal" / name)
    for name, text in {**files, **({"run.sh": script} if script else {})}.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
        (tree / name).chmod(0o755)
    names = "\n".join(str(p.relative_to(tree)) for p in sorted(tree.rglob("*")))
    archive = subprocess.run(
        ["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0"],
        cwd=tree,
        input=names.encode(),
        capture_output=True,
        check=True,
    ).stdout
    (work / "initrd").write_bytes(archive + bytes(-len(archive) % 4) + source.read_bytes())


def network(work: Path, nics: int):
    for command in (
        "link set lo up", "link add br0 type bridge stp_state 0 forward_delay 0", f"addr add {SERVER}/24 dev br0",
        "link set br0 up",
    ):  # fmt: skip
        sh("ip", *command.split())
    for n in range(nics):
        sh("ip", *f"tuntap add tap{n} mode tap".split())
        sh("ip", *f"link set tap{n} master br0 up".split())
    (work / "leases").touch()
    (work / "udhcpd.conf").write_text(
        f"start 192.168.77.20\nend 192.168.77.30\ninterface br0\nlease_file {work}/leases\npidfile {work}/udhcpd.pid\n"
        "option subnet 255.255.255.0\noption lease 3600\n"
    )
    subprocess.Popen(["busybox", "udhcpd", "-a", "1", "-f", work / "udhcpd.conf"], stderr=subprocess.DEVNULL)


def command(work: Path, kernel: Path, scenario: dict) -> list[str]:
    machine, script = scenario.get("machine", {}), scenario.get("run", "")
    args = [
        "qemu-system-x86_64", "-machine", "q35,smbus=off,graphics=off",
        "-accel", "tcg,thread=multi,tb-size=256", "-cpu", "qemu64",
        "-smp", str(machine.get("cpus", 1)), "-m", str(machine.get("memory_mib", 1024)),
        "-uuid", "4c4c4544-0000-4000-8000-000000000001",
        "-smbios", "type=1,manufacturer=Lab,product=VNode,serial=SN1",
        "-nodefaults", "-display", "none", "-vga", "none", "-action", "reboot=shutdown",
        "-device", "virtio-rng-pci", "-qmp", f"unix:{work}/qmp.sock,server=on,wait=off",
        "-chardev", f"socket,id=ser0,path={work}/console.sock,server=on,wait=off,logfile={work}/console.log",
        "-serial", "chardev:ser0", "-monitor", "none",
    ]  # fmt: skip
    for n in range(machine.get("nics", 1)):
        mac = MAC[:-1] + str(n + 1)
        args += ["-netdev", f"tap,id=net{n},ifname=tap{n},script=no,downscript=no"]
        args += ["-device", f"{machine.get('nic', 'virtio-net-pci')},id=nic{n},netdev=net{n},mac={mac},romfile="]
    if machine.get("clock"):
        args += ["-rtc", f"base={machine['clock']}"]
    if machine.get("ipmi"):
        # QEMU's own simulator knows no LAN parameter: the lab's BMC answers behind the standard port.
        args += ["-chardev", f"socket,id=ipmi0,path={work}/kcs.sock,reconnect=1"]
        args += ["-device", "ipmi-bmc-extern,id=bmc0,chardev=ipmi0", "-device", "isa-ipmi-kcs,bmc=bmc0"]
    if machine.get("uefi"):
        shutil.copy("/usr/share/OVMF/OVMF_VARS_4M.fd", work / "vars.fd")
        args += ["-drive", "if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd"]
        args += ["-drive", f"if=pflash,format=raw,unit=1,file={work}/vars.fd"]
    for n, kind in enumerate(machine.get("disks", ["virtio"])):
        args += [*disk(work, n, kind, machine), *(part.format(n=n, before=n - 1) for part in BUS[kind])]
    text = f"console=ttyS0,115200 no_timer_check panic=10 quiet cryptomgr.notests baremetal.url=https://{SERVER}:8443 "
    text += f"baremetal.nonce=1.{'0' * 64} BOOTIF=01-{MAC.replace(':', '-')} {scenario.get('cmdline', '')}"
    text += " rdinit=/run.sh" if script else ""
    return [*args, "-kernel", str(kernel), "-initrd", str(work / "initrd"), "-append", text]


def disk(work: Path, n: int, kind: str, machine: dict) -> list[str]:
    path = work / f"disk{n}.qcow2"
    size = int(machine.get("disk_gib", 8) * (1 << 30))
    size = machine.get("sizes_mib", {}).get(str(n), size >> 20) << 20
    fill = machine.get("fill", {}).get(str(n))
    if fill:
        sh("qemu-img", "convert", "-f", "raw", "-O", "qcow2", fill, str(path))
        sh("qemu-img", "resize", "-q", str(path), str(size))
    else:
        sh("qemu-img", "create", "-q", "-f", "qcow2", str(path), str(size))
    if kind in ("blkdebug", "nvme-bad"):  # every write that touches one sector fails; the drive cannot erase itself
        rules = work / "blkdebug.conf"
        where = f'iotype = "write"\nsector = "{machine.get("bad_sector", 131072)}"\n'
        rules.write_text(
            '[inject-error]\nevent = "none"\nerrno = "5"\n'
            + (where if kind == "blkdebug" else 'iotype = "write-zeroes"\n')
        )
        node = f"driver=raw,file.driver=blkdebug,file.config={rules},"
        node += f"file.image.driver=file,file.image.filename={work}/raw{n}"
        with (work / f"raw{n}").open("wb") as f:
            f.truncate(size)
        return ["-drive", f"if=none,id=d{n},{node},discard=unmap"]
    more = ",readonly=on" if kind == "readonly" else ""
    return ["-drive", f"file={path},if=none,id=d{n},format=qcow2,cache=unsafe,discard=unmap{more}"]


def inside(kernel: Path, source: Path, work: Path) -> dict:
    scenario = json.load(sys.stdin)
    rig = Rig(work, scenario)
    network(work, scenario.get("machine", {}).get("nics", 1))
    rig.serve()
    if scenario.get("raw"):
        store_image(rig, Path(scenario["raw"]))
    initrd(work, source, scenario.get("run", ""), scenario.get("files", {}))
    if scenario.get("switch"):
        nics = scenario.get("machine", {}).get("nics", 1)
        threading.Thread(target=switch, args=(scenario["switch"], nics), daemon=True).start()
    if scenario.get("machine", {}).get("ipmi"):
        threading.Thread(target=bmc, args=(work,), daemon=True).start()
    rig.started = time.monotonic()
    process = subprocess.Popen(command(work, kernel, scenario))
    result = {"orders": []}
    try:
        converse(rig, scenario, process, result)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        result["dialled"] = rig.dialled.decode(errors="replace")
        result["console"] = (work / "console.log").read_text(errors="replace")
    return result


def switch(name: str, nics: int):
    """What the machine's NICs are plugged into: says so by LLDP twice a second, port Gi1/0/N for NIC N."""

    def tlv(kind: int, value: bytes) -> bytes:
        return struct.pack(">H", kind << 9 | len(value)) + value

    lines = []
    for n in range(nics):
        line = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        line.bind((f"tap{n}", 0))
        frame = bytes.fromhex("0180c200000e02000000009988cc") + tlv(1, b"\x04" + bytes.fromhex("020000000099"))
        frame += tlv(2, b"\x05Gi1/0/%d" % n) + tlv(3, b"\0\x78") + tlv(5, name.encode()) + tlv(0, b"")
        lines.append((line, frame))
    while True:
        for line, frame in lines:
            with contextlib.suppress(OSError):  # the machine is off
                line.send(frame)
        time.sleep(0.5)


def bmc(work: Path):
    """The lab's BMC, as the system inside reaches it."""
    from baremetal.lab import kcs
    from baremetal.lab.chassis import MemoryChassis, diskless_bmc
    from baremetal.wire.ipmi.bmc import LanConfig

    found = diskless_bmc(MemoryChassis(on=True), lan=LanConfig(BMC))

    async def serve():
        async with await kcs.serve(work, lambda: found) as server:
            await server.serve_forever()

    asyncio.run(serve())


def converse(rig: Rig, scenario: dict, process, result: dict):
    """Hello, the orders, what is typed; a machine that ends by itself ends it all."""
    if scenario.get("run"):
        process.wait(500)
        return
    with rig.cv:
        for _ in range(scenario.get("hello_patience_s", 300) * 5):
            if rig.hello or process.poll() is not None or rig.cv.wait_for(lambda: rig.hello, 0.2):
                break
    if rig.hello is None:
        return
    result.update(hello_s=round(rig.hello["seconds"], 2), hello_cpu_s=round(cpu_s(process), 2), hello=rig.hello["doc"])
    for n, order in enumerate(scenario.get("orders", [])):
        result["orders"].append(rig.give(n, order, process))
    if scenario.get("type"):
        typed(rig.work, scenario["type"])
    if [o["kind"] for o in scenario.get("orders", [])][-1:] == ["power_off"] or scenario.get("await_end"):
        process.wait(300)


def drain(line: socket.socket):
    """Until it closes."""
    try:
        while line.recv(4096):
            pass
    except OSError:
        pass


def typed(work: Path, dialogue: list[list[str]]):
    """Wait for each text on the serial console and answer it; give up on one that does not come within 180 s."""
    log, at = work / "console.log", 0
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(work / "console.sock"))
        # Read it, or some hundred bytes later the machine's serial line stands still; what it said is in the log.
        threading.Thread(target=drain, args=(line,), daemon=True).start()
        for wanted, answer in dialogue:
            deadline = time.monotonic() + 180
            while (found := log.read_text(errors="replace").find(wanted, at)) < 0 and time.monotonic() < deadline:
                time.sleep(0.2)
            if found < 0:
                return
            at = found + len(wanted)
            time.sleep(1)  # a getty drops what comes before it has set the line up
            line.sendall(answer.encode())
    time.sleep(1)


def main() -> int:
    if os.environ.get("RAMDISK_VM_WORK"):
        print(json.dumps(inside(Path(sys.argv[1]), Path(sys.argv[2]), Path(os.environ["RAMDISK_VM_WORK"]))))
        return 0
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="ramdisk-vm-") as work:
        alone = ["unshare", "-n", "-p", "-f", "--kill-child", "-m", "--mount-proc", sys.executable, *sys.argv]
        done = subprocess.run(alone, env={**os.environ, "RAMDISK_VM_WORK": work}, check=False)
        keep = os.environ.get("RAMDISK_VM_KEEP")
        for path in sorted(Path(work).glob("disk*.qcow2")) if keep else ():
            sh("qemu-img", "convert", "-O", "raw", str(path), f"{keep}/{path.stem}")
        return done.returncode


if __name__ == "__main__":
    sys.exit(main())
