"""The idea of the boot plane at one sitting: who asks + what its node is for -> what it boots, and why.

Pure: `serve/dhcp.py` asks it once per client and compiles the answer,
`boot explain` asks it to tell you.
"""

from __future__ import annotations

from dataclasses import dataclass

from baremetal.boot.loaders import LoaderFile, LoaderTable
from baremetal.model.boot import (
    AddressOnly,
    Arch,
    BootRecord,
    Client,
    Decision,
    Ignore,
    Loader,
    LoadFile,
    LocalDisk,
    Purpose,
    Script,
)
from baremetal.model.network import Mode, Network


@dataclass(frozen=True)
class Urls:
    """Where the boot plane offers its files. Patterns take {http}, {mac} (hyphens) and {name}."""

    http: str
    loaders: LoaderTable
    script: str = "{http}/boot/{mac}.ipxe"
    loader: str = "{http}/loaders/{name}"

    def script_for(self, mac: str) -> str:
        return self.script.format(http=self.http, mac=mac.replace(":", "-"))

    def loader_url(self, name: str) -> str:
        return self.loader.format(http=self.http, name=name)


def decide(client: Client, record: BootRecord | None, network: Network, urls: Urls) -> Decision:
    """What to answer this client. `record` is its node's, None when no node has its MAC or UUID."""
    if record is None:
        return _unknown(client, network, urls)
    if client.loader is Loader.NONE:
        return AddressOnly(because=f"{record.name}: no option 93, so an operating system asks; it gets its address")
    match record.purpose:
        case Purpose.RAMDISK:
            return _boot(client, urls, f"{record.name}: {record.because}", secure=record.secure_boot)
        case Purpose.NETBOOT:
            return _boot(client, urls, f"{record.name}: {record.because}", secure=record.secure_boot)
        case Purpose.DISK:
            return _disk(client, urls, f"{record.name}: {record.because}")
        case Purpose.NONE:
            return _disk(client, urls, f"{record.name}: nothing to boot: {record.because}")


def _unknown(client: Client, network: Network, urls: Urls) -> Decision:
    # Does not name the machine: one answer serves all unknown machines of a kind (wire/dhcp4/server.py).
    nobody = "no node has its MAC or UUID"
    if network.mode is Mode.KNOWN:
        return Ignore(because=f"{nobody}, and network {network.name} answers known machines only")
    if client.loader is Loader.NONE:
        if network.mode is Mode.ANYBODY:
            return AddressOnly(because=f"{nobody}; network {network.name} gives anybody an address")
        return Ignore(because=f"{nobody}, and it is no boot client (no option 93)")
    return _boot(client, urls, f"{nobody}; network {network.name} is open to unknown machines", secure=False)


def _disk(client: Client, urls: Urls, because: str) -> LocalDisk:
    if client.loader is Loader.IPXE:
        return LocalDisk(because=because, script=urls.script_for(client.mac))
    return LocalDisk(because=because)


def _boot(client: Client, urls: Urls, because: str, *, secure: bool) -> Decision:
    """On the way to the node's script: loader first, unless iPXE asks already."""
    if client.loader is Loader.IPXE:
        return Script(url=urls.script_for(client.mac), because=f"{because}; iPXE asks for its script")
    if secure and client.arch is Arch.BIOS:
        return Ignore(
            because=f"{because}; but the node wants secure boot and asks as BIOS: switch its firmware to UEFI"
        )
    if secure and client.loader is Loader.HTTP:
        return Ignore(because=f"{because}; but the signed GRUB speaks no HTTP: its firmware's PXE gets an answer")
    file = urls.loaders.shim(client.arch) if secure else urls.loaders.ipxe(client.arch)
    if file is None:
        return Ignore(because=f"{because}; but no {'signed ' if secure else ''}loader is known for {client.arch}")
    return _load(client, file, urls, because)


def _load(client: Client, file: LoaderFile, urls: Urls, because: str) -> LoadFile:
    if client.loader is Loader.HTTP:
        return LoadFile(
            name=urls.loader_url(file.name), because=f"{because}; {client.arch} boots {file.name} by UEFI HTTP boot"
        )
    return LoadFile(name=file.name, because=f"{because}; {client.arch} loads {file.name} by TFTP")
