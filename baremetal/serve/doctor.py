"""The checks behind `baremetal doctor`. Each is a small function that yields findings; none changes anything."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from baremetal.config import Settings, is_postgres
from baremetal.errors import BaremetalError
from baremetal.model.network import Network
from baremetal.serve import ports, preflight
from baremetal.serve.finding import FAIL as FAIL
from baremetal.serve.finding import PASS as PASS
from baremetal.serve.finding import SKIP as SKIP
from baremetal.serve.finding import WARN as WARN
from baremetal.serve.finding import Finding as Finding
from baremetal.workflows import probes

# tool -> Debian package, why. The first table is for serving real racks, the second for images and the lab.
TOOLS: dict[str, tuple[str, str]] = {"ip": ("iproute2", "shows and sets interfaces")}
LAB_TOOLS: dict[str, tuple[str, str]] = {
    "qemu-system-x86_64": ("qemu-system-x86", "virtual machines"),
    "qemu-img": ("qemu-utils", "image conversion"),
    "mmdebstrap": ("mmdebstrap", "image builds"),
    "sgdisk": ("gdisk", "partition tables"),
    "mcopy": ("mtools", "EFI system partitions without mounting"),
    "mkfs.ext4": ("e2fsprogs", "root file systems"),
    "zstd": ("zstd", "images"),
}
GIB = 1 << 30
LOW_SPACE = 10 * GIB  # one golden image and its raw form


Check = Callable[[Settings], Iterable[Finding]]


def well(findings: Iterable[Finding]) -> bool:
    """Nothing would stop the server."""
    return all(finding.verdict != FAIL for finding in findings)


def examine(config: Path | None, *, lab: bool = False, probe: bool = True) -> list[Finding]:
    """Every check, in the order in which a person would cure them."""
    try:
        settings = Settings.load(config)
    except BaremetalError as exc:
        return [Finding("configuration", FAIL, f"{exc.brief}: {exc.detail}".strip(": "), exc.fix)]
    findings = [Finding("configuration", PASS, f"{_count(len(settings.networks), 'network')}, no unknown settings")]
    checks: list[Check] = [
        preconditions,
        database,
        links,
        tools(TOOLS),
        loaders,
        certificates,
        open_ports,
        loader_by_tftp,
        image_tools,
        space,
        clock,
    ]
    if lab:
        checks.append(tools(LAB_TOOLS))
    if probe:
        checks.append(rival_dhcp)
    for check in checks:
        findings += _safely(check, settings)
    return findings


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _safely(check: Check, settings: Settings) -> list[Finding]:
    name = getattr(check, "__name__", "check").replace("_", " ")
    try:
        return list(check(settings))
    except BaremetalError as exc:
        return [Finding(name, FAIL, exc.brief, exc.fix)]
    except Exception as exc:
        return [Finding(name, WARN, f"could not be checked: {type(exc).__name__}: {exc}")]


def preconditions(settings: Settings) -> Iterator[Finding]:
    """What serve itself refuses to start without."""
    found = list(preflight.problems(settings))
    for problem in found:
        yield Finding("serve", FAIL, problem.brief, problem.fix)
    if not found:
        yield Finding("serve", PASS, "rights, keys, interfaces and addresses are there")


def database(settings: Settings) -> Iterator[Finding]:
    """PostgreSQL, where the configuration names one; its packages are imported only then."""
    if is_postgres(settings.database):
        from baremetal.serve import doctordb

        yield from doctordb.database(settings)


def links(settings: Settings) -> Iterator[Finding]:
    """The provisioning interfaces are up and have a carrier (SIOCGIFFLAGS: right in every namespace)."""
    up, running = 0x1, 0x40
    for network in settings.networks:
        request = struct.pack("16sH14s", network.interface.encode()[:15], 0, b"")
        name = f"link {network.interface}"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            try:
                flags = struct.unpack_from("H", fcntl.ioctl(sock, 0x8913, request), 16)[0]
            except OSError:
                continue  # preconditions has said it
        if not flags & up:
            yield Finding(name, FAIL, "the interface is down", f"ip link set {network.interface} up")
        elif not flags & running:
            yield Finding(
                name, WARN, "no carrier: cable, switch port, or nothing on the bridge yet", "ip link; ethtool"
            )
        else:
            yield Finding(name, PASS, f"up, {network.server} for {network.cidr}")


def tools(table: dict[str, tuple[str, str]]) -> Check:
    """Programs on PATH, by package."""

    def programs(settings: Settings) -> Iterator[Finding]:
        for tool, (package, why) in table.items():
            if _there(tool):
                yield Finding(tool, PASS, why)
            else:
                yield Finding(tool, FAIL, f"not installed ({why})", f"apt install {package}")

    return programs


def image_tools(settings: Settings) -> Iterator[Finding]:
    """What `image build` runs. Without it images can still come from elsewhere (`image add`)."""
    lacking = [tool for tool in LAB_TOOLS if not tool.startswith("qemu") and not _there(tool)]
    if not lacking:
        yield Finding("image build", PASS, "its programs are there")
        return
    packages = " ".join(LAB_TOOLS[tool][0] for tool in lacking)
    yield Finding("image build", WARN, f"lacks {', '.join(lacking)}", f"apt install {packages}")


def _there(tool: str) -> bool:
    return shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is not None


def loaders(settings: Settings) -> Iterator[Finding]:
    """The boot loaders of pxe/loaders.toml are installed and are the ones agreed."""
    from baremetal.serve.loaders import LoaderTree, read_loaders

    tree = LoaderTree(read_loaders())
    missing = tree.missing()
    installed = {file.package for file in tree.table if file.name not in missing}
    boot = {file.name: file for file in tree.table if file.role == "ipxe"}
    for name, file in boot.items():
        if name not in missing:
            yield Finding(f"loader {name}", PASS, f"{file.arch}: {file.path}")
        elif file.arch in ("bios", "uefi-x64"):
            yield Finding(f"loader {name}", FAIL, f"no {file.arch} machine can boot: {missing[name]}", file.hint)
        else:
            fix = f"this release's package {file.package} has none: put the file at {file.path}"
            fix = fix if file.package and file.package in installed else file.hint
            yield Finding(f"loader {name}", SKIP, f"no {file.arch} machine can boot: not installed", fix)


def certificates(settings: Settings) -> Iterator[Finding]:
    """The server certificate is valid for every address that nodes will use."""
    from baremetal.serve import tls

    if not (settings.tls_dir / "server.pem").exists():
        return
    names = tls.server_names(settings.tls_dir)
    absent = [n.server for n in settings.networks if n.server not in names]
    if absent:
        yield Finding(
            "certificate", FAIL, f"not valid for {', '.join(absent)}: agents will refuse it", "baremetal init"
        )
    else:
        yield Finding("certificate", PASS, "valid for the server's addresses")
    for path in (*settings.keys_dir.glob("*.key"), *settings.keys_dir.glob("*.pem"), *settings.tls_dir.glob("*.key")):
        if path.stat().st_mode & 0o077:
            yield Finding("key files", FAIL, f"{path} can be read by others", f"chmod 600 {path}")


def open_ports(settings: Settings) -> Iterator[Finding]:
    """Nobody else has our ports (our own running server does not count)."""
    wanted = [
        ("udp", settings.dhcp_port, "DHCP"),
        ("udp", settings.tftp_port, "TFTP"),
        ("tcp", settings.http_port, "HTTP"),
        ("tcp", settings.https_port, "HTTPS"),
    ]
    for protocol, port, what in wanted:
        who = ports.holder(protocol, port)
        name = f"{what} port {port}"
        if who is None:
            yield Finding(name, PASS, "free")
        elif serving(settings):
            yield Finding(name, PASS, f"ours: {who}")
        else:
            yield Finding(name, FAIL, f"taken by {who}", f"{ports.way_out(who)}, or set another port")


def serving(settings: Settings) -> bool:
    """Our server runs: its API socket answers."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(2)
        sock.connect(str(settings.api_socket))
        return True
    return False


