"""A real HTTPS + HTTP server on loopback that can misbehave on order, images, and disks that are files."""

from __future__ import annotations

import base64
import ctypes
import datetime
import hashlib
import http.server
import ipaddress
import json
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from baremetal.protocol import agent

sys.path.insert(0, str(Path(__file__).parent))  # simulated_drives.py
CHUNK = 256 * 1024
KEY = Ed25519PrivateKey.generate()


def compress(data: bytes) -> bytes:
    lib = ctypes.CDLL("libzstd.so.1")
    size, text = ctypes.c_size_t, ctypes.c_char_p
    lib.ZSTD_compress.restype = size
    lib.ZSTD_compress.argtypes = [text, size, text, size, ctypes.c_int]
    out = ctypes.create_string_buffer(len(data) + 4096)
    length = lib.ZSTD_compress(out, len(out), data, len(data), 3)
    return out.raw[:length]


@dataclass
class Image:
    """An image as the store would hold it; change `doc` or `zst`, then sign()."""

    raw: bytes
    doc: dict[str, Any]
    zst: bytes
    manifest: bytes = b""
    signature: bytes = b""

    @classmethod
    def of(cls, raw: bytes) -> Image:
        chunks: list[dict[str, Any]] = []
        zst = b""
        for at in range(0, len(raw), CHUNK):
            part = raw[at : at + CHUNK]
            frame = compress(part) if part.strip(b"\0") else b""
            digest = hashlib.sha256(frame).hexdigest() if frame else ""
            chunks.append({"offset": len(zst), "zsize": len(frame), "sha256": digest})
            zst += frame or compress(part)  # a frame of zeros for other tools, as the image store has it
        doc = {
            "id": "sha256:" + hashlib.sha256(zst).hexdigest(), "name": "test", "raw_size": len(raw),
            "chunk_size": CHUNK, "zst_size": len(zst), "chunks": chunks, "firmware": ["bios"], "properties": {},
        }  # fmt: skip
        return cls(raw, doc, zst).sign()

    def sign(self) -> Image:
        self.manifest = json.dumps(self.doc).encode()
        self.signature = base64.b64encode(KEY.sign(self.manifest))
        return self


@dataclass
class Server:
    """`files` by path; `cut_at`: close after so many bytes of a body, once for each entry; `busy`: 503 so often."""

    http_url: str = ""
    https_url: str = ""
    ca_file: Path = Path()
    files: dict[str, bytes] = field(default_factory=dict)
    cut_at: list[int] = field(default_factory=list)
    busy: int = 0
    ignore_range: bool = False
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    orders: list[dict[str, Any]] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)
    hello_status: int = 200
    token_dead: bool = False

    def put_image(self, image: Image) -> dict[str, str]:
        """Serve it; the URLs of a write_image order."""
        self.files |= {
            "/i/manifest.json": image.manifest,
            "/i/manifest.sig": image.signature,
            "/i/image.zst": image.zst,
        }
        return {
            "manifest_url": self.https_url + "/i/manifest.json",
            "signature_url": self.https_url + "/i/manifest.sig",
            "image_url": self.http_url + "/i/image.zst",
        }


