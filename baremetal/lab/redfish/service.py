"""Sockets and TLS of the Redfish faces: any number of addresses, one handler, one self-signed certificate."""

from __future__ import annotations

import asyncio
import datetime
import json
import ssl
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from baremetal.errors import MachineError
from baremetal.lab.bmc import VirtualBmc
from baremetal.lab.redfish.face import Face
from baremetal.lab.redfish.http import Request

PORT = 443
_YEARS = datetime.timedelta(days=3650)
_MAX_BODY = 64 * 1024


class Service:
    """HTTPS (or HTTP) for BMCs by address. `tls=False` speaks plain HTTP, as some firmware does."""

    def __init__(self, faces: Mapping[str, tuple[Face, VirtualBmc]], port: int = PORT, *, tls: bool = True) -> None:
        self.faces = faces
        self.port = port
        self._context = _self_signed() if tls else None
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Service:
        app = web.Application(client_max_size=_MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, keepalive_timeout=30, shutdown_timeout=0.2)
        await self._runner.setup()
        try:
            for address in self.faces:
                site = web.TCPSite(self._runner, address, self.port, ssl_context=self._context)
                await site.start()
        except OSError as exc:
            await self._runner.cleanup()
            raise MachineError(f"Redfish port {self.port}/tcp cannot be bound", detail=str(exc)) from exc
        if not self.port:
            self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        transport = request.transport
        address = transport.get_extra_info("sockname")[0] if transport else ""
        face, virtual = self.faces[address]
        if virtual.faults.silent:
            await asyncio.sleep(3600)  # a silent BMC keeps the connection and says nothing
        if virtual.deaf and transport:
            transport.abort()  # one that restarts breaks it
        if virtual.faults.latency_s:
            await asyncio.sleep(virtual.faults.latency_s)
        headers = {name.lower(): value for name, value in request.headers.items()}
        path = request.path.rstrip("/")
        answer = face.answer(Request(request.method, path, headers, await request.read(), time.time()))
        virtual.noticed()
        body = json.dumps(answer.document).encode() if answer.document is not None else b""
        kind = {"Content-Type": "application/json"} if body else {}
        return web.Response(status=answer.status, body=body, headers={"OData-Version": "4.0", **kind, **answer.headers})


def _self_signed() -> ssl.SSLContext:
    """A certificate nobody vouches for, as BMCs leave the factory."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "BMC")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + _YEARS)
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    pem += key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        Path(file.name).write_bytes(pem)
        context.load_cert_chain(file.name)
    return context
