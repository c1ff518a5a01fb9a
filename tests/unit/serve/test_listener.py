"""The boot plane's HTTP listeners on loopback: TLS, files through TLS, and clients that mean no good."""

import asyncio
import os
import socket
import ssl
import struct

import aiohttp
import pytest

from baremetal.bootplane.app import make_apps
from baremetal.bootplane.link import Link
from baremetal.bootplane.spool import Spool
from baremetal.bootplane.state import State
from baremetal.config import Settings
from baremetal.protocol.plane import Snapshot
from baremetal.serve import child, http
from baremetal.serve.init import initialise
from baremetal.serve.listen import bind, tls_context
from baremetal.serve.loaders import read_templates


@pytest.fixture
async def served(tmp_path, monkeypatch):
    """(plain port, TLS port, client's TLS context, content of the manifest)"""
    monkeypatch.setattr(http, "SWEEP_S", 0.1)
    settings = Settings(state_dir=tmp_path / "s", run_dir=tmp_path / "r", cache_dir=tmp_path / "c")
    initialise(settings)
    image = tmp_path / "image"
    image.mkdir()
    (image / "manifest.json").write_bytes(os.urandom(300_001))
    (image / "image.zst").touch()
    os.truncate(image / "image.zst", 64 << 20)
    state = State()
    state.load(1, Snapshot(images={"ab" * 32: str(image)}))
    link = Link(tmp_path / "none.sock", state, Spool(tmp_path / "spool"))
    apps = make_apps(state, link, templates=read_templates(), loaders={}, https_port=0)
    listeners, ports = [], []
    for app, context in ((apps.http, None), (apps.https, tls_context(settings.tls_dir))):
        sock = bind("127.0.0.1", 0)
        ports.append(sock.getsockname()[1])
        listener = http.Listener(app, connections=50, tls=context)
        await listener.start([sock])
        listeners.append(listener)
    client = ssl.create_default_context(cafile=settings.tls_dir / "ca.pem")
    yield ports[0], ports[1], client, (image / "manifest.json").read_bytes()
    for listener in listeners:
        await listener.close()


async def test_manifest_through_tls_is_whole_and_in_parts(served):
    _, port, context, content = served
    url = f"https://127.0.0.1:{port}/images/{'ab' * 32}/manifest.json"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        for _ in range(3):
            async with session.get(url) as answer:
                assert await answer.read() == content
        async with session.get(url, headers={"Range": "bytes=100000-"}) as answer:
            assert await answer.read() == content[100000:]


async def raw(port, data, seconds=90.0):
    """What comes back until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        async with asyncio.timeout(seconds):
            return await reader.read(1 << 20)
    except ConnectionError:
        return b""
    finally:
        writer.close()


HOSTILE = [  # what is sent, how the answer begins
    (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", b"HTTP/1.0 400"),
    (b"GET / HTTP/1.1\r\nA: " + b"b" * 9000 + b"\r\n\r\n", b"HTTP/1.0 400"),
    (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", b"HTTP/1.0 400"),
    (b"GET / HTTP/9.9\r\n\r\n", b"HTTP/1.0 400"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"HTTP/1.0 400"),
    (b"GET / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", b"HTTP/1.0 400"),
    (b"GET / HTTP/1.1\r\nContent-Length: -5\r\n\r\n", b"HTTP/1.0 400"),
    (b"\0" * 100 + b"\r\n\r\n", b"HTTP/1.0 400"),
]


@pytest.mark.parametrize(("sent", "begins"), HOSTILE)
async def test_what_is_no_request_gets_4xx_and_the_service_goes_on(served, sent, begins):
    assert (await raw(served[0], sent)).startswith(begins)
    assert b"#!ipxe" in await raw(served[0], b"GET /boot/52-54-00-00-00-01.ipxe HTTP/1.0\r\n\r\n")


async def test_a_client_that_dribbles_its_headers_is_cut_off(served, monkeypatch):
    monkeypatch.setattr(http, "FIRST_REQUEST_S", 0.5)
    reader, writer = await asyncio.open_connection("127.0.0.1", served[0])
    writer.write(b"GET / HTTP/1.1\r\nX: ")
    async with asyncio.timeout(90):
        assert await reader.read(100) == b""
    writer.close()


async def test_a_machine_switched_off_in_a_download_is_no_traceback_in_the_log(served, caplog):
    child.set_up_log("boot", "info")
    for _ in range(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", served[0])
        writer.write(f"GET /images/{'ab' * 32}/image.zst HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert await reader.readexactly(1 << 16)
        raw_socket = writer.get_extra_info("socket")
        raw_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not a goodbye
        writer.transport.abort()
    assert b"#!ipxe" in await raw(served[0], b"GET /boot/52-54-00-00-00-01.ipxe HTTP/1.0\r\n\r\n")
    await asyncio.sleep(0.5)  # nothing to wait for: nothing is said
    assert not [record for record in caplog.records if record.exc_info]


async def test_idle_connections_beyond_the_limit_go_first(served):
    idle = [await asyncio.open_connection("127.0.0.1", served[0]) for _ in range(120)]
    assert b"#!ipxe" in await raw(served[0], b"GET /boot/52-54-00-00-00-01.ipxe HTTP/1.0\r\n\r\n")
    async with asyncio.timeout(90):
        assert await idle[0][0].read(1) == b""
    for _, writer in idle:
        writer.close()


async def test_a_taken_port_names_its_holder():
    from baremetal.serve.sockets import PortTaken

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(PortTaken) as error:
            bind("127.0.0.1", other.getsockname()[1])
    assert f"pid {os.getpid()}" in error.value.brief
