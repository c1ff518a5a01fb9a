"""What passes must know of the server they run in: its addresses, keys and ramdisks. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from baremetal.model.image import Manifest
from baremetal.model.network import Network

MOST_PLACES = 8  # that an order names for one file


@dataclass(frozen=True)
class Ramdisk:
    """Names of a kernel and an initrd in the boot plane's virtual tree."""

    kernel: str
    initrd: str
    cmdline: str = ""


@dataclass(frozen=True)
class Site:
    """`http_url` serves firmware and images, `https_url` agents. `artifacts` as in protocol.plane.Snapshot.

    `ramdisks` by architecture; "" is the fallback. `netboot` by image id: images
    that machines run from the network.
    """

    http_url: str = "http://127.0.0.1:8080"
    https_url: str = "https://127.0.0.1:8443"
    ca_pem: str = ""
    peers: tuple[str, ...] = ()  # https URLs of all servers of the site, when there are several
    networks: tuple[Network, ...] = ()
    tftp_port: int = 69
    ramdisks: Mapping[str, Ramdisk] = field(default_factory=dict)
    artifacts: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    netboot: Mapping[str, Ramdisk] = field(default_factory=dict)

    def ramdisk(self, arch: str) -> Ramdisk | None:
        """The ramdisk for this architecture."""
        return self.ramdisks.get(arch) or self.ramdisks.get("")

    def everywhere(self, path: str, *, tls: bool) -> list[str]:
        """URLs of `path` at this server, then at the others. All servers of a site use the same ports."""
        own = self.https_url if tls else self.http_url
        port = urlsplit(own).port
        others = [f"{'https' if tls else 'http'}://{_host(peer)}:{port}" for peer in self.peers]
        return [f"{base}{path}" for base in list(dict.fromkeys([own, *others]))[:MOST_PLACES]]


@dataclass(frozen=True)
class Keys:
    """`operator` and `metadata` seal secrets at rest (32 bytes each); `signing_pem` is the Ed25519 key of metadata."""

    operator: bytes
    metadata: bytes
    signing_pem: bytes


class Image(Protocol):
    """A stored image, as images.store.StoredImage gives it."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def dir(self) -> Any: ...
    @property
    def manifest(self) -> Manifest | None: ...
    @property
    def properties(self) -> Mapping[str, str]: ...


class Images(Protocol):
    """The image store, as far as workflows use it."""

    def get(self, name_or_id: str) -> Image:
        """By name or id; NotFound otherwise."""
        ...

    def list(self) -> Any:
        """Every stored image."""
        ...


def _host(url: str) -> str:
    """As it stands in a URL: an IPv6 address keeps its brackets."""
    return urlsplit(url).netloc.rpartition(":")[0]


def image_key(image_id: str) -> str:
    """An image's name in URLs and in the snapshot: its id without `sha256:`."""
    return image_id.removeprefix("sha256:")
