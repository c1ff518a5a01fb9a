"""The server side of hack/ramdisk-vm: hello, orders, reports, an image; and every way to misbehave a test asks for.

Scenario keys it knows: "raw"; "cut_every" (bytes a connection lives); "rogue" (the certificate of another CA);
"refuse_hello" (403, as for a replayed nonce); "away": [bytes of the image sent, seconds] (the whole server goes away);
"qmp": [[bytes sent, command, arguments]…], "later": [[seconds after the image began, command, arguments]…];
"listen": port where somebody waits for a node that dials out.
An order with "unsigned": true carries no signature. For "@image" also "@corrupt" (a byte of its last frame changed) and
"@forged" (the manifest signed with another key).
"""

import base64
import ctypes
import datetime
import hashlib
import http.server
import ipaddress
import json
import os
import socket
import ssl
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
SERVER, BOOT, CHUNK = "192.168.77.1", "b", 4 << 20
STEP = 256 * 1024  # bytes of the image sent at once when something is to happen on the way
REFUSED = {"error": {"code": "nonce-refused", "brief": "this nonce was used already", "fix": "boot again"}}


class Rig:
    """Server side of one run."""

    def __init__(self, work: Path, scenario: dict):
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self.work, self.scenario = work, scenario
        self.cv = threading.Condition()
        self.order = self.hello = self.started = None
        self.final: dict[str, dict] = {}
        self.progress: list[dict] = []
        self.files: dict[str, Path] = {}
        self.key = Ed25519PrivateKey.generate()
        self.sent = 0  # bytes of the image, over all connections
        self.away_until = 0.0
        self.pending = [list(event) for event in scenario.get("qmp", [])]
        self.dialled = b""  # the first words of a node that dialled out

    def serve(self):
        certificate(self.work)
        (self.work / "key.pub").write_text(self.key.public_key().public_bytes_raw().hex())
        if self.scenario.get("rogue"):  # the ramdisk is given another CA than the server has
            kept = (self.work / "server.pem").read_bytes()
            certificate(self.work)
            (self.work / "server.pem").write_bytes(kept)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.work / "server.pem")
        for port, tls in ((8443, context), (8080, None)):
            httpd = http.server.ThreadingHTTPServer((SERVER, port), handler_of(self))
            httpd.daemon_threads = True
            if tls:
                httpd.socket = tls.wrap_socket(httpd.socket, server_side=True, do_handshake_on_connect=False)
            threading.Thread(target=httpd.serve_forever, daemon=True).start()

        if self.scenario.get("listen"):
            threading.Thread(target=self.wait_for_call, args=(self.scenario["listen"],), daemon=True).start()

    def wait_for_call(self, port: int):
        with socket.create_server((SERVER, port)) as door:
            line, _ = door.accept()
            with line:
                self.dialled = line.recv(256)

    @property
    def away(self) -> bool:
        return time.monotonic() < self.away_until

    def on_the_way(self, more: int):
        """So many bytes of the image went out: is something to happen here?"""
        self.sent += more
        away = self.scenario.get("away")
        if away and self.sent >= away[0]:
            self.scenario["away"] = None
            self.away_until = time.monotonic() + away[1]
        for wait_s, command, arguments in self.scenario.pop("later", []):
            threading.Timer(wait_s, qmp, (self.work, command, arguments)).start()
        while self.pending and self.sent >= self.pending[0][0]:
            _, command, arguments = self.pending.pop(0)
            qmp(self.work, command, arguments)

    def give(self, n, order, process):
        """Hand out one order and wait for its last report."""
        began, cpu, before = time.monotonic(), cpu_s(process), len(self.progress)
        with self.cv:
            self.order = self.signed(f"o{n}", order)
            self.cv.notify_all()
            deadline = time.monotonic() + order.get("timeout_s", 500)
            while f"o{n}" not in self.final and time.monotonic() < deadline and process.poll() is None:
                self.cv.wait(0.2)
            self.order = None
            if f"o{n}" not in self.final:
                what = "the machine ended" if process.poll() is not None else "too long"
                self.final[f"o{n}"] = {"outcome": "none", "fault": {"code": "no-report", "brief": what}, "data": {}}
        return {
            "kind": order["kind"],
            "seconds": round(time.monotonic() - began, 2), "cpu_s": round(cpu_s(process) - cpu, 2),
            "report": self.final[f"o{n}"], "progress": [p["data"] for p in self.progress[before:]],
        }  # fmt: skip

    def signed(self, order_id: str, order: dict) -> dict:
        from baremetal.protocol import agent

        args = {}
        for key, value in order.get("args", {}).items():
            if value in ("@image", "@corrupt", "@forged"):
                args["manifest_url"] = f"https://{SERVER}:8443/i/manifest.json"
                args["signature_url"] = f"https://{SERVER}:8443/i/{'forged' if value == '@forged' else 'manifest'}.sig"
                args["image_url"] = f"http://{SERVER}:8080/i/{'corrupt' if value == '@corrupt' else 'image'}.zst"
            else:
                args[key] = drive() if value == "@drive" else value
        made = agent.Order(order_id, order["kind"], args)
        signature = base64.b64encode(self.key.sign(agent.signed_text(made, BOOT).encode())).decode()
        return {**made.to_json(), "signature": None if order.get("unsigned") else signature}


