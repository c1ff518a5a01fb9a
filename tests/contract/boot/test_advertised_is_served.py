"""Every boot file that DHCP advertises is served: by TFTP to tftpy's client, byte for byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import tftpy

from baremetal.boot.decide import Urls, decide
from baremetal.model.boot import Arch, BootRecord, Client, Loader, LoadFile, Purpose
from baremetal.model.network import Mode, Network
from baremetal.serve.loaders import LoaderTree, read_loaders
from baremetal.serve.tftp import TftpServer

MAC = "52:54:00:00:00:01"
TABLE = read_loaders()
NETWORK = Network("prov", "lo", "10.0.0.0/24", "10.0.0.1", "10.0.0.100", "10.0.0.200", mode=Mode.ANYBODY)


def advertised() -> set[str]:
    """Names of all boot files that any client of any node can be told to load."""
    names = set()
    for loader in Loader:
        for arch in Arch:
            for secure in (False, True):
                node = BootRecord("id", "n", (MAC,), None, Purpose.RAMDISK, "", secure_boot=secure)
                urls = Urls(http="http://10.0.0.1:8080", loaders=TABLE)
                for record in (node, None):
                    decision = decide(Client(MAC, arch, loader), record, NETWORK, urls)
                    if isinstance(decision, LoadFile):
                        names.add(decision.name.rpartition("/")[2])
    return names


def test_the_tree_knows_every_advertised_name() -> None:
    assert advertised() >= {"undionly.kpxe", "snponly.efi", "shimx64.efi"}
    tree = LoaderTree(TABLE)
    for name in advertised() - set(tree.missing()):
        assert tree.get(name) is not None


def test_a_loader_whose_package_is_missing_says_which() -> None:
    assert all(fix.startswith("apt install ") for fix in LoaderTree(TABLE).missing().values())


@pytest.fixture
async def server() -> AsyncIterator[tuple[TftpServer, list[dict[str, Any]]]]:
    events: list[dict[str, Any]] = []
    tree = LoaderTree(TABLE, extra={"text.cfg": b"set x=1\n", "empty": b""})
    made = TftpServer("127.0.0.1", 0, tree, events.append)
    made.start()
    yield made, events
    made.close()


async def fetch(port: int, name: str, to: Path) -> bytes:
    return await asyncio.to_thread(_fetch, port, name, to)


def _fetch(port: int, name: str, to: Path) -> bytes:
    tftpy.TftpClient("127.0.0.1", port, options={"blksize": 1428, "tsize": 0}).download(name, str(to), timeout=5)
    return to.read_bytes()


def installed(name: str) -> bytes:
    file = TABLE.get(name)
    assert file is not None
    original = Path(file.path).read_bytes()
    return file.edit.apply(original) if file.edit else original


@pytest.mark.parametrize("name", ["undionly.kpxe", "snponly.efi"])
async def test_tftpy_fetches_the_loaders(server: Any, tmp_path: Path, name: str) -> None:
    tftp, events = server
    expected = installed(name)
    assert await fetch(tftp.port, name, tmp_path / "got") == expected
    async with asyncio.timeout(60):
        while len(tftp):  # noqa: ASYNC110 (the client has all; its last acknowledgement is still to be read)
            await asyncio.sleep(0.01)
    sent = events[-1]
    assert (sent["kind"], sent["body"]["name"], sent["body"]["bytes"]) == ("loader-sent", name, len(expected))


async def test_rendered_and_empty_files(server: Any, tmp_path: Path) -> None:
    assert await fetch(server[0].port, "text.cfg", tmp_path / "got") == b"set x=1\n"
    assert await fetch(server[0].port, "empty", tmp_path / "got") == b""


@pytest.mark.parametrize("name", ["no-such-file", "../../../etc/passwd", "etc/passwd", "/etc/passwd"])
async def test_nothing_else_is_served(server: Any, tmp_path: Path, name: str) -> None:
    with pytest.raises(tftpy.TftpException):
        await fetch(server[0].port, name, tmp_path / "got")
    assert server[1][-1]["kind"] == "refused"