def loader_by_tftp(settings: Settings) -> Iterator[Finding]:
    """When the server runs: fetch a loader as firmware would, with tftpy's client, and compare it."""
    if not serving(settings):
        yield Finding("loader by TFTP", SKIP, "the server does not run")
        return
    from baremetal.serve.loaders import LoaderTree, read_loaders

    tree = LoaderTree(read_loaders())
    absent = tree.missing()
    file = next((f for f in tree.table if f.role == "ipxe" and f.name not in absent), None)
    for network in settings.networks if file else ():
        assert file is not None
        same, seconds = fetch_by_tftp(network.server, settings.tftp_port, file.name, tree.get(file.name))
        name = f"loader by TFTP, {network.name}"
        if same:
            yield Finding(name, PASS, f"{file.name} in {seconds * 1000:.0f} ms, byte for byte")
        else:
            yield Finding(
                name, FAIL, f"{file.name} does not arrive whole", "see the server's log: journalctl -u baremetal"
            )


def fetch_by_tftp(server: str, port: int, name: str, original: bytes | Path | None) -> tuple[bool, float]:
    """Fetch `name` and compare it with what is served under it; the time it took in seconds."""
    data, seconds = probes.fetch_by_tftp(server, port, name)
    wanted = original.read_bytes() if isinstance(original, Path) else original
    return data is not None and data == wanted, seconds


def space(settings: Settings) -> Iterator[Finding]:
    """Room for images and journals."""
    for name, path in (("state_dir", settings.state_dir), ("cache_dir", settings.cache_dir)):
        place = next((p for p in (path, *path.parents) if p.exists()), Path("/"))
        free = shutil.disk_usage(place).free
        if free < LOW_SPACE:
            yield Finding(f"space in {name}", WARN, f"{free / GIB:.1f} GiB free in {place}", "free some, or move it")
        else:
            yield Finding(f"space in {name}", PASS, f"{free / GIB:.0f} GiB free in {place}")


def clock(settings: Settings) -> Iterator[Finding]:
    """Nonces and certificates need a clock that is roughly right."""
    if time.time() < probes.OLDEST_CLOCK:
        yield Finding("clock", FAIL, f"it is {time.strftime('%Y-%m-%d')} here", "timedatectl set-ntp true")
    else:
        kept = "" if probes.clock_is_kept() else "; nothing keeps it right: timedatectl set-ntp true"
        yield Finding("clock", PASS, time.strftime("%Y-%m-%d %H:%M:%S %Z") + kept)


def rival_dhcp(settings: Settings) -> Iterator[Finding]:
    """Does another DHCP server answer on our networks? Asks once, with a made-up MAC, and never takes a lease."""
    if preflight.NET_RAW not in preflight.capabilities():
        yield Finding("rival DHCP", SKIP, "needs root", "sudo baremetal doctor")
        return
    for network in settings.networks:
        yield from _rival(network)


def _rival(network: Network) -> Iterator[Finding]:
    from baremetal.serve.rivals import probe

    rivals = [address for address in probe(network.interface) if address != network.server]
    name = f"rival DHCP on {network.name}"
    if rivals and not network.proxy:
        yield Finding(
            name, FAIL, f"{', '.join(rivals)} answers there", "switch it off there, or serve beside it: proxy = true"
        )
    else:
        yield Finding(name, PASS, f"{', '.join(rivals)} (proxy)" if rivals else "nobody else answers")