def handler_of(rig: Rig):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def handle_one_request(self):
            if rig.away:
                self.close_connection = True
                return
            super().handle_one_request()

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
                    if rig.scenario.get("refuse_hello"):
                        return self.answer(403, REFUSED)
                    welcome = {"token": "ab" * 32, "node": "n1", "name": "vm", "boot_id": BOOT, "poll_s": 30}
                    return self.answer(200, welcome)
                if doc["outcome"] == "progress":
                    rig.progress.append(doc)
                else:  # the same order may be reported again
                    rig.final.setdefault(doc["order_id"], doc)
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
            return self.send_file(path)

        def send_file(self, path):
            size = path.stat().st_size
            start = int(self.headers.get("Range", "bytes=0-")[6:].split("-")[0])
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(size - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
            self.end_headers()
            with path.open("rb") as f:
                f.seek(start)
                if path.suffix != ".zst" or isinstance(self.connection, ssl.SSLSocket):
                    self.wfile.write(f.read())
                elif rig.pending or rig.scenario.get("away") or rig.scenario.get("cut_every"):
                    self.step_by_step(f)
                else:
                    self.wfile.flush()
                    self.connection.sendfile(f, start)  # it does not look where the file stands

        def step_by_step(self, f):
            left = rig.scenario.get("cut_every") or 1 << 60
            while left > 0 and (part := f.read(min(STEP, left))):
                self.wfile.write(part)
                left -= len(part)
                rig.on_the_way(len(part))
                if rig.away:
                    break
            self.close_connection = True

    return Handler


def qmp(work: Path, command: str, arguments: dict):
    """One command to the machine."""
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(work / "qmp.sock"))
        reader = line.makefile("r")
        reader.readline()
        for name, given in (("qmp_capabilities", {}), (command, arguments)):
            line.sendall(json.dumps({"execute": name, "arguments": given}).encode() + b"\n")
            reader.readline()


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


def store_image(rig: Rig, raw: Path):
    """Cut a raw image into frames as the image store does, and sign its manifest."""
    lib = ctypes.CDLL("libzstd.so.1")
    lib.ZSTD_compress.restype = ctypes.c_size_t
    lib.ZSTD_compress.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
    buffer = ctypes.create_string_buffer(CHUNK + CHUNK // 128 + 1024)
    nothing = bytes(CHUNK)
    chunks, at, whole = [], 0, hashlib.sha256()
    with raw.open("rb") as f, (rig.work / "image.zst").open("wb") as out:
        while part := f.read(CHUNK):
            zero = part == nothing[: len(part)]
            length = lib.ZSTD_compress(buffer, len(buffer), part, len(part), 3)
            frame = buffer.raw[:length]
            digest = hashlib.sha256(frame).hexdigest()
            chunks.append({"offset": at, "zsize": 0 if zero else length, "sha256": "" if zero else digest})
            whole.update(frame)
            at += out.write(frame)
    doc = {"id": "sha256:" + whole.hexdigest(), "name": raw.name, "raw_size": raw.stat().st_size, "chunk_size": CHUNK,
           "zst_size": at, "chunks": chunks, "properties": {}}  # fmt: skip
    text = json.dumps(doc).encode()
    data = bytearray((rig.work / "image.zst").read_bytes())
    last = [c for c in chunks if c["zsize"]][-1]
    data[last["offset"] + last["zsize"] // 2] ^= 1
    (rig.work / "corrupt.zst").write_bytes(data)
    (rig.work / "manifest.json").write_bytes(text)
    (rig.work / "manifest.sig").write_bytes(base64.b64encode(rig.key.sign(text)))
    (rig.work / "forged.sig").write_bytes(base64.b64encode(rig.key.sign(text + b" ")))
    for name in ("manifest.json", "manifest.sig", "forged.sig", "image.zst", "corrupt.zst"):
        rig.files["/i/" + name] = rig.work / name


def drive() -> str:
    from baremetal.protocol import configdrive

    return configdrive.pack({"openstack/latest/meta_data.json": b'{"hostname": "vm"}', "baremetal/agent.json": b"{}"})
