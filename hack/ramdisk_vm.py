"""Boot the deploy ramdisk in one virtual machine and give it orders, without a server, BMC or PXE.

hack/ramdisk-vm KERNEL INITRD < scenario.json > result.json      (root; runs in network and PID namespaces of its own)

Scenario: {"machine": {"disks": ["virtio"|"nvme"|"ahci"|"scsi"|"usb"|"blkdebug"], "disk_gib": 8,
"nic": "virtio-net-pci", "memory_mib": 1024, "cpus": 1, "uefi": false, "clock": "2001-01-01"},
"raw": path of a raw image to serve,
"orders": [{"kind", "args"}], "run": shell text to run instead of the agent, "cut_every": bytes}.
In args, "@image" stands for the addresses of the served image, "@drive" for a small config drive.
Result: {"hello_s", "hello_cpu_s", "hello", "orders": [{"kind", "seconds", "cpu_s", "report", "progress"}],
"console"}. RAMDISK_VM_KEEP=FILE keeps the first disk as a raw file.
"""

import base64
import ctypes
import datetime
import hashlib
import http.server
import ipaddress
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SERVER, MAC = "192.168.77.1", "52:54:00:77:00:01"
CHUNK = 4 << 20
BUS = {  # device arguments of a disk n
    "virtio": ["-device", "virtio-blk-pci,drive=d{n},serial=VD{n}"],
    "blkdebug": ["-device", "virtio-blk-pci,drive=d{n},serial=BD{n}"],
    "nvme": ["-device", "nvme,drive=d{n},serial=NV{n}"],
    "ahci": ["-device", "ide-hd,drive=d{n},bus=ide.{n},serial=AH{n}"],
    "scsi": ["-device", "virtio-scsi-pci,id=s{n}", "-device",
             "scsi-hd,drive=d{n},serial=SC{n},wwn=0x5000c50015ea71a{n},bus=s{n}.0"],
    "usb": ["-device", "qemu-xhci,id=u{n}", "-device", "usb-storage,drive=d{n},serial=US{n},removable=on,bus=u{n}.0"],
}  # fmt: skip


def sh(*command, **more):
    return subprocess.run(command, check=True, capture_output=True, text=True, **more).stdout


class Rig:
    """Server side of one run."""

    def __init__(self, work: Path, scenario: dict):
        self.work, self.scenario = work, scenario
        self.cv = threading.Condition()
        self.order = self.hello = self.started = None
        self.final: list[dict] = []
        self.progress: list[dict] = []
        self.files: dict[str, Path] = {}
        self.cut_every = scenario.get("cut_every", 0)

    def handler(rig):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def answer(self, status, doc=None):
                body = b"" if doc is None else json.dumps(doc).encode()
                self.send_response(status)
                if status != 204:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self):
                doc = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with rig.cv:
                    if self.path.endswith("/hello"):
                        rig.hello = rig.hello or {"seconds": time.monotonic() - rig.started, "doc": doc}
                        rig.cv.notify_all()
                        welcome = {"token": "ab" * 32, "node": "n1", "name": "vm", "boot_id": "b", "poll_s": 30}
                        return self.answer(200, welcome)
                    (rig.progress if doc["outcome"] == "progress" else rig.final).append(doc)
                    rig.cv.notify_all()
                return self.answer(200, {})

            def do_GET(self):
                if "/order" in self.path:
                    with rig.cv:
                        rig.cv.wait_for(lambda: rig.order is not None, 30)
                        order = rig.order
                    return self.answer(200, order) if order else self.answer(204)
                path = rig.files.get(self.path)
                if path is None:
                    return self.answer(404, {"error": {"code": "not-found", "brief": self.path}})
                size = path.stat().st_size
                start = int(self.headers.get("Range", "bytes=0-")[6:].split("-")[0])
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(size - start))
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
                self.end_headers()
                with path.open("rb") as f:
                    f.seek(start)
                    if rig.cut_every and path.suffix == ".zst":
                        self.wfile.write(f.read(rig.cut_every))
                        self.close_connection = True
                    elif isinstance(self.connection, ssl.SSLSocket):
                        self.wfile.write(f.read())
                    else:
                        self.wfile.flush()
                        self.connection.sendfile(f)
                return None

        return Handler

    def serve(self):
        certificate(self.work)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.work / "server.pem")
        for port, tls in ((8443, context), (8080, None)):
            httpd = http.server.ThreadingHTTPServer((SERVER, port), self.handler())
            httpd.daemon_threads = True
            if tls:
                httpd.socket = tls.wrap_socket(httpd.socket, server_side=True, do_handshake_on_connect=False)
            threading.Thread(target=httpd.serve_forever, daemon=True).start()

    def give(self, n, order, process):
        """Hand out one order and wait for its last report."""
        args = {}
        for key, value in order.get("args", {}).items():
            if value == "@image":
                args.update({f"{k}_url": f"{b}/i/{f}" for k, b, f in (
                    ("manifest", f"https://{SERVER}:8443", "manifest.json"),
                    ("signature", f"https://{SERVER}:8443", "manifest.sig"),
                    ("image", f"http://{SERVER}:8080", "image.zst"))})  # fmt: skip
            else:
                args[key] = drive() if value == "@drive" else value
        began, cpu, before = time.monotonic(), cpu_s(process), len(self.progress)
        with self.cv:
            self.order = {"id": f"o{n}", "kind": order["kind"], "args": args}
            self.cv.notify_all()
            deadline = order.get("timeout_s", 600)
            if not self.cv.wait_for(lambda: len(self.final) > n, deadline):
                raise SystemExit(f"no report of {order['kind']} in {deadline} s")
            self.order = None
        return {
            "kind": order["kind"],
            "seconds": round(time.monotonic() - began, 2), "cpu_s": round(cpu_s(process) - cpu, 2),
            "report": self.final[n], "progress": len(self.progress) - before,
        }  # fmt: skip