def _handler(server: Server) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if server.cut_at and len(body) > server.cut_at[0]:
                self.wfile.write(body[: server.cut_at.pop(0)])
                self.wfile.flush()
                self.close_connection = True
                return
            self.wfile.write(body)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            server.requests.append(("POST", self.path, dict(self.headers)))
            doc = json.loads(body)
            if server.busy > 0:
                server.busy -= 1
                return self.answer(503, b'{"error": {"code": "away", "brief": "control is away"}}')
            if self.path.endswith("/hello"):
                if server.hello_status != 200:
                    error = {
                        "error": {"code": "nonce-used", "brief": "this nonce was used before", "fix": "boot again"}
                    }
                    return self.answer(server.hello_status, json.dumps(error).encode())
                welcome = {"token": "ab" * 32, "node": "n1", "name": "r1-u07", "boot_id": "b1", "poll_s": 1}
                return self.answer(200, json.dumps(welcome).encode())
            if server.token_dead:
                return self.answer(401, b"{}")
            server.reports.append(doc)
            return self.answer(200, b"{}")

        def do_GET(self) -> None:
            server.requests.append(("GET", self.path, dict(self.headers)))
            if server.busy > 0:
                server.busy -= 1
                return self.answer(503)
            if "/order?" in self.path:
                if not server.orders:
                    return self.answer(204)
                return self.answer(200, json.dumps(server.orders.pop(0)).encode())
            body = server.files.get(self.path)
            if body is None:
                return self.answer(404, b'{"error": {"code": "not-found", "brief": "no such image"}}')
            start = int(self.headers.get("Range", "bytes=0-")[6:].split("-")[0])
            if not start or server.ignore_range:
                return self.answer(200, body, ETag='"1"')
            if start >= len(body):
                return self.answer(416, Content_Range=f"bytes */{len(body)}")
            part = f"bytes {start}-{len(body) - 1}/{len(body)}"
            return self.answer(206, body[start:], Content_Range=part, ETag='"1"')

    return Handler


def certificate(folder: Path, address: str = "127.0.0.1", days: int = 1) -> tuple[Path, Path]:
    """A new CA and a server certificate of it: (ca.pem, server.pem with its key). days < 0: long expired."""
    start = datetime.datetime(2001, 1, 1) if days < 0 else datetime.datetime.now(datetime.UTC) - datetime.timedelta(1)
    end = start + datetime.timedelta(abs(days) + 1)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])

    def sign(name: x509.Name, public: Any, extension: x509.ExtensionType) -> x509.Certificate:
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(ca_name).public_key(public)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(end)
        return builder.add_extension(extension, critical=False).sign(ca_key, hashes.SHA256())

    ca = sign(ca_name, ca_key.public_key(), x509.BasicConstraints(ca=True, path_length=None))
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    leaf = sign(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")]), key.public_key(), names)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "ca.pem").write_bytes(ca.public_bytes(pem))
    (folder / "server.pem").write_bytes(leaf.public_bytes(pem) + private)
    return folder / "ca.pem", folder / "server.pem"


def start(
    handler: type[http.server.BaseHTTPRequestHandler], pem: Path | None = None
) -> http.server.ThreadingHTTPServer:
    """Serve in a thread on a free port of loopback; over TLS when there is a certificate."""
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    httpd.daemon_threads = True
    httpd.handle_error = lambda *told: None  # type: ignore[method-assign]  # clients that go away are what is tested
    if pem is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        httpd.socket = context.wrap_socket(httpd.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    return httpd


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server(tls: tuple[Path, Path]) -> Iterator[Server]:
    state = Server(ca_file=tls[0])
    plain, secure = start(_handler(state)), start(_handler(state), tls[1])
    state.http_url = f"http://127.0.0.1:{plain.server_port}"
    state.https_url = f"https://127.0.0.1:{secure.server_port}"
    yield state
    for httpd in (plain, secure):
        httpd.shutdown()
        httpd.server_close()


@pytest.fixture
def make_image() -> Callable[[bytes], Image]:
    return Image.of


@pytest.fixture
def public_key() -> bytes:
    return KEY.public_key().public_bytes_raw()


@pytest.fixture
def serve_with() -> Callable[..., http.server.ThreadingHTTPServer]:
    return start


@pytest.fixture
def make_certificate() -> Callable[..., tuple[Path, Path]]:
    return certificate


@pytest.fixture
def sign_order() -> Any:
    """Makes an order as the server signs it; the test server's boot is b1."""

    def make(order_id: str, kind: str, args: dict[str, Any], boot_id: str = "b1") -> dict[str, Any]:
        order = agent.Order(order_id, kind, args)
        signature = base64.b64encode(KEY.sign(agent.signed_text(order, boot_id).encode())).decode()
        return {**order.to_json(), "signature": signature}

    return make