def cpu_s(process) -> float:
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def certificate(work: Path):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(1)
    end = start + datetime.timedelta(9)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "ramdisk-vm")])

    def sign(subject, public, extension):
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(name).public_key(public)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(end)
        return builder.add_extension(extension, critical=False).sign(ca_key, hashes.SHA256())

    pem = serialization.Encoding.PEM
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(SERVER))])
    ca = sign(name, ca_key.public_key(), x509.BasicConstraints(ca=True, path_length=None))
    server = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "server")])
    leaf = sign(server, key.public_key(), address)
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (work / "ca.pem").write_bytes(ca.public_bytes(pem))
    (work / "server.pem").write_bytes(leaf.public_bytes(pem) + private)


def store_image(rig: Rig, raw: Path, public: Path):
    """Cut a raw image into frames as the image store does, and sign its manifest."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    lib = ctypes.CDLL("libzstd.so.1")
    lib.ZSTD_compress.restype = ctypes.c_size_t
    lib.ZSTD_compress.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
    buffer = ctypes.create_string_buffer(CHUNK + CHUNK // 128 + 1024)
    chunks, at, whole = [], 0, hashlib.sha256()
    with raw.open("rb") as f, (rig.work / "image.zst").open("wb") as out:
        while part := f.read(CHUNK):
            length = lib.ZSTD_compress(buffer, len(buffer), part, len(part), 3)
            frame = buffer.raw[:length]
            zero = part.count(0) == len(part)
            digest = hashlib.sha256(frame).hexdigest()
            chunks.append({"offset": at, "zsize": 0 if zero else length, "sha256": "" if zero else digest})
            whole.update(frame)
            at += out.write(frame)
    doc = {"id": "sha256:" + whole.hexdigest(), "name": raw.name, "raw_size": raw.stat().st_size, "chunk_size": CHUNK,
           "zst_size": at, "chunks": chunks, "properties": {}}  # fmt: skip
    key = Ed25519PrivateKey.generate()
    text = json.dumps(doc).encode()
    (rig.work / "manifest.json").write_bytes(text)
    (rig.work / "manifest.sig").write_bytes(base64.b64encode(key.sign(text)))
    public.write_text(key.public_key().public_bytes_raw().hex())
    for name in ("manifest.json", "manifest.sig", "image.zst"):
        rig.files["/i/" + name] = rig.work / name


def drive() -> str:
    sys.path.insert(0, str(ROOT))
    from baremetal.protocol import configdrive

    return configdrive.pack({"openstack/latest/meta_data.json": b'{"hostname": "vm"}', "baremetal/agent.json": b"{}"})


def initrd(work: Path, source: Path, script: str):
    """Trust anchors in front, as the server puts them, then the ramdisk."""
    tree = work / "front"
    (tree / "etc/baremetal").mkdir(parents=True)
    shutil.copy(work / "ca.pem", tree / "etc/baremetal/")
    if (work / "key.pub").exists():
        shutil.copy(work / "key.pub", tree / "etc/baremetal/image-signing.pub")
    if script:
        (tree / "run.sh").write_text(script)
        (tree / "run.sh").chmod(0o755)
    names = "\n".join(str(p.relative_to(tree)) for p in sorted(tree.rglob("*")))
    archive = subprocess.run(
        ["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0"],
        cwd=tree,
        input=names.encode(),
        capture_output=True,
        check=True,
    ).stdout
    (work / "initrd").write_bytes(archive + bytes(-len(archive) % 4) + source.read_bytes())


def network(work: Path):
    for command in (
        "link set lo up", "link add br0 type bridge stp_state 0 forward_delay 0", f"addr add {SERVER}/24 dev br0",
        "link set br0 up", "tuntap add tap0 mode tap", "link set tap0 master br0 up",
    ):  # fmt: skip
        sh("ip", *command.split())
    (work / "leases").touch()
    (work / "udhcpd.conf").write_text(
        f"start 192.168.77.20\nend 192.168.77.30\ninterface br0\nlease_file {work}/leases\npidfile {work}/udhcpd.pid\n"
        "option subnet 255.255.255.0\noption lease 3600\n"
    )
    subprocess.Popen(["busybox", "udhcpd", "-a", "1", "-f", work / "udhcpd.conf"], stderr=subprocess.DEVNULL)


def command(work: Path, kernel: Path, machine: dict, script: str) -> list[str]:
    args = [
        "qemu-system-x86_64", "-machine", "q35,smbus=off,graphics=off",
        "-accel", "tcg,thread=multi,tb-size=256", "-cpu", "qemu64",
        "-smp", str(machine.get("cpus", 1)), "-m", str(machine.get("memory_mib", 1024)),
        "-uuid", "4c4c4544-0000-4000-8000-000000000001",
        "-smbios", "type=1,manufacturer=Lab,product=VNode,serial=SN1",
        "-nodefaults", "-display", "none", "-vga", "none",
        "-action", "reboot=shutdown", "-netdev", "tap,id=net0,ifname=tap0,script=no,downscript=no",
        "-device", f"{machine.get('nic', 'virtio-net-pci')},netdev=net0,mac={MAC},romfile=",
        "-device", "virtio-rng-pci",
        "-chardev", f"file,id=ser0,path={work}/console.log", "-serial", "chardev:ser0", "-monitor", "none",
    ]  # fmt: skip
    if machine.get("clock"):
        args += ["-rtc", f"base={machine['clock']}"]
    if machine.get("uefi"):
        shutil.copy("/usr/share/OVMF/OVMF_VARS_4M.fd", work / "vars.fd")
        args += ["-drive", "if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd"]
        args += ["-drive", f"if=pflash,format=raw,unit=1,file={work}/vars.fd"]
    for n, kind in enumerate(machine.get("disks", ["virtio"])):
        args += [*disk(work, n, kind, machine), *(part.format(n=n) for part in BUS[kind])]
    text = f"console=ttyS0,115200 no_timer_check panic=10 quiet baremetal.url=https://{SERVER}:8443 "
    text += f"baremetal.nonce=1.{'0' * 64} BOOTIF=01-{MAC.replace(':', '-')}" + (" rdinit=/run.sh" if script else "")
    return [*args, "-kernel", str(kernel), "-initrd", str(work / "initrd"), "-append", text]


def disk(work: Path, n: int, kind: str, machine: dict) -> list[str]:
    path = work / f"disk{n}.qcow2"
    sh("qemu-img", "create", "-q", "-f", "qcow2", str(path), f"{machine.get('disk_gib', 8)}G")
    if kind == "blkdebug":  # every write that touches one sector fails
        rules = work / "blkdebug.conf"
        rules.write_text(
            '[inject-error]\nevent = "none"\niotype = "write"\nerrno = "5"\n'
            + f'sector = "{machine.get("bad_sector", 131072)}"\n'
        )
        node = f"driver=raw,file.driver=blkdebug,file.config={rules},"
        node += f"file.image.driver=file,file.image.filename={work}/raw{n}"
        with (work / f"raw{n}").open("wb") as f:
            f.truncate(machine.get("disk_gib", 8) << 30)
        return ["-drive", f"if=none,id=d{n},{node},discard=unmap"]
    return ["-drive", f"file={path},if=none,id=d{n},format=qcow2,cache=unsafe,discard=unmap"]


def inside(kernel: Path, source: Path, work: Path) -> dict:
    scenario = json.load(sys.stdin)
    rig = Rig(work, scenario)
    network(work)
    rig.serve()
    if scenario.get("raw"):
        store_image(rig, Path(scenario["raw"]), work / "key.pub")
    script = scenario.get("run", "")
    initrd(work, source, script)
    machine = scenario.get("machine", {})
    rig.started = time.monotonic()
    process = subprocess.Popen(command(work, kernel, machine, script))
    result = {"orders": []}
    try:
        if script:
            process.wait(scenario.get("timeout_s", 600))
        else:
            deadline = time.monotonic() + scenario.get("hello_timeout_s", 300)
            while rig.hello is None and process.poll() is None and time.monotonic() < deadline:
                with rig.cv:
                    rig.cv.wait(1)
            if rig.hello:
                result.update(
                    hello_s=round(rig.hello["seconds"], 2), hello=rig.hello["doc"], hello_cpu_s=cpu_s(process)
                )
                result["orders"] = [rig.give(n, order, process) for n, order in enumerate(scenario.get("orders", []))]
                if scenario.get("orders", [{}])[-1].get("kind") in ("power_off", "reboot"):
                    process.wait(60)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        result["console"] = (work / "console.log").read_text(errors="replace")
    return result


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
        if keep:
            sh("qemu-img", "convert", "-O", "raw", f"{work}/disk0.qcow2", keep)
        return done.returncode


if __name__ == "__main__":
    sys.exit(main())
